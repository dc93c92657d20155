package api

import "encoding/json"

// Pass modes.
const (
	PassDryRun     = "dry_run"
	PassInvalidate = "invalidate"
	PassRewrite    = "rewrite"
)

// Pass states. The last three are its end.
const (
	PassRunning   = "running"
	PassPaused    = "paused"
	PassHeld      = "held"
	PassDone      = "done"
	PassFailed    = "failed"
	PassCancelled = "cancelled"
)

// Phases of a pass.
const (
	PassPhaseRows = "rows"
	PassPhaseKeys = "keys"
)

// What a held pass asks for.
const (
	HoldCap    = "cap"
	HoldExtras = "extras"
)

// ClassExtra is the class of a key without a row. The other classes of differences are the verdicts on a key, and unverified.
const (
	ClassExtra      = "extra"
	ClassUnverified = "unverified" // of a mapping that only invalidates: nobody can vouch for the value
)

// PassOptions are what a pass is asked to do.
type PassOptions struct {
	Mode           string     `json:"mode,omitempty" enum:"dry_run,invalidate,rewrite" default:"dry_run" doc:"dry_run reports differences; invalidate has their keys removed; rewrite has them written anew"`
	Range          *PassRange `json:"range,omitempty" doc:"Only rows from here to there"`
	Sample         float64    `json:"sample,omitempty" minimum:"0" maximum:"1" doc:"Share of the rows that are looked at, at random; 0 and 1 are all"`
	Extras         bool       `json:"extras,omitempty" doc:"After the rows, look for keys without a row. Needs owns_prefix of the mapping, and goes with neither range nor sample"`
	FillMissing    bool       `json:"fill_missing,omitempty" doc:"Write keys that are absent and may be, too. Needs rewrite; what was absent does not count for the cap"`
	Cap            *uint64    `json:"cap,omitempty" maximum:"9007199254740991" doc:"Repairs without another word; without it 1,000, or cap_percent of the rows if that is more"`
	CapPercent     *uint64    `json:"cap_percent,omitempty" maximum:"100" doc:"Of the rows compared so far; 1 without both, 0 with a cap"`
	ConfirmDelayMs uint64     `json:"confirm_delay_ms,omitempty" maximum:"86400000" doc:"A difference must outlast this before it counts; 0 for 1 s"`
	Rate           uint64     `json:"rate,omitempty" maximum:"9007199254740991" doc:"Rows, or keys, a second at most; 0: as many as the load allows"`
}

// PassRange is a part of a table in the order of its primary key.
type PassRange struct {
	From []json.RawMessage `json:"from,omitempty" minItems:"1" maxItems:"16" doc:"First primary key; without it the table's first"`
	To   []json.RawMessage `json:"to,omitempty" minItems:"1" maxItems:"16" doc:"First primary key that is not looked at any more; without it none"`
}

// What PassOptions means by nothing.
const (
	PassCapDefault        = 1_000
	PassCapPercentDefault = 1
	PassConfirmDefaultMs  = 1_000
)

// StartPass begins a reconciliation run over a mapping.
type StartPass struct {
	Mapping string `json:"mapping" pattern:"^[a-z0-9][a-z0-9._-]{0,62}$"`
	PassOptions
}

// PassStarted answers it.
type PassStarted struct {
	ID uint64 `json:"id"`
}

// ApprovePass lets a held pass go on.
type ApprovePass struct {
	Limit uint64 `json:"limit,omitempty" maximum:"9007199254740991" doc:"Repairs in all, or extra keys that may be removed. 0: as much again, or as many as were found"`
}

