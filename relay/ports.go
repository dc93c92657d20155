package relay

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mysql"
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
	// ClusterID is the cluster's own name, which its fences carry.
	ClusterID() string
}

// Source is the outbox tables of one source; [mysql.OutboxSource] is one, and says what each method promises.
type Source interface {
	Read(ctx context.Context, limit int) (mysql.OutboxBatch, error)
	Delete(ctx context.Context, ids []uint64) error
	Refuse(ctx context.Context, refusals []mysql.Refusal) error
	Probe(ctx context.Context, fence string) (mysql.FenceVerdict, error)
	PurgeFences(ctx context.Context, rule mysql.FencePurge) (int, error)
}

// Mapper knows what the keys of a row mean.
type Mapper interface {
	// Keys gives the canonical keys that a row names: none, one or two. An error that wraps [ErrKey] is the row's own fault and stays one; after
	// any other the row waits.
	Keys(ctx context.Context, m fsm.Mapping, row Keys) ([]string, error)
}

// Keys is what a row says, in the words of the API.
type Keys struct{ PK, Old, New []json.RawMessage }

// ErrKey means that a row's keys are not keys of its mapping.
var ErrKey = errors.New("key invalid")
