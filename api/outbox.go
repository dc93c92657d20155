package api

import "encoding/json"

// EnqueueEvents says that the cache keys of rows may be stale.
type EnqueueEvents struct {
	Events []RowEvent `json:"events" minItems:"1" maxItems:"1000"`
}

// RowEvent names a row: never its values. Where the mapping's key columns are the primary key, pk alone says it, and old_key if the key itself
// was changed. Else new_key names the key of the row as it is now and old_key the one that it had before, each where there is one.
type RowEvent struct {
	Mapping string            `json:"mapping" pattern:"^[a-z0-9][a-z0-9._-]{0,62}$"`
	PK      []json.RawMessage `json:"pk,omitempty" maxItems:"16" doc:"In primary-key order: text in MySQL's form, or integers below 2^53"`
	OldKey  []json.RawMessage `json:"old_key,omitempty" maxItems:"16" doc:"In the order of the mapping's key columns, null for NULL"`
	NewKey  []json.RawMessage `json:"new_key,omitempty" maxItems:"16" doc:"In the order of the mapping's key columns, null for NULL"`
}

// Enqueued answers in the order of the events.
type Enqueued struct {
	Events []EventToken `json:"events"`
}

// EventToken is the place of an event in the order of all changes. That of an event with two keys is the later one; 0 if all parts of its keys
// are NULL, so that there is nothing to be delivered.
type EventToken struct {
	Token     uint64 `json:"token"`
	Coalesced bool   `json:"coalesced,omitempty" doc:"Folded into an event of the same row that was still pending"`
}

// WaitEvent waits until an event is delivered. It is named by pk, or by key where the mapping's key columns are others.
type WaitEvent struct {
	Mapping string            `json:"mapping" pattern:"^[a-z0-9][a-z0-9._-]{0,62}$"`
	PK      []json.RawMessage `json:"pk,omitempty" maxItems:"16"`
	Key     []json.RawMessage `json:"key,omitempty" maxItems:"16"`
	Token   uint64            `json:"token" minimum:"1" maximum:"9007199254740991"`
	WaitMs  uint64            `json:"wait_ms,omitempty" maximum:"60000"`
}

// Event states.
const (
	EventDone    = "done"
	EventPending = "pending"
	EventDead    = "dead"
	EventUnknown = "unknown"
	EventSent    = "sent" // only shown in lists
)

// EventState answers WaitEvent.
type EventState struct {
	State string `json:"state" enum:"done,pending,dead,unknown"`
}

// Why an event waits though it is due.
const (
	BlockedTargetDown    = "target_down"
	BlockedSourceDown    = "source_down"
	BlockedTargetMissing = "target_missing" // the leader's configuration names no such target
	BlockedSourceMissing = "source_missing"
	BlockedMappingBroken = "mapping_broken" // what the state holds of it cannot be used by this version
	BlockedPaused        = "paused"
)

// Event is a pending event. PK is the key of the mapping's key columns, which are the primary key unless it says otherwise.
type Event struct {
	Mapping  string   `json:"mapping"`
	PK       []string `json:"pk" doc:"In canonical form"`
	State    string   `json:"state" enum:"pending,sent" doc:"sent: a delivery is under way at the leader"`
	Blocked  string   `json:"blocked,omitempty" doc:"Why it waits though it is due"`
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
	Prepared int             `json:"prepared" doc:"Events that wait for their transactions"`
	Dead     int             `json:"dead"`
	LagMs    uint64          `json:"lag_ms" doc:"Age of the oldest pending event"`
	Mappings []MappingOutbox `json:"mappings"`
	Pauses   []OutboxPause   `json:"pauses"`
	Breakers []Breaker       `json:"breakers" doc:"As the leader has them"`
	Relays   []Relay         `json:"relays" doc:"As the leader has them"`
}

// MappingOutbox is one mapping's share. Delivered, superseded and failed are counted by the leader, since its process started.
type MappingOutbox struct {
	Mapping    string         `json:"mapping"`
	Pending    int            `json:"pending"`
	Dead       int            `json:"dead"`
	LagMs      uint64         `json:"lag_ms"`
	Blocked    string         `json:"blocked,omitempty" doc:"Why its events wait though they are due"`
	Doubt      *Doubt         `json:"doubt,omitempty" doc:"Present while the cache may have lost writes that were acknowledged"`
	Delivered  uint64         `json:"delivered"`
	Superseded uint64         `json:"superseded"`
	Failed     uint64         `json:"failed"`
	DeadBy     map[string]int `json:"dead_by,omitempty" doc:"Dead letters by class of failure"`
}

// Doubt says that a store was replaced or restarted, so that acknowledged writes may be lost. It ends with a clean pass.
type Doubt struct {
	SinceMs uint64 `json:"since_ms"`
	Cause   string `json:"cause"`
	Pass    uint64 `json:"pass,omitempty" doc:"The pass that is to end it"`
	Held    bool   `json:"held,omitempty" doc:"That pass waits for somebody's approval"`
	Behind  uint64 `json:"behind,omitempty" doc:"Another pass over the mapping, which has to end before one can begin"`
}

