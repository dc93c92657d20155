package reconcile

import (
	"context"
	"time"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
	"github.com/quiescehq/quiesce/rediscache"
)

// Log is the replicated log as this task sees it. Its methods may be called from any goroutine.
type Log interface {
	// Propose puts the operations into one log entry and answers their results. After an error the outcome may be unknown.
	Propose(ctx context.Context, ops ...fsm.Op) ([]fsm.Result, error)
	// View runs f over the state under a read lock. f must not block and keeps nothing but values.
	View(f func(s *fsm.State))
	// Watch wakes after the named table changed. The channel coalesces; stop ends the watch and must be called.
	Watch(table, key string) (wake <-chan struct{}, stop func())
	// Now is the leader's cluster time in milliseconds.
	Now() uint64
}

// Source is the MySQL side; [mysql.Source] is one.
type Source interface {
	ReadPart(ctx context.Context, m *mapping.Mapping, part mysql.Part, after []string, limit int) (mysql.Chunk, error)
	ReadRows(ctx context.Context, m *mapping.Mapping, tuples [][]string) (map[string]*mapping.Row, error)
	EstimateRows(ctx context.Context, m *mapping.Mapping, part mysql.Part) (uint64, error)
	ThreadsRunning(ctx context.Context) (int, error)
}

// Target is the Redis side; [rediscache.Target] is one.
type Target interface {
	Read(ctx context.Context, requests []rediscache.KeyRequest) ([]mapping.Actual, error)
	Latency(ctx context.Context) (time.Duration, error)
}

// Acknowledgements is what the outbox remembers of its own late deliveries.
type Acknowledgements interface {
	// Recent tells whether the row's key may have been written by a delivery that was under way at the given revision of the state or
	// settled after it, and whether the memory reaches back that far. A delivery is in the memory before its event leaves the state, so
	// whoever finds no pending event and then asks here misses none.
	Recent(row fsm.RowRef, sinceRevision uint64) (touched, covered bool)
}

// Relays is what the relays of outbox tables know; the relay task is one. A source without such a table is always drained.
type Relays interface {
	// Mark notes a moment.
	Mark(source string) uint64
	// Drained tells whether every row that could be seen in the source's outbox table at the mark has become events, or was refused.
	Drained(source string, mark uint64) bool
}
