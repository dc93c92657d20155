package drain

import (
	"context"
	"time"

	"github.com/quiescehq/quiesce/fsm"
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

// Reader looks at the transactions of a source and ends them; [mysql.TransactionReader] is one, and says what each method promises. One
// goroutine uses it at a time.
type Reader interface {
	Read(ctx context.Context, statementsFrom time.Duration) (mysql.Reading, error)
	Processes(ctx context.Context, threads []uint64) (map[uint64]mysql.Process, error)
	Kill(ctx context.Context, reading mysql.Reading, seen []mysql.Seen) ([]mysql.KillOutcome, error)
	MayKill(ctx context.Context) (may, known bool, err error)
	Release()
}

// Target is one Redis server.
type Target interface {
	BeginSweep(ctx context.Context) (Sweep, error)
}

// Sweep goes over a target's keys; [rediscache.Sweep] says what each method promises.
type Sweep interface {
	Identity() rediscache.Identity
	Scan(ctx context.Context, pattern string, cursor uint64) (rediscache.Scanned, error)
	Unlink(ctx context.Context, keys []string) (removed uint64, err error)
	Close()
}

// Redis makes a Target of a [rediscache.Target].
func Redis(target *rediscache.Target) Target { return redisTarget{target} }

type redisTarget struct{ *rediscache.Target }

// BeginSweep returns no Sweep beside an error: a nil pointer in an interface would not be nil.
func (t redisTarget) BeginSweep(ctx context.Context) (Sweep, error) {
	sweep, err := t.Target.BeginSweep(ctx)
	if err != nil {
		return nil, err
	}
	return sweep, nil
}
