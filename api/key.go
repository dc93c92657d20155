package api

import "encoding/json"

// CheckKey looks at one row and its cache keys.
type CheckKey struct {
	Mapping string            `json:"mapping" pattern:"^[a-z0-9][a-z0-9._-]{0,62}$"`
	PK      []json.RawMessage `json:"pk" minItems:"1" maxItems:"16" doc:"In the order of the mapping's key columns"`
	Fix     bool              `json:"fix,omitempty" doc:"Enqueue an event if the two differ"`
}

// KeyCheck shows both sides of a row.
type KeyCheck struct {
	Row     *KeyRow     `json:"row" doc:"null: there is no such row"`
	Keys    []CachedKey `json:"keys"`
	Pending *Event      `json:"pending,omitempty" doc:"The event that is under way"`
	Dead    *DeadLetter `json:"dead,omitempty"`
	Fixed   *EventToken `json:"fixed,omitempty"`
}

// Verdicts on a key.
const (
	VerdictEqual      = "equal"
	VerdictFormatOnly = "format_only" // the same value in other bytes
	VerdictStale      = "stale"
	VerdictMissing    = "missing"
	VerdictWrongType  = "wrong_type"
	VerdictNoTTL      = "no_ttl"
)

// KeyRow is the row as it was read on the primary.
type KeyRow struct {
	PK     []string           `json:"pk"`
	Values map[string]*string `json:"values" doc:"Text as the server prints it; null is NULL"`
}

// CachedKey is one key: what it should hold and what it holds. Values are cut at 64 KiB.
type CachedKey struct {
	Key     string     `json:"key"`
	Verdict string     `json:"verdict" enum:"equal,format_only,stale,missing,wrong_type,no_ttl"`
	Want    string     `json:"want,omitempty"`
	Have    string     `json:"have,omitempty"`
	Type    string     `json:"type" doc:"of Redis: none, string, hash, other"`
	TTLMs   int64      `json:"ttl_ms" doc:"-1: none"`
	Guard   *GuardView `json:"guard,omitempty" doc:"absent: there is none"`
}

// GuardView is what protects a key from older writes.
type GuardView struct {
	Key           string `json:"key"`
	Token         uint64 `json:"token,omitempty" doc:"Of the last write"`
	InvalidatedAt uint64 `json:"invalidated_at_ms,omitempty" doc:"Milliseconds of the target's clock"`
	TTLMs         int64  `json:"ttl_ms"`
}

// KeyTimeline is what the leader remembers of a row, the oldest first.
type KeyTimeline struct {
	SinceMs uint64     `json:"since_ms" doc:"How far back the leader remembers anything"`
	Entries []KeyEntry `json:"entries"`
}

// KeyEntry is one delivery of a row.
type KeyEntry struct {
	AgeMs  uint64 `json:"age_ms"`
	What   string `json:"what" enum:"applied,superseded,renewed,failed,dead"`
	Token  uint64 `json:"token,omitempty"`
	Detail string `json:"detail,omitempty"`
}
