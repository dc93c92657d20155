package api

// Plan intents.
const (
	PlanRestart  = "restart"
	PlanShutdown = "shutdown"
)

// Plan states. A plan ends as succeeded, failed or cancelled.
const (
	PlanDraft     = "draft"
	PlanRunning   = "running"
	PlanPaused    = "paused"
	PlanSucceeded = "succeeded"
	PlanFailed    = "failed"
	PlanCancelled = "cancelled"
)

// States of one instance in a plan.
const (
	TargetPending  = "pending"
	TargetQueued   = "queued"   // asked, without a grant yet
	TargetDraining = "draining" // granted
	TargetWaiting  = "waiting"  // it left; its successor is not settled yet
	TargetDone     = "done"
	TargetUndone   = "undone"  // somebody undid the drain: the plan leaves it alone
	TargetSkipped  = "skipped" // it was gone before its turn
	TargetFailed   = "failed"  // lost or forced, or no successor came in time
)

// NewPlan describes a plan. It is a draft until it is started.
type NewPlan struct {
	PlanRules
	Start  bool `json:"start,omitempty" doc:"At once"`
	DryRun bool `json:"dry_run,omitempty" doc:"Answer the schedule and what it may take; nothing is created"`
}

// PlanRules is what a plan is to do.
type PlanRules struct {
	Intent        string   `json:"intent" enum:"restart,shutdown"`
	Services      []string `json:"services" minItems:"1" maxItems:"16" doc:"In any order: the plan follows depends_on, and answers its own order"`
	AllowZero     bool     `json:"allow_zero,omitempty" doc:"A shutdown leaves nobody: it must be said. The budget does not hold for a service while such a plan stops it"`
	Canary        uint32   `json:"canary,omitempty" maximum:"1000" doc:"So many instances of each service first"`
	CanaryPercent uint32   `json:"canary_percent,omitempty" maximum:"100" doc:"Rounded up"`
	Wave          uint32   `json:"wave,omitempty" maximum:"1000" doc:"So many at a time, and the next when all are through; 0: as many as the budget allows, without waiting for the slowest"`
	WavePercent   uint32   `json:"wave_percent,omitempty" maximum:"100" doc:"Rounded up"`
	ObserveMs     uint64   `json:"observe_ms,omitempty" maximum:"86400000" doc:"Watch so long after the canary, and go on if nothing was lost"`
	PauseAfter    bool     `json:"pause_after_canary,omitempty" doc:"After the observation, wait to be resumed"`
	HaltAfter     uint32   `json:"halt_after,omitempty" maximum:"1000" doc:"The plan fails when so many instances of a service were lost or forced, or had no successor; 1 when 0"`
	DeadlineMs    uint64   `json:"deadline_ms,omitempty" maximum:"604800000" doc:"The plan fails when it is not over so long after its start; 0: none"`
	Reason        string   `json:"reason,omitempty" maxLength:"256"`
}

// PlanWish is the body of start, pause, resume and cancel.
type PlanWish struct {
	Reason string `json:"reason,omitempty" maxLength:"256"`
	Failed bool   `json:"failed,omitempty" doc:"Of cancel: because a check failed. The plan ends as failed"`
}

// Plan is a plan and how far it is.
type Plan struct {
	ID uint64 `json:"id,omitempty"`
	PlanRules
	State              string     `json:"state"`
	Why                string     `json:"why,omitempty" doc:"Why it is paused or has ended, or what it waits for"`
	Steps              []PlanStep `json:"steps" doc:"One for each service, in order"`
	Step               int        `json:"step" doc:"The one that is under way, from 0"`
	Stage              string     `json:"stage,omitempty" enum:",canary,observing,waves" doc:"Of the step under way"`
	Failures           int        `json:"failures"`
	Done               int        `json:"done" doc:"Instances that are through"`
	Total              int        `json:"total"`
	AgeMs              uint64     `json:"age_ms" doc:"Since it was created"`
	RunsForMs          uint64     `json:"runs_for_ms,omitempty" doc:"From its start to its end, or till now"`
	ObserveRemainingMs uint64     `json:"observe_remaining_ms,omitempty"`
	DeadlineInMs       uint64     `json:"deadline_in_ms,omitempty"`
	Estimate           *Estimate  `json:"estimate,omitempty" doc:"Of a dry run and of a draft"`
	Index              uint64     `json:"index"`
}

// PlanStatus answers the commands of a plan.
type PlanStatus struct {
	ID    uint64 `json:"id,omitempty"`
	State string `json:"state"`
	Plan  *Plan  `json:"plan,omitempty" doc:"Of a dry run: the schedule"`
}

// PlanStep is one service of a plan.
type PlanStep struct {
	Service string       `json:"service"`
	State   string       `json:"state" enum:"pending,running,done"`
	Canary  int          `json:"canary,omitempty" doc:"How many of the targets come first"`
	Wave    int          `json:"wave,omitempty" doc:"At a time; 0: as the budget allows"`
	Targets []PlanTarget `json:"targets,omitempty" doc:"Those that were live when the step began, in the order of their turn; only when one plan is asked for"`
}

// PlanTarget is one instance of a step.
type PlanTarget struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	State     string `json:"state" enum:"pending,queued,draining,waiting,done,undone,skipped,failed"`
	Successor string `json:"successor,omitempty" doc:"Id of the instance that took its place"`
	Why       string `json:"why,omitempty"`
}

// Estimate is what a plan may take.
type Estimate struct {
	WorstMs  uint64         `json:"worst_ms" doc:"If every drain and every restart takes as long as the longest that is on record, or its limit where none is"`
	Services []StepEstimate `json:"services"`
}

// StepEstimate is the share of one service.
type StepEstimate struct {
	Service   string `json:"service"`
	Instances int    `json:"instances"`
	AtATime   int    `json:"at_a_time"`
	Rounds    int    `json:"rounds"`
	DrainMs   uint64 `json:"drain_ms" doc:"Taken for each drain"`
	RestartMs uint64 `json:"restart_ms,omitempty" doc:"Taken for each restart"`
	OnRecord  int    `json:"on_record" doc:"Drains that the figures rest on; 0: on the limits"`
	WorstMs   uint64 `json:"worst_ms"`
}

// Plans is a page of plans, without the targets.
type Plans struct {
	Page
	Plans []Plan `json:"plans"`
}
