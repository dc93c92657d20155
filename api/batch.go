package api

import "encoding/json"

// Operations that can stand in a batch.
const (
	OpOpenSession      = "sessions.open"
	OpCloseSession     = "sessions.close" // id
	OpAcquire          = "locks.acquire"
	OpRelease          = "locks.release"
	OpCancelWait       = "locks.cancel"
	OpDowngrade        = "locks.downgrade"
	OpHandOff          = "locks.handoff"
	OpForceRelease     = "locks.force-release"
	OpRevoke           = "locks.revoke"
	OpCampaign         = "elections.campaign"
	OpProclaim         = "elections.proclaim"
	OpResign           = "elections.resign"
	OpPutService       = "services.put"    // id: the name
	OpDeleteService    = "services.delete" // id: the name
	OpRegisterInstance = "instances.register"
	OpInstanceReady    = "instances.ready"   // id
	OpDrainInstance    = "instances.drain"   // id
	OpReportPhase      = "instances.phase"   // id
	OpInstanceDrained  = "instances.drained" // id
	OpInstanceLeft     = "instances.left"    // id
	OpPauseInstance    = "instances.pause"   // id
	OpResumeInstance   = "instances.resume"  // id
	OpUndoDrain        = "instances.undo"    // id
	OpNewPlan          = "plans.new"
	OpStartPlan        = "plans.start"  // id
	OpPausePlan        = "plans.pause"  // id
	OpResumePlan       = "plans.resume" // id
	OpCancelPlan       = "plans.cancel" // id
	OpNewCleanup       = "cleanups.new"
	OpCancelCleanup    = "cleanups.cancel" // id
	OpPutMapping       = "mappings.put"    // id: the name
	OpDeleteMapping    = "mappings.delete" // id: the name
	OpEnqueue          = "outbox.events"
	OpPrepare          = "outbox.prepare"
	OpSubmitPrepared   = "outbox.submit" // id
	OpCancelPrepared   = "outbox.cancel" // id
	OpPauseOutbox      = "outbox.pause"
	OpResumeOutbox     = "outbox.resume"
	OpStartPass        = "passes.start"
	OpPausePass        = "passes.pause"     // id
	OpResumePass       = "passes.resume"    // id
	OpCancelPass       = "passes.cancel"    // id
	OpApprovePass      = "passes.approve"   // id
	OpPutSchedule      = "schedules.put"    // id: the mapping
	OpDeleteSchedule   = "schedules.delete" // id: the mapping
)

// Batch is a list of operations that go into one entry of the log. It is no transaction: each is applied or refused by itself.
type Batch struct {
	Ops []BatchOp `json:"ops" minItems:"1" maxItems:"1000"`
}

// BatchOp is one operation: what its own endpoint would get in path, headers and body.
type BatchOp struct {
	Op      string          `json:"op" doc:"Such as locks.acquire"`
	ID      string          `json:"id,omitempty" maxLength:"256" doc:"What the endpoint has in its path"`
	Key     string          `json:"key,omitempty" maxLength:"200" doc:"As in Idempotency-Key"`
	Acked   uint64          `json:"acked,omitempty" maximum:"9007199254740991" doc:"As in Idempotency-Acked"`
	IfMatch uint64          `json:"if_match,omitempty" maximum:"9007199254740991" doc:"As in If-Match"`
	Body    json.RawMessage `json:"body,omitempty" doc:"As in the endpoint's body"`
}

// BatchAnswer has one result per operation, in order.
type BatchAnswer struct {
	Results []BatchResult `json:"results"`
}

// BatchResult is what the endpoint would have answered. A waiting acquire answers its ticket, as with status 202.
type BatchResult struct {
	Status  int             `json:"status"`
	Index   uint64          `json:"index,omitempty"`
	Body    json.RawMessage `json:"body,omitempty"`
	Problem *Problem        `json:"problem,omitempty"`
}
