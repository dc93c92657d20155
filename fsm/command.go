package fsm

// Kind numbers a command in the log. Numbers are for ever: a kind that goes away leaves a hole.
type Kind uint8

// kindIgnorable marks kinds that an older node may skip; every other unknown kind halts it.
const kindIgnorable Kind = 0x80

const commandVersion = 1

// Command is one state change as it stands in the log. Implementations are plain structs of this package with integer CBOR keys, and the
// busiest are flat there (flatCommand);
// apply runs on every replica and may depend on nothing but the State and the command itself.
type Command interface {
	kind() Kind
	apply(s *State) Result
}

const (
	kindTermStart Kind = iota + 1
	kindTick
	kindPutNode
	kindMarkLeaving
	kindOpenSession
	kindRenewSessions
	kindCloseSession
	kindExpireSession
	kindAcquireLock
	kindReleaseLock
	kindCancelTicket
	kindClaimTicket
	kindPutService
	kindDeleteService
	kindRegisterInstance
	kindSetInstanceReady
	kindDrainInstance
	kindReportPhase
	kindFinishInstance
	kindPutMapping
	kindDeleteMapping
	kindEnqueueEvents
	kindSettleEvents
	kindFailEvents
	kindBuryEvents
	kindStartPass
	kindCheckpointPass
	kindFinishPass
	kindCancelPass
	kindDowngradeLock
	kindHandOffLock
	kindForceReleaseLock
	kindRevokeLock
	kindSetLockValue
	kindPauseInstance
	kindResumeInstance
	kindUndoDrain
	kindReportConnections
	kindAdoptInstance
	kindNewPlan
	kindStartPlan
	kindPausePlan
	kindResumePlan
	kindCancelPlan
	kindNewCleanup
	kindCheckpointCleanup
	kindCancelCleanup
	kindPrepareEvents
	kindSubmitPrepared
	kindCancelPrepared
	kindProbePrepared
	kindPauseOutbox
	kindResumeOutbox
	kindReplayEvents
	kindDiscardEvents
	kindObserveStore
	kindCheckpointKeys
	kindHoldPass
	kindApprovePass
	kindPausePass
	kindResumePass
	kindPutSchedule
	kindDeleteSchedule
)

type kindInfo struct {
	name   string
	decode func([]byte) (Command, error)
}