// Relay moves the rows of a source's outbox table into the log.
type Relay struct {
	Source    string `json:"source"`
	State     string `json:"state" enum:"running,paused,full,failing"`
	Detail    string `json:"detail,omitempty"`
	Relayed   uint64 `json:"relayed" doc:"Rows, since the leader began to lead"`
	Refused   uint64 `json:"refused" doc:"Rows that were set aside, since the leader began to lead"`
	OldestMs  uint64 `json:"oldest_ms,omitempty" doc:"Age of the first row of the last reading"`
	DrainedMs uint64 `json:"drained_ms,omitempty" doc:"Since the table was last seen empty"`
}

// OutboxScope is what a pause is about: exactly one of its members.
type OutboxScope struct {
	All     bool   `json:"all,omitempty"`
	Mapping string `json:"mapping,omitempty" maxLength:"63"`
	Target  string `json:"target,omitempty" maxLength:"63"`
	Source  string `json:"source,omitempty" maxLength:"63" doc:"Its relay and its probes of fences stop; rows wait in MySQL"`
}

// PauseOutbox stops deliveries until they are resumed. Events are taken all the while.
type PauseOutbox struct {
	OutboxScope
	Reason string `json:"reason,omitempty" maxLength:"256"`
}

// OutboxPause is a pause that holds.
type OutboxPause struct {
	OutboxScope
	Reason  string `json:"reason,omitempty"`
	SinceMs uint64 `json:"since_ms"`
	Index   uint64 `json:"index"`
}

// PrepareEvents announces events before their transaction begins. The first statement of the transaction is a plain INSERT of the fence; then
// Submit or Cancel follows, and if neither does, the leader finds out from the fence whether the transaction is over.
type PrepareEvents struct {
	Events   []RowEvent `json:"events" minItems:"1" maxItems:"1000"`
	TTLMs    uint64     `json:"ttl_ms,omitempty" minimum:"1000" maximum:"3600000" default:"30000" doc:"After this time the leader looks at the fence"`
	Instance string     `json:"instance,omitempty" maxLength:"64" doc:"When this instance is lost the leader looks at once"`
}

// Fence is a row that the transaction inserts first: INSERT INTO table (id) VALUES (id). A duplicate key (1062) means that the coordinator took the
// transaction for lost: roll back.
type Fence struct {
	Source string `json:"source"`
	Table  string `json:"table"`
	ID     string `json:"id"`
}

// Prepared answers PrepareEvents.
type Prepared struct {
	ID          string `json:"id"`
	Fence       Fence  `json:"fence"`
	ExpiresInMs uint64 `json:"expires_in_ms"`
}

// States of prepared events.
const (
	PreparedWaiting   = "prepared"
	PreparedSubmitted = "submitted"
	PreparedCanceled  = "canceled"
	PreparedOver      = "over" // somebody ended it before; what it announced was delivered or canceled
)

// PreparedEnd answers Submit and Cancel.
type PreparedEnd struct {
	State  string       `json:"state" enum:"submitted,canceled,over"`
	Events []EventToken `json:"events,omitempty" doc:"Of a submit, in the order of the events"`
}

// PreparedEvents is one prepare that is open.
type PreparedEvents struct {
	ID       string `json:"id"`
	Source   string `json:"source"`
	Events   int    `json:"events"`
	Instance string `json:"instance,omitempty"`
	AgeMs    uint64 `json:"age_ms"`
	ProbeIn  uint64 `json:"probe_in_ms" doc:"When the leader looks at its fence"`
	Probes   uint32 `json:"probes,omitempty" doc:"Looks that found the transaction open"`
	Index    uint64 `json:"index"`
}

// PreparedList is a page of prepared events.
type PreparedList struct {
	Page
	Prepared []PreparedEvents `json:"prepared"`
}

// Nudge tells the relay of a source that a transaction with outbox rows was committed.
type Nudge struct {
	Source string `json:"source" minLength:"1" maxLength:"63"`
}

// DeadFilter chooses dead letters: all members that are given must fit. An empty filter is refused unless all is true.
type DeadFilter struct {
	All     bool              `json:"all,omitempty"`
	Mapping string            `json:"mapping,omitempty" maxLength:"63"`
	Failure string            `json:"failure,omitempty" maxLength:"64" doc:"Class of failure"`
	PK      []json.RawMessage `json:"pk,omitempty" maxItems:"16" doc:"One row; needs the mapping"`
}

// ReplayDead makes new events of dead letters, or discards them.
type ReplayDead struct {
	Filter DeadFilter `json:"filter"`
	DryRun bool       `json:"dry_run,omitempty"`
	Rate   uint64     `json:"rate,omitempty" maximum:"100000" doc:"Events a second that become due; 0: all at once. Not for discard"`
}

// Replayed answers ReplayDead.
type Replayed struct {
	Matched int         `json:"matched"`
	Changed int         `json:"changed" doc:"0 of a dry run"`
	Sample  *DeadLetter `json:"sample,omitempty" doc:"One of them"`
}

// Breaker is a circuit breaker of the delivery.
type Breaker struct {
	Name  string `json:"name" doc:"What it guards"`
	State string `json:"state" enum:"closed,half_open,open"`
}
