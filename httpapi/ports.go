package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// Outcomes of a Replica call that are not results. Any other error of Propose, Keepalive and the calls on the membership means that the
// outcome is unknown.
var (
	ErrNotApplied = errors.New("not applied")
	ErrNoLeader   = errors.New("no leader") // nothing was applied either
)

// Replica is the replicated state as the edge sees it. All methods may be called at the same time.
type Replica interface {
	// Propose puts the ops into one log entry and answers their results in order. A refusal is a result.
	Propose(ctx context.Context, ops ...fsm.Op) ([]fsm.Result, error)
	// Read returns when View shows everything that was acknowledged before the call. It fails on a node that does not lead.
	Read(ctx context.Context) error
	// View runs f over the state: short, without blocking, keeping nothing but values.
	View(f func(s *fsm.State))
	// Watch wakes after a change of the table, or of one row of it when key is not empty.
	Watch(table, key string) Watch
	// Now is cluster time in milliseconds.
	Now() uint64
	Keepalive(ctx context.Context, ids []string) ([]Lease, error)
	LeaseRemaining(session string) (ms uint64, ok bool)
	Leader() Leader
	Status(ctx context.Context) api.Cluster
	ClusterID() string
	// RemoveNode and Transfer refuse with a *RefusedError.
	RemoveNode(ctx context.Context, id string) error
	Transfer(ctx context.Context) error
}

// Watch is an open watch.
type Watch interface {
	Wake() <-chan struct{}
	Close()
}

// Lease answers one keepalive.
type Lease struct {
	ID          string
	Gone        bool
	TTLMs       uint64
	RemainingMs uint64
}

// Leader is who leads, as far as this node knows; zero when it does not.
type Leader struct {
	ID       string
	HTTPAddr string
	Self     bool
}

// RefusedError is a refusal of the membership. Code is one of package api; any other counts as unsafe.
type RefusedError struct{ Code, Detail string }

func (e *RefusedError) Error() string { return e.Code + ": " + e.Detail }

// Mappings knows what a mapping means. Its methods refuse with *InvalidError, or ErrSourceUnreachable, or ErrTargetUnreachable.
type Mappings interface {
	// Check reads a specification, refuses what is wrong or unknown in it, and reads the columns of its table.
	Check(ctx context.Context, name string, spec []byte) (Checked, error)
	// Inspect tells all that can be found out about a specification. What is wrong with it is a finding and no error.
	Inspect(ctx context.Context, name string, spec []byte) (api.MappingCheck, error)
	// Key gives the canonical form of a key of the mapping's key columns; empty for one that has a NULL, which names nothing.
	Key(ctx context.Context, m fsm.Mapping, key []json.RawMessage) (string, error)
	// Keys gives the keys that an event names: none, one or two.
	Keys(ctx context.Context, m fsm.Mapping, e RowKeys) ([]string, error)
	// Look reads a row and what the cache has of it.
	Look(ctx context.Context, m fsm.Mapping, key string) (api.KeyCheck, error)
	// Pass refuses a pass that could find nothing out about the mapping, and gives the ends of its range in canonical form; empty for none.
	Pass(ctx context.Context, m fsm.Mapping, asked PassAsked) (from, to string, err error)
}

// PassAsked is what a mapping has to know of a pass.
type PassAsked struct {
	Mode     string // of api
	From, To []json.RawMessage
	Extras   bool
}

// RowKeys is what an event says of its row.
type RowKeys struct{ PK, Old, New []json.RawMessage }

// Checked is what the replicated state keeps of a mapping beside its specification.
type Checked struct {
	Source, Target, Table string
	Columns               []byte
}

// InvalidError lists what is wrong with a specification or a primary key.
type InvalidError struct{ Faults []api.Fault }

func (e *InvalidError) Error() string {
	if len(e.Faults) == 0 {
		return "invalid"
	}
	return e.Faults[0].Field + ": " + e.Faults[0].Reason
}

// Transactions is the leader's watch of long transactions.
type Transactions interface {
	Transactions(ctx context.Context) api.Transactions
	// KillTransaction ends one after having looked at it again. It fails with ErrTransactionNotFound or ErrSourceUnreachable.
	KillTransaction(ctx context.Context, id, reason string) (api.KillVerdict, error)
}

// ErrTransactionNotFound: no such transaction is open, or is long.
var ErrTransactionNotFound = errors.New("transaction not found")

// Errors of Mappings.
var (
	ErrSourceUnreachable = errors.New("source unreachable")
	ErrTargetUnreachable = errors.New("target unreachable")
)

// Stores tells how this node sees its sources and targets: everything of api.Place but names, nodes and identities, which the state knows.
type Stores interface {
	Source(ctx context.Context, name string) (api.Place, bool)
	Target(ctx context.Context, name string) (api.Place, bool)
}

// Outbox tells what the leader's delivery knows and the state does not.
type Outbox interface {
	// Breakers are bounded in number by the targets and tables.
	Breakers() []api.Breaker
	// Delivery counts what became of a mapping's events, and tells what holds them up.
	Delivery(mapping string) Delivery
	// Sent tells whether a delivery of the row is under way.
	Sent(row fsm.RowRef) bool
	// Timeline is what is remembered of a row, the oldest first.
	Timeline(row fsm.RowRef) api.KeyTimeline
}

// Delivery is one mapping's share of what the leader delivered.
type Delivery struct {
	Delivered, Superseded, Failed uint64
	Blocked                       string // of api; empty: nothing holds its events up
}

// Passes tells what the leader's reconciliation knows and the state does not. It must not look at the state while it answers: the state is being read.
type Passes interface {
	// Progress is what passes do at this moment on this node: nothing on one that does not lead.
	Progress() []PassProgress
	// Agreement counts what was found of deliveries some time after their events, since this node began to lead.
	Agreement() []Agreement
}

// PassProgress is one pass under way.
type PassProgress struct {
	Pass          uint64
	Mapping       string
	RowsPerSecond float64
	ETA           time.Duration // of the phase; 0: unknown
	Waiting       string        // what it waits for, empty while it works
	Throttled     string        // why it stands still by itself, with the figures
	Open          int           // differences that await confirmation
	ChunkRows     int           // size of the next read
}

// Agreement is how many keys were looked at so long after their events, and how many of them held what their rows said.
type Agreement struct {
	Mapping        string
	Within         time.Duration
	Looked, Agreed uint64
}

// Relays are the leader's relays of outbox tables.
type Relays interface {
	Relays() []api.Relay
	// Serves tells whether there is one for a source: without it nobody would look at its fences.
	Serves(source string) bool
	// Nudge has the relay of a source look at its table now; false if there is none.
	Nudge(source string) bool
}

var errUnknownTicketState = errors.New("a ticket in a state that the edge does not know")