// kinds is the one table of what can stand in the log.
var kinds = [256]kindInfo{
	kindTermStart:     {"TermStart", decodeAs[TermStart]},
	kindTick:          {"Tick", decodeAs[Tick]},
	kindPutNode:       {"PutNode", decodeAs[PutNode]},
	kindMarkLeaving:   {"MarkLeaving", decodeAs[MarkLeaving]},
	kindOpenSession:   {"OpenSession", decodeAs[OpenSession]},
	kindRenewSessions: {"RenewSessions", decodeAs[RenewSessions]},
	kindCloseSession:  {"CloseSession", decodeAs[CloseSession]},
	kindExpireSession: {"ExpireSession", decodeAs[ExpireSession]},
	kindAcquireLock:   {"AcquireLock", decodeAcquireLock},
	kindReleaseLock:   {"ReleaseLock", decodeReleaseLock},
	kindCancelTicket:  {"CancelTicket", decodeAs[CancelTicket]},
	kindClaimTicket:   {"ClaimTicket", decodeAs[ClaimTicket]},

	kindDowngradeLock:    {"DowngradeLock", decodeAs[DowngradeLock]},
	kindHandOffLock:      {"HandOffLock", decodeAs[HandOffLock]},
	kindForceReleaseLock: {"ForceReleaseLock", decodeAs[ForceReleaseLock]},
	kindRevokeLock:       {"RevokeLock", decodeAs[RevokeLock]},
	kindSetLockValue:     {"SetLockValue", decodeAs[SetLockValue]},

	kindPutService:       {"PutService", decodeAs[PutService]},
	kindDeleteService:    {"DeleteService", decodeAs[DeleteService]},
	kindRegisterInstance: {"RegisterInstance", decodeAs[RegisterInstance]},
	kindSetInstanceReady: {"SetInstanceReady", decodeAs[SetInstanceReady]},
	kindDrainInstance:    {"DrainInstance", decodeAs[DrainInstance]},
	kindReportPhase:      {"ReportPhase", decodeAs[ReportPhase]},
	kindFinishInstance:   {"FinishInstance", decodeAs[FinishInstance]},

	kindPauseInstance:     {"PauseInstance", decodeAs[PauseInstance]},
	kindResumeInstance:    {"ResumeInstance", decodeAs[ResumeInstance]},
	kindUndoDrain:         {"UndoDrain", decodeAs[UndoDrain]},
	kindReportConnections: {"ReportConnections", decodeAs[ReportConnections]},
	kindAdoptInstance:     {"AdoptInstance", decodeAs[AdoptInstance]},

	kindNewPlan:    {"NewPlan", decodeAs[NewPlan]},
	kindStartPlan:  {"StartPlan", decodeAs[StartPlan]},
	kindPausePlan:  {"PausePlan", decodeAs[PausePlan]},
	kindResumePlan: {"ResumePlan", decodeAs[ResumePlan]},
	kindCancelPlan: {"CancelPlan", decodeAs[CancelPlan]},

	kindNewCleanup:        {"NewCleanup", decodeAs[NewCleanup]},
	kindCheckpointCleanup: {"CheckpointCleanup", decodeAs[CheckpointCleanup]},
	kindCancelCleanup:     {"CancelCleanup", decodeAs[CancelCleanup]},

	kindPutMapping:    {"PutMapping", decodeAs[PutMapping]},
	kindDeleteMapping: {"DeleteMapping", decodeAs[DeleteMapping]},
	kindEnqueueEvents: {"EnqueueEvents", decodeAs[EnqueueEvents]},
	kindSettleEvents:  {"SettleEvents", decodeAs[SettleEvents]},
	kindFailEvents:    {"FailEvents", decodeAs[FailEvents]},
	kindBuryEvents:    {"BuryEvents", decodeAs[BuryEvents]},

	kindPrepareEvents:  {"PrepareEvents", decodeAs[PrepareEvents]},
	kindSubmitPrepared: {"SubmitPrepared", decodeAs[SubmitPrepared]},
	kindCancelPrepared: {"CancelPrepared", decodeAs[CancelPrepared]},
	kindProbePrepared:  {"ProbePrepared", decodeAs[ProbePrepared]},
	kindPauseOutbox:    {"PauseOutbox", decodeAs[PauseOutbox]},
	kindResumeOutbox:   {"ResumeOutbox", decodeAs[ResumeOutbox]},
	kindReplayEvents:   {"ReplayEvents", decodeAs[ReplayEvents]},
	kindDiscardEvents:  {"DiscardEvents", decodeAs[DiscardEvents]},
	kindObserveStore:   {"ObserveStore", decodeAs[ObserveStore]},

	kindStartPass:      {"StartPass", decodeAs[StartPass]},
	kindCheckpointPass: {"CheckpointPass", decodeAs[CheckpointPass]},
	kindFinishPass:     {"FinishPass", decodeAs[FinishPass]},
	kindCancelPass:     {"CancelPass", decodeAs[CancelPass]},
	kindCheckpointKeys: {"CheckpointKeys", decodeAs[CheckpointKeys]},
	kindHoldPass:       {"HoldPass", decodeAs[HoldPass]},
	kindApprovePass:    {"ApprovePass", decodeAs[ApprovePass]},
	kindPausePass:      {"PausePass", decodeAs[PausePass]},
	kindResumePass:     {"ResumePass", decodeAs[ResumePass]},
	kindPutSchedule:    {"PutSchedule", decodeAs[PutSchedule]},
	kindDeleteSchedule: {"DeleteSchedule", decodeAs[DeleteSchedule]},
}

// Tick carries nothing but the time of its entry: it lets deadlines pass when no other command comes.
type Tick struct{}

func (Tick) kind() Kind            { return kindTick }
func (Tick) apply(s *State) Result { return Result{} }

// ignored stands for a command of a newer version that says of itself that it may be skipped.
type ignored struct{ Kind Kind }

func (c ignored) kind() Kind            { return c.Kind }
func (c ignored) apply(s *State) Result { return Result{} }
