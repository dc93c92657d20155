package fsm

// Code names a refusal. The strings are those of the HTTP contract. Empty means applied.
type Code string

const (
	CodeSessionNotFound  Code = "session_not_found"
	CodeSessionExists    Code = "session_exists"
	CodeLockHeld         Code = "lock_held"
	CodeNotHolder        Code = "not_holder"
	CodeTicketNotFound   Code = "ticket_not_found"
	CodeTicketEnded      Code = "ticket_ended"
	CodeLimitMismatch    Code = "limit_mismatch"
	CodeReentrancyLimit  Code = "reentrancy_limit"
	CodeNoSuccessor      Code = "no_successor"
	CodeKeyReused        Code = "idempotency_key_reused"
	CodeKeyAcknowledged  Code = "idempotency_key_acknowledged" // its result was seen and forgotten: a late copy must not run again
	CodeKeysOutstanding  Code = "idempotency_keys_outstanding"
	CodeSessionsFull     Code = "sessions_full"
	CodeLocksFull        Code = "locks_full"
	CodeTicketsFull      Code = "tickets_full"
	CodeNodesFull        Code = "nodes_full"
	CodeInvalid          Code = "invalid"
	CodeVersionMismatch  Code = "version_mismatch"
	CodeServiceNotFound  Code = "service_not_found"
	CodeServiceInUse     Code = "service_in_use"
	CodeServicesFull     Code = "services_full"
	CodeInstanceNotFound Code = "instance_not_found"
	CodeInstancesFull    Code = "instances_full"
	CodeStaleIncarnation Code = "stale_incarnation"
	CodeInstanceState    Code = "instance_state" // not allowed in the instance's present state
	CodeBudgetExhausted  Code = "budget_exhausted"
	CodeNotUndoable      Code = "not_undoable"
	CodeDependencyCycle  Code = "dependency_cycle"
	CodePlanNotFound     Code = "plan_not_found"
	CodePlanState        Code = "plan_state" // not allowed in the plan's present state
	CodePlanRunning      Code = "plan_running"
	CodePlansFull        Code = "plans_full"
	CodeZeroNotAllowed   Code = "zero_not_allowed"
	CodeCleanupNotFound  Code = "cleanup_not_found"
	CodeCleanupEnded     Code = "cleanup_ended"
	CodeCleanupsFull     Code = "cleanups_full"
	CodePreparedNotFound Code = "prepared_not_found"
	CodePausesFull       Code = "pauses_full"
	CodeStoresFull       Code = "stores_full"
	CodePatternInUse     Code = "pattern_in_use"
	CodeMappingNotFound  Code = "mapping_not_found"
	CodeMappingInUse     Code = "mapping_in_use"
	CodeMappingsFull     Code = "mappings_full"
	CodePlaceUnknown     Code = "place_unknown" // a voter lacks the source or target
	CodeOutboxFull       Code = "outbox_full"
	CodePassNotFound     Code = "pass_not_found"
	CodePassRunning      Code = "pass_running"
	CodePassEnded        Code = "pass_ended"
	CodePassHeld         Code = "pass_held"     // it asks for an approval
	CodePassNotHeld      Code = "pass_not_held" // it asks for none
	CodeScheduleNotFound Code = "schedule_not_found"
	CodeStaleTerm        Code = "stale_term"       // an expiry proposed by a leader that no longer is
	CodeStaleGeneration  Code = "stale_generation" // the lease was renewed in the log after the expiry was proposed
)

// Result is the answer to one command. Each capability has one pointer of its own, so that a stored result stays typed.
type Result struct {
	Code   Code   `cbor:"1,keyasint,omitempty" json:",omitempty"`
	Detail string `cbor:"2,keyasint,omitempty" json:",omitempty"` // what was refused and why, for a person
	Index  uint64 `cbor:"3,keyasint,omitempty" json:",omitempty"` // revision after the command

	Session  *SessionResult  `cbor:"10,keyasint,omitempty" json:",omitempty"`
	Lock     *LockResult     `cbor:"11,keyasint,omitempty" json:",omitempty"`
	Service  *ServiceResult  `cbor:"12,keyasint,omitempty" json:",omitempty"`
	Instance *InstanceResult `cbor:"13,keyasint,omitempty" json:",omitempty"`
	Mapping  *MappingResult  `cbor:"14,keyasint,omitempty" json:",omitempty"`
	Outbox   *OutboxResult   `cbor:"15,keyasint,omitempty" json:",omitempty"`
	Pass     *PassResult     `cbor:"16,keyasint,omitempty" json:",omitempty"`
	Plan     *PlanResult     `cbor:"17,keyasint,omitempty" json:",omitempty"`
	Cleanup  *CleanupResult  `cbor:"18,keyasint,omitempty" json:",omitempty"`
	Prepared *PreparedResult `cbor:"19,keyasint,omitempty" json:",omitempty"`
	Schedule *ScheduleResult `cbor:"20,keyasint,omitempty" json:",omitempty"`
}

// Refused tells whether the command changed nothing because a rule forbade it.
func (r Result) Refused() bool { return r.Code != "" }

func refuse(code Code, detail string) Result { return Result{Code: code, Detail: detail} }
