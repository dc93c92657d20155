package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quiescehq/quiesce/api"
)

const waitMax = api.WaitMaxMs * time.Millisecond

// ErrLockOptions says that a lock cannot be taken as it was asked for.
var ErrLockOptions = errors.New("client: a lock cannot be taken so")

// LockOption changes how a lock is taken.
type LockOption func(*lockOptions)

type lockOptions struct {
	wait           time.Duration
	limited        bool
	owner          string
	owned          bool
	reentrant      bool
	delay          time.Duration
	value          string
	failOnDeadlock bool
}

// NoWait refuses with ErrLockHeld instead of waiting.
func NoWait() LockOption { return WaitAtMost(0) }

// WaitAtMost bounds the wait in the queue; ErrLockWaitTimeout tells that it ended in vain.
func WaitAtMost(d time.Duration) LockOption {
	return func(o *lockOptions) { o.wait, o.limited = min(max(d, 0), waitMax), true }
}

// Owner says who of the session asks, such as a thread or a job. An owner does not wait for itself: what it has is refused with
// ErrLockHeld, unless both sides share or are Reentrant. By default every call is an owner of its own.
func Owner(name string) LockOption {
	return func(o *lockOptions) { o.owner, o.owned = name, true }
}

// Reentrant lets an Owner take again what it took reentrantly before, under the same token; each handle is unlocked on its own.
func Reentrant() LockOption { return func(o *lockOptions) { o.reentrant = true } }

// LockDelay keeps the lock from everybody for a time when the session of its holder expires: for resources that cannot check tokens.
func LockDelay(d time.Duration) LockOption { return func(o *lockOptions) { o.delay = d } }

// Value is shown with the grant to those who look at the lock, such as the address of the holder; at most 4 KiB.
func Value(text string) LockOption { return func(o *lockOptions) { o.value = text } }

// FailOnDeadlock gives up with a *DeadlockError when this wait closes a circle of waits. By default that is logged, and the wait goes on:
// another of the circle may give up.
func FailOnDeadlock() LockOption { return func(o *lockOptions) { o.failOnDeadlock = true } }

func (c *Client) lockOptions(ctx context.Context, opts []LockOption) (lockOptions, error) {
	var o lockOptions
	for _, opt := range opts {
		opt(&o)
	}
	if o.reentrant && !o.owned {
		return o, fmt.Errorf("%w: Reentrant needs an Owner, for by default every call is one of its own", ErrLockOptions)
	}
	if !o.owned {
		o.owner = c.nextOwner()
	}
	if !o.limited {
		o.wait = waitMax
	}
	if deadline, ok := ctx.Deadline(); ok && o.wait > 0 {
		o.wait = max(time.Millisecond, min(o.wait, time.Until(deadline)))
	}
	return o, nil
}
