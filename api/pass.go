package api

// Pass modes.
const (
	PassDryRun  = "dry_run"
	PassRewrite = "rewrite"
)

// StartPass begins a reconciliation run over a mapping.
type StartPass struct {
	Mapping        string `json:"mapping" pattern:"^[a-z0-9][a-z0-9._-]{0,62}$"`
	Mode           string `json:"mode,omitempty" enum:"dry_run,rewrite" default:"dry_run"`
	Cap            uint64 `json:"cap,omitempty" maximum:"9007199254740991" doc:"Repairs at most; 0 for 10,000"`
	ConfirmDelayMs uint64 `json:"confirm_delay_ms,omitempty" maximum:"86400000" doc:"A difference must outlast this before it counts; 0 for 1 s"`
}

// What StartPass means by 0.
const (
	PassCapDefault       = 10_000
	PassConfirmDefaultMs = 1_000
)

// PassStarted answers it.
type PassStarted struct {
	ID uint64 `json:"id"`
}

// Pass is a reconciliation run.
type Pass struct {
	ID             uint64     `json:"id"`
	Mapping        string     `json:"mapping"`
	Revision       uint64     `json:"revision" doc:"Of the mapping when the pass began"`
	Mode           string     `json:"mode"`
	State          string     `json:"state" enum:"running,done,failed,cancelled"`
	Cap            uint64     `json:"cap"`
	ConfirmDelayMs uint64     `json:"confirm_delay_ms"`
	Cursor         string     `json:"cursor,omitempty" doc:"Last compared row key"`
	Counts         PassCounts `json:"counts"`
	Expected       PassDigest `json:"expected" doc:"What the table says"`
	Actual         PassDigest `json:"actual" doc:"What the cache holds"`
	AgeMs          uint64     `json:"age_ms"`
	TookMs         uint64     `json:"took_ms,omitempty"`
	Reason         string     `json:"reason,omitempty" doc:"Why it failed"`
	Index          uint64     `json:"index" doc:"Revision of its last change"`
}

// PassCounts are rows by verdict.
type PassCounts struct {
	Rows        uint64 `json:"rows"`
	Equal       uint64 `json:"equal"`
	FormatOnly  uint64 `json:"format_only"`
	Hot         uint64 `json:"hot" doc:"Differed while a change was on its way: no verdict"`
	Stale       uint64 `json:"stale"`
	Missing     uint64 `json:"missing"`
	WrongType   uint64 `json:"wrong_type"`
	NoTTL       uint64 `json:"no_ttl"`
	Repaired    uint64 `json:"repaired"`
	Differences uint64 `json:"differences" doc:"Confirmed ones, the sum of their classes"`
}

// PassDigest is an order-free digest over rows.
type PassDigest struct {
	Count  uint64 `json:"count"`
	Digest string `json:"digest" doc:"32 hexadecimal digits"`
}

// Passes is a page of passes.
type Passes struct {
	Page
	Passes []Pass `json:"passes"`
}

// Differences are samples of what a pass found.
type Differences struct {
	Index       uint64       `json:"index"`
	Differences []Difference `json:"differences" doc:"At most 100"`
	Total       uint64       `json:"total" doc:"Confirmed differences, shown or not"`
}

// Difference is one confirmed difference.
type Difference struct {
	PK       []string `json:"pk" doc:"In canonical form"`
	Key      string   `json:"key"`
	Class    string   `json:"class"`
	Expected string   `json:"expected,omitempty" doc:"Cut short"`
	Actual   string   `json:"actual,omitempty" doc:"Cut short"`
}
