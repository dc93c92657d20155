package loads

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quiescehq/quiesce/bench/load"
)

const (
	// sessionTTL outlives a stall of the machine, so that no load measures lost locks.
	sessionTTL     = 60 * time.Second
	sessionsAtOnce = 32
)

// Unlock gives a lock back.
type Unlock func(context.Context) error

// Locks are locks of one kind, for a number of workers.
type Locks interface {
	// Lock takes the lock of a name for a worker, which has one name at a time, and waits for it if need be.
	Lock(ctx context.Context, worker int, name string) (Unlock, error)
	Close(ctx context.Context) error
}

// Cycle is a step that takes a worker's own lock and gives it back.
func Cycle(locks Locks, workers int) load.Step {
	names := make([]string, workers)
	for i := range names {
		names[i] = fmt.Sprintf("bench/own/%d", i)
	}
	return func(ctx context.Context, worker int) error {
		unlock, err := locks.Lock(ctx, worker, names[worker])
		if err != nil {
			return err
		}
		return unlock(ctx)
	}
}

// each does something n times, a few at once, and joins the errors.
func each(n int, do func(i int) error) error {
	errs := make([]error, n)
	var group errgroup.Group
	group.SetLimit(sessionsAtOnce)
	for i := range n {
		group.Go(func() error {
			errs[i] = do(i)
			return nil
		})
	}
	_ = group.Wait() // the errors are kept one by one
	return errors.Join(errs...)
}
