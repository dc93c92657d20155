package outbox

import (
	"context"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/rediscache"
)

// Log is what the task needs of the replicated log.
type Log interface {
	// Propose puts the ops into one entry and answers in order. After an error they may or may not be applied.
	Propose(ctx context.Context, ops ...fsm.Op) ([]fsm.Result, error)
	// View runs f over the state under a read lock.
	View(f func(*fsm.State))
	// Now is the cluster time in milliseconds.
	Now() uint64
	// Watch signals on a channel of capacity one after a row of the table has changed, until stop is called.
	Watch(table, key string) (wake <-chan struct{}, stop func())
}

// Source reads rows with the primary's proof. [mysql.Source] is one.
type Source interface {
	// ReadRows answers by [mapping.EncodeKey]; a tuple without an entry surely has no row. An error leaves all of them unknown.
	ReadRows(ctx context.Context, m *mapping.Mapping, tuples [][]string) (map[string]*mapping.Row, error)
}

// Target is one Redis server.
type Target interface {
	// Begin reads the clocks of the servers that the keys live on, of all without keys, on connections that the Batch then owns. Only rows that are read
	// afterwards may be applied with it.
	Begin(ctx context.Context, keys []string) (Batch, error)
}

// Batch is one round on one connection; [rediscache.Batch] says what each method promises.
type Batch interface {
	Apply(ctx context.Context, writes []rediscache.Guarded) ([]rediscache.Outcome, error)
	Invalidate(ctx context.Context, pairs []rediscache.KeyPair) error
	Close()
}

// Places are the sources and targets that this node can reach, by the names that mappings use.
type Places struct {
	Sources map[string]Source
	Targets map[string]Target
}

// Redis makes a Target of a [rediscache.Target].
func Redis(target *rediscache.Target) Target { return redisTarget{target} }

type redisTarget struct{ *rediscache.Target }

// Begin returns no Batch beside an error: a nil pointer in an interface would not be nil.
func (t redisTarget) Begin(ctx context.Context, keys []string) (Batch, error) {
	batch, err := t.Target.Begin(ctx, keys)
	if err != nil {
		return nil, err
	}
	return batch, nil
}
