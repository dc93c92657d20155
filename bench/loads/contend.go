package loads

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quiescehq/quiesce/bench/load"
)

// ErrShared says that two had a lock that only one may have.
var ErrShared = errors.New("work: two workers hold one lock")

// HandOff is a step that takes the one lock that all workers want, and gives it back at once.
func HandOff(locks Locks) load.Step {
	var holder atomic.Int64 // worker+1, 0: nobody
	return func(ctx context.Context, worker int) error {
		unlock, err := locks.Lock(ctx, worker, "bench/shared")
		if err != nil {
			return err
		}
		if err := holds(&holder, worker); err != nil {
			return err
		}
		holder.Store(0)
		return unlock(ctx)
	}
}

func holds(holder *atomic.Int64, worker int) error {
	if !holder.CompareAndSwap(0, int64(worker)+1) {
		return fmt.Errorf("%w: %d and %d", ErrShared, worker, holder.Load()-1)
	}
	return nil
}

const (
	crowdName = "bench/crowd"
	queueMax  = 60 * time.Second
	queuePoll = 50 * time.Millisecond
)

// Crowd is one lock that many wait for: each waiter takes it once and gives it back at once.
type Crowd struct {
	Waiters int
	AtMost  time.Duration                                       // then those who still wait are let go
	Queued  func(ctx context.Context, name string) (int, error) // how many stand in the queue by now
	holder  atomic.Int64
	mu      sync.Mutex
	from    time.Time // when the present or last holder began to give the lock back
	first   time.Time
	last    time.Time
	gaps    []time.Duration
}

// Run lets a holder keep the lock until all wait for it, and then go. The sample's durations are from the sending of a release to the
// next grant; its rate is that of the grants.
func (c *Crowd) Run(ctx context.Context, locks Locks) (load.Sample, error) {
	unlock, err := locks.Lock(ctx, 0, crowdName)
	if err != nil {
		return load.Sample{}, err
	}
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	group, failed := errgroup.WithContext(waiting)
	for i := range c.Waiters {
		group.Go(func() error { return c.wait(ctx, failed, locks, i+1) })
	}
	if err := c.awaitQueue(failed); err != nil {
		cancel()
		return load.Sample{}, errors.Join(err, group.Wait())
	}
	timer := time.AfterFunc(c.AtMost, cancel)
	defer timer.Stop()
	c.note(time.Time{})
	err = unlock(ctx)
	if err := errors.Join(err, group.Wait()); err != nil {
		return load.Sample{}, err
	}
	return load.NewSample(c.gaps, c.last.Sub(c.first)), nil
}

// wait is one waiter. Its patience ends with waiting; what it got is given back within ctx.
func (c *Crowd) wait(ctx, waiting context.Context, locks Locks, worker int) error {
	unlock, err := locks.Lock(waiting, worker, crowdName)
	granted := time.Now()
	switch {
	case err != nil && waiting.Err() != nil:
		return nil // let go
	case err != nil:
		return err
	}
	if err := holds(&c.holder, worker); err != nil {
		return err
	}
	c.note(granted)
	c.holder.Store(0)
	return unlock(ctx)
}

// note counts a grant, but for the first holder's, and begins the next gap.
func (c *Crowd) note(granted time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if granted.IsZero() {
		c.first = time.Now()
	} else {
		c.gaps = append(c.gaps, granted.Sub(c.from))
		c.last = granted
	}
	c.from = time.Now()
}

func (c *Crowd) awaitQueue(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, queueMax)
	defer cancel()
	ticker := time.NewTicker(queuePoll)
	defer ticker.Stop()
	for {
		queued, err := c.Queued(ctx, crowdName)
		if err == nil && queued >= c.Waiters {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d wait: %w", queued, c.Waiters, errors.Join(context.Cause(ctx), err))
		}
	}
}
