package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/quiescehq/quiesce/api"
)

const (
	waitMax = api.WaitMaxMs * time.Millisecond
	// parkMax is how long one request waits at a node; a wait of any length is a row of such requests.
	parkMax = 20 * time.Second
	// withdrawFor is how long a caller that gave up waits for its place in the queue to be given back.
	withdrawFor = 2 * time.Second
)

// ErrLeaseLapsed says that a lock was granted too late for the lease that it should belong to; it has been given back.
var ErrLeaseLapsed = errors.New("client: the lease lapsed while the lock was on its way")

// LockOption changes how a lock is taken.
type LockOption func(*lockOptions)

type lockOptions struct {
	wait    time.Duration
	limited bool
}

// NoWait refuses with ErrLockHeld instead of waiting.
func NoWait() LockOption { return WaitAtMost(0) }

// WaitAtMost bounds the wait in the queue; ErrLockWaitTimeout tells that it ended in vain.
func WaitAtMost(d time.Duration) LockOption {
	return func(o *lockOptions) { o.wait, o.limited = min(max(d, 0), waitMax), true }
}

// Lock is an exclusive lock that was granted to this process.
type Lock struct {
	client *Client
	lease  *lease
	name   string
	token  uint64

	passTurn func() // lets the next caller of this process ask; at most once
	once     sync.Once
	done     chan struct{}
	why      error
}

// Name is the name that was asked for.
func (l *Lock) Name() string { return l.name }

// Token is the fencing token of this grant: higher than that of every earlier grant. Hand it to the resource that the lock protects and
// let that refuse lower ones; only so is exclusion certain for a process that was stopped past its lease and does not know it yet.
func (l *Lock) Token() uint64 { return l.token }

// Done is closed when the lock can no longer be relied on, some time before the coordinator may grant it to another, and by Unlock.
func (l *Lock) Done() <-chan struct{} { return l.done }

// Err is nil while the lock can be relied on, else ErrLockLost or ErrUnlocked. It looks at the clock and is right at once after the
// process was stopped and resumed, when Done is not closed yet.
func (l *Lock) Err() error {
	select {
	case <-l.done:
		return l.why
	default:
	}
	if !l.lease.alive() {
		return ErrLockLost
	}
	return nil
}

func (l *Lock) close(why error) {
	l.once.Do(func() {
		l.why = why
		close(l.done)
	})
}

// Unlock gives the lock back. Done is closed before the coordinator hears of it. ErrNotHolder says that it had been lost before.
func (l *Lock) Unlock(ctx context.Context) error {
	l.lease.remove(l)
	l.close(ErrUnlocked)
	defer l.passTurn()
	if err := l.client.release(ctx, l.lease.session, l.name, l.token); err != nil {
		return fmt.Errorf("unlock %q: %w", l.name, err)
	}
	return nil
}

func (c *Client) release(ctx context.Context, session, name string, token uint64) error {
	body := api.ReleaseLocks{Session: session, Locks: []api.Grant{{Name: name, Token: token}}}
	_, err := c.do(ctx, post("/v1/locks/release", body, nil))
	return err
}

// acquire takes a lock for a lease. By default it waits as long as ctx does.
func (c *Client) acquire(ctx context.Context, l *lease, name string, opts []LockOption) (*Lock, error) {
	var o lockOptions
	for _, opt := range opts {
		opt(&o)
	}
	if !o.limited {
		o.wait = waitMax
	}
	if deadline, ok := ctx.Deadline(); ok {
		o.wait = min(o.wait, max(0, time.Until(deadline)))
	}
	began := time.Now()
	if err := l.turns.take(ctx, l.session, name, o.wait); err != nil {
		return nil, fmt.Errorf("lock %q: %w", name, err)
	}
	lock := &Lock{client: c, lease: l, name: name, done: make(chan struct{}), passTurn: sync.OnceFunc(func() { l.turns.pass(name) })}
	if o.wait > 0 {
		o.wait = max(time.Millisecond, o.wait-time.Since(began))
	}
	if err := lock.obtain(ctx, o.wait); err != nil {
		lock.passTurn()
		return nil, fmt.Errorf("lock %q: %w", name, err)
	}
	return lock, nil
}

