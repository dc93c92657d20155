package api

import "encoding/json"

// EnqueueEvents says that the cache keys of rows may be stale.
type EnqueueEvents struct {
	Events []RowEvent `json:"events" minItems:"1" maxItems:"1000"`
}

// RowEvent names a row: never its values.
type RowEvent struct {
	Mapping string            `json:"mapping" pattern:"^[a-z0-9][a-z0-9._-]{0,62}$"`
	PK      []json.RawMessage `json:"pk" minItems:"1" maxItems:"16" doc:"In primary-key order: text in MySQL's form, or integers below 2^53"`
}

// Enqueued answers in the order of the events.
type Enqueued struct {
	Events []EventToken `json:"events"`
}

// EventToken is the place of an event in the order of all changes.
type EventToken struct {
	Token     uint64 `json:"token"`
	Coalesced bool   `json:"coalesced,omitempty" doc:"Folded into an event of the same row that was still pending"`
}

// WaitEvent waits until an event is delivered.
type WaitEvent struct {
	Mapping string            `json:"mapping" pattern:"^[a-z0-9][a-z0-9._-]{0,62}$"`
	PK      []json.RawMessage `json:"pk" minItems:"1" maxItems:"16"`
	Token   uint64            `json:"token" minimum:"1" maximum:"9007199254740991"`
	WaitMs  uint64            `json:"wait_ms,omitempty" maximum:"60000"`
}

// Event states.
const (
	EventDone    = "done"
	EventPending = "pending"
	EventDead    = "dead"
	EventUnknown = "unknown"
)

// EventState answers WaitEvent.
type EventState struct {
	State string `json:"state" enum:"done,pending,dead,unknown"`
}

// Event is a pending event.
type Event struct {
	Mapping  string   `json:"mapping"`
	PK       []string `json:"pk" doc:"In canonical form"`
	Token    uint64   `json:"token"`
	AgeMs    uint64   `json:"age_ms"`
	Attempts uint32   `json:"attempts"`
	NextInMs uint64   `json:"next_in_ms"`
	Failure  string   `json:"failure,omitempty" doc:"Class of the last failure"`
	Detail   string   `json:"detail,omitempty"`
	Pass     uint64   `json:"pass,omitempty" doc:"The pass that asked for it"`
}

// Events is a page of pending events.
type Events struct {
	Page
	Events []Event `json:"events"`
}

// DeadLetter is an event that is not retried by itself; its key was removed from the cache.
type DeadLetter struct {
	Mapping  string   `json:"mapping"`
	PK       []string `json:"pk" doc:"In canonical form"`
	Token    uint64   `json:"token"`
	AgeMs    uint64   `json:"age_ms"`
	Attempts uint32   `json:"attempts"`
	Failure  string   `json:"failure"`
	Detail   string   `json:"detail,omitempty"`
}

// DeadLetters is a page of dead letters.
type DeadLetters struct {
	Page
	Dead []DeadLetter `json:"dead"`
}

// OutboxStats sums up the outbox.
type OutboxStats struct {
	Index    uint64          `json:"index"`
	Pending  int             `json:"pending"`
	Dead     int             `json:"dead"`
	LagMs    uint64          `json:"lag_ms" doc:"Age of the oldest pending event"`
	Mappings []MappingOutbox `json:"mappings"`
	Breakers []Breaker       `json:"breakers" doc:"As the leader has them"`
}

// MappingOutbox is one mapping's share.
type MappingOutbox struct {
	Mapping string `json:"mapping"`
	Pending int    `json:"pending"`
	Dead    int    `json:"dead"`
	LagMs   uint64 `json:"lag_ms"`
}

// Breaker is a circuit breaker of the delivery.
type Breaker struct {
	Name  string `json:"name" doc:"What it guards"`
	State string `json:"state" enum:"closed,half_open,open"`
}