// Pass is a reconciliation run.
type Pass struct {
	ID             uint64        `json:"id"`
	Mapping        string        `json:"mapping"`
	Revision       uint64        `json:"revision" doc:"Of the mapping when the pass began"`
	Mode           string        `json:"mode"`
	State          string        `json:"state" enum:"running,paused,held,done,failed,cancelled"`
	Phase          string        `json:"phase" enum:"rows,keys" doc:"What it goes, or went last, over"`
	Hold           string        `json:"hold,omitempty" enum:"cap,extras" doc:"What a held pass asks for"`
	Reason         string        `json:"reason,omitempty" doc:"Why it failed or is held: a sentence"`
	Range          *PassRange    `json:"range,omitempty"`
	Sample         float64       `json:"sample,omitempty"`
	Extras         bool          `json:"extras,omitempty"`
	FillMissing    bool          `json:"fill_missing,omitempty"`
	Cap            uint64        `json:"cap"`
	CapPercent     uint64        `json:"cap_percent,omitempty"`
	Allowance      uint64        `json:"allowance" doc:"Repairs that it may have made so far without another word"`
	Removals       uint64        `json:"removals,omitempty" doc:"Extra keys whose removal was approved"`
	ConfirmDelayMs uint64        `json:"confirm_delay_ms"`
	Rate           uint64        `json:"rate,omitempty"`
	Slot           string        `json:"slot,omitempty" format:"date-time" doc:"Of the schedule that began it"`
	Cause          string        `json:"cause,omitempty" doc:"Of the doubt for which the cluster began it by itself"`
	Cursor         string        `json:"cursor,omitempty" doc:"Last compared row key"`
	Estimate       uint64        `json:"estimate,omitempty" doc:"Rows that it was thought to have to look at when it began"`
	Percent        float64       `json:"percent,omitempty" doc:"Of that, what it has looked at"`
	Counts         PassCounts    `json:"counts"`
	Filled         uint64        `json:"filled,omitempty" doc:"Of the repairs, those of keys that were absent"`
	Keys           *PassKeys     `json:"keys,omitempty" doc:"Of the second phase"`
	Bound          *PassBound    `json:"bound,omitempty" doc:"Of a sample: what it says about all rows"`
	Expected       PassDigest    `json:"expected" doc:"What the table says"`
	Actual         PassDigest    `json:"actual" doc:"What the cache holds"`
	Progress       *PassProgress `json:"progress,omitempty" doc:"While it runs"`
	AgeMs          uint64        `json:"age_ms"`
	TookMs         uint64        `json:"took_ms,omitempty"`
	Index          uint64        `json:"index" doc:"Revision of its last change"`
}

// PassProgress is what a pass does at this moment, as the leader knows it.
type PassProgress struct {
	RowsPerSecond float64 `json:"rows_per_second"`
	ETAMs         uint64  `json:"eta_ms,omitempty" doc:"Until the phase ends, 0 when that is unknown"`
	Waiting       string  `json:"waiting,omitempty" doc:"What it waits for, such as target_unreachable or confirming"`
	Throttled     string  `json:"throttled,omitempty" doc:"Why it stands still by itself, such as threads_running 31 > 25"`
	Open          int     `json:"open" doc:"Differences that await confirmation"`
	ChunkRows     int     `json:"chunk_rows"`
}

// PassBound is what a sample says about all rows: with this confidence no larger share of them differs.
type PassBound struct {
	Confidence  float64 `json:"confidence"`
	ShareAtMost float64 `json:"share_at_most"`
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

// PassKeys are keys of the target by what became of them.
type PassKeys struct {
	Looked  uint64 `json:"looked" doc:"That the servers went over, about"`
	Matched uint64 `json:"matched" doc:"That have the form of the mapping's keys"`
	Foreign uint64 `json:"foreign" doc:"Of those, what no row can have: left alone"`
	Hot     uint64 `json:"hot" doc:"Whose row came or went meanwhile, or has a change on its way: no verdict"`
	Extra   uint64 `json:"extra" doc:"Without a row, confirmed"`
	Removed uint64 `json:"removed" doc:"Whose removal was enqueued"`
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

// Difference is one confirmed difference. Values of columns that the mapping masks stand as ***.
type Difference struct {
	PK       []string `json:"pk" doc:"The mapping's key columns, in canonical form"`
	Key      string   `json:"key"`
	Class    string   `json:"class" doc:"stale, missing, wrong_type, no_ttl, unverified or extra"`
	Expected string   `json:"expected,omitempty" doc:"Cut short"`
	Actual   string   `json:"actual,omitempty" doc:"Cut short"`
}