// obtain gets the grant and puts the lock under its lease.
func (l *Lock) obtain(ctx context.Context, wait time.Duration) error {
	got, err := l.client.takePlace(ctx, l.lease.session, l.name, wait)
	if err == nil && got.Ticket != 0 {
		got, err = l.client.awaitGrant(ctx, l.lease.session, l.name, got.Ticket)
	}
	if err != nil {
		return err
	}
	if len(got.Grants) != 1 {
		return fmt.Errorf("client: the answer holds %d grants", len(got.Grants))
	}
	l.token = got.Grants[0].Token
	if l.lease.add(l) {
		return nil
	}
	l.close(ErrLockLost)
	return errors.Join(ErrLeaseLapsed, l.client.release(ctx, l.lease.session, l.name, l.token))
}

// takePlace gets the lock or a ticket, at once. It goes through a batch of one, which never parks: a request that waits in the queue
// with its key outstanding would hold up the acknowledgement of all later ones, and whoever loses its answer would not know the ticket.
// It is brought to an end even if ctx ends on the way, for the same reason.
func (c *Client) takePlace(ctx context.Context, session, name string, wait time.Duration) (api.Acquired, error) {
	ctx, cancel := linger(ctx, withdrawFor)
	defer cancel()
	ask, err := json.Marshal(api.AcquireLocks{Session: session, Locks: []api.LockWanted{{Name: name}}, WaitMs: millis(wait)})
	if err != nil {
		return api.Acquired{}, err
	}
	var batch api.BatchAnswer
	var got api.Acquired
	_, err = c.do(ctx, call{
		method: http.MethodPost, path: "/v1/batch", answer: &batch,
		keyedBody: func(key string, acked uint64) any {
			return api.Batch{Ops: []api.BatchOp{{Op: api.OpAcquire, Key: key, Acked: acked, Body: ask}}}
		},
		check: func() error { return onlyResult(batch, &got) },
	})
	return got, err
}

// onlyResult reads the answer to a batch of one as if the operation had been sent alone.
func onlyResult(batch api.BatchAnswer, into any) error {
	if len(batch.Results) != 1 {
		return fmt.Errorf("client: the batch of one was answered with %d results", len(batch.Results))
	}
	r := batch.Results[0]
	if r.Problem != nil {
		refused := errorOf(r.Problem, nil)
		if failed := answerFailure(refused); failed != nil {
			return failed
		}
		return refused
	}
	return json.Unmarshal(r.Body, into)
}

// awaitGrant waits on a ticket. A ticket outlives connections and leaders; it is withdrawn when the caller turns away.
func (c *Client) awaitGrant(ctx context.Context, session, name string, ticket uint64) (api.Acquired, error) {
	for {
		began := time.Now()
		got, err := c.askTicket(ctx, ticket, parkMax)
		switch {
		case errors.Is(err, ErrUnavailable) || errors.Is(err, ErrOutcomeUnknown):
			c.withdraw(ctx, session, name, ticket)
			return got, err
		case err != nil || len(got.Grants) > 0:
			return got, err
		}
		if time.Since(began) < parkMax/2 {
			// The node is stopping or no longer leads, and answers at once for as long as that lasts.
			_ = pause(ctx, backoff(2)) // if ctx ends, the next round sees it and leaves the queue
		}
	}
}

// askTicket has no key: asking how a ticket stands can be repeated, and its answer must not be an old one.
func (c *Client) askTicket(ctx context.Context, ticket uint64, park time.Duration) (got api.Acquired, err error) {
	_, err = c.do(ctx, call{method: http.MethodPost, path: "/v1/locks/acquire", parks: park, answer: &got,
		body: api.AcquireLocks{Ticket: ticket, WaitMs: millis(park)}})
	return got, err
}

// withdraw leaves the queue. A grant that came first is given back; if it was on its way to the caller when that turned away, it counts as
// claimed and would stay until the session ends, so the ticket is asked for it.
func (c *Client) withdraw(ctx context.Context, session, name string, ticket uint64) {
	ctx, cancel := linger(ctx, withdrawFor)
	defer cancel()
	_, err := c.do(ctx, post("/v1/locks/cancel", api.CancelWait{Ticket: ticket}, nil))
	var refused *Error
	if errors.As(err, &refused) && refused.Code == api.CodeTicketEnded {
		var got api.Acquired
		if got, err = c.askTicket(ctx, ticket, time.Millisecond); err == nil && len(got.Grants) == 1 {
			err = c.release(ctx, session, name, got.Grants[0].Token)
		}
	}
	if err != nil && !errors.As(err, &refused) {
		c.log.Warn("a place in a lock's queue could not be given back; it lapses", "lock", name, "ticket", ticket, "error", err)
	}
}
