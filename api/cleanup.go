package api

// Cleanup states. A cleanup ends as done, stopped, cancelled or failed.
const (
	CleanupWaiting   = "waiting" // for its time, and for the last instance to leave
	CleanupRunning   = "running"
	CleanupDone      = "done"
	CleanupStopped   = "stopped" // somebody who declares an overlapping pattern has registered
	CleanupCancelled = "cancelled"
	CleanupFailed    = "failed"
)

// NewCleanup asks for the removal of cache keys.
type NewCleanup struct {
	Target   string   `json:"target" pattern:"^[a-z0-9][a-z0-9._-]{0,62}$"`
	Patterns []string `json:"patterns" minItems:"1" maxItems:"16" doc:"As in Redis SCAN MATCH, up to 256 bytes, with at least 2 literal bytes before the first of *?[\\"`
	DelayMs  uint64   `json:"delay_ms,omitempty" maximum:"86400000"`
	DryRun   bool     `json:"dry_run,omitempty" doc:"Count the keys and remove none"`
	Reason   string   `json:"reason,omitempty" maxLength:"256"`
}

// CleanupID answers it.
type CleanupID struct {
	ID uint64 `json:"id"`
}

// Cleanup is a removal of cache keys and how far it is.
type Cleanup struct {
	ID       uint64   `json:"id"`
	Target   string   `json:"target"`
	Patterns []string `json:"patterns"`
	Service  string   `json:"service,omitempty" doc:"Whose last instance left; absent when an operator asked"`
	DryRun   bool     `json:"dry_run,omitempty"`
	Reason   string   `json:"reason,omitempty"`
	State    string   `json:"state" enum:"waiting,running,done,stopped,cancelled,failed"`
	Why      string   `json:"why,omitempty" doc:"Why it was stopped or failed"`
	DueInMs  uint64   `json:"due_in_ms,omitempty"`
	Pattern  int      `json:"pattern" doc:"The pattern that is under way, from 0"`
	Scanned  uint64   `json:"scanned" doc:"Keys looked at"`
	Matched  uint64   `json:"matched"`
	Removed  uint64   `json:"removed"`
	Samples  []string `json:"samples,omitempty" doc:"Some of the keys, at most 10"`
	AgeMs    uint64   `json:"age_ms"`
	Index    uint64   `json:"index"`
}

// Cleanups is a page of cleanups.
type Cleanups struct {
	Page
	Cleanups []Cleanup `json:"cleanups"`
}
