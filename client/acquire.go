package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/quiescehq/quiesce/api"
)

const (
	// parkMax is how long one request waits at a node; a wait of any length is a row of such requests.
	parkMax = 20 * time.Second
	// reclaimFor bounds the asking after a grant that may have crossed a withdrawal, reclaimsMax how many ask at a time. What is given
	// up lapses with its session.
	reclaimFor  = 10 * time.Second
	reclaimsMax = 64
)

// ErrLeaseLapsed says that a lock was granted too late for the lease that it should belong to; it has been given back.
var ErrLeaseLapsed = errors.New("client: the lease lapsed while the lock was on its way")

// acquire takes locks for the current lease. By default it waits as long as ctx does.
func (l *locking) acquire(ctx context.Context, want []Want, opts []LockOption) (*hold, error) {
	h, err := l.obtain(ctx, want, opts)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", quoted(want, func(w Want) string { return w.Name }), err)
	}
	return h, nil
}

func (l *locking) obtain(ctx context.Context, want []Want, opts []LockOption) (*hold, error) {
	lease, err := l.current()
	if err != nil {
		return nil, err
	}
	o, err := l.client.lockOptions(ctx, opts)
	if err != nil {
		return nil, err
	}
	h := newHold(l.client, lease)
	got, err := h.takePlace(ctx, want, o)
	if err == nil && got.Ticket != 0 {
		got, err = h.awaitGrant(ctx, got, o.failOnDeadlock)
	}
	if err == nil && len(got.Grants) != len(want) {
		h.giveBack(got)
		err = fmt.Errorf("client: %d locks were answered with %d grants", len(want), len(got.Grants))
	}
	if err != nil {
		h.end(err)
		return nil, err
	}
	h.grants = got.Grants
	if !lease.add(h) {
		h.giveUp()
		return nil, ErrLeaseLapsed
	}
	return h, nil
}

// takePlace gets the locks or a ticket, at once: a batch never parks. A request that waited in the queue with its key outstanding would
// hold up the acknowledgement of all later ones, and whoever loses its answer would not know the ticket.
func (h *hold) takePlace(ctx context.Context, want []Want, o lockOptions) (api.Acquired, error) {
	for _, w := range want {
		if !utf8.ValidString(w.Name) { // the encoding would replace what is not, and make one name of two
			return api.Acquired{}, fmt.Errorf("%w: a name must be UTF-8", ErrLockOptions)
		}
	}
	ask, err := newOp(api.OpAcquire, &api.AcquireLocks{Session: h.lease.session, Owner: o.owner, Locks: want, WaitMs: millis(o.wait),
		Reentrant: o.reentrant, LockDelayMs: millis(o.delay), Value: o.value})
	if err != nil {
		return api.Acquired{}, err
	}
	ask.keep, ask.tidy = true, h.giveBackUnclaimed
	var got api.Acquired
	if err := h.client.batches.do(ctx, ask); err != nil {
		return got, err
	}
	err = readAcquired(ask.answer, &got)
	return got, err
}

// giveBackUnclaimed looks after a grant or a place whose caller has turned away.
func (h *hold) giveBackUnclaimed(o *op) {
	if !o.orphan || o.err != nil {
		return
	}
	var got api.Acquired
	if err := readAcquired(o.answer, &got); err != nil {
		h.client.log.Warn("what a caller took that turned away is unknown; it goes with its session", "error", err)
		return
	}
	h.giveBack(got)
}

// giveBack returns what was taken for a hold that nobody got. It leaves the hold itself alone, for its caller may be turning away this
// moment.
func (h *hold) giveBack(got api.Acquired) {
	switch {
	case len(got.Grants) > 0:
		back := newHold(h.client, h.lease)
		back.grants = got.Grants
		back.giveUp()
	case got.Ticket != 0:
		h.withdraw(got.Ticket)
	}
}

// awaitGrant waits on a ticket. A ticket outlives connections and leaders; it is withdrawn when the caller turns away.
func (h *hold) awaitGrant(ctx context.Context, place api.Acquired, failOnDeadlock bool) (api.Acquired, error) {
	ticket, warned := place.Ticket, false
	for {
		if len(place.Deadlock) > 0 && failOnDeadlock {
			h.withdraw(ticket)
			return api.Acquired{}, &DeadlockError{Waits: place.Deadlock}
		}
		if len(place.Deadlock) > 0 && !warned {
			warned = true
			h.client.log.Warn("a wait for a lock is part of a circle of waits", "waits", describeWaits(place.Deadlock))
		}
		began := time.Now()
		var err error
		place, err = h.client.askTicket(ctx, ticket, jittered(parkMax))
		switch {
		case err != nil && ctx.Err() != nil:
			h.withdraw(ticket)
			return api.Acquired{}, giveUp("waiting for a lock", 0, false, nil, context.Cause(ctx))
		case errors.Is(err, ErrUnavailable) || errors.Is(err, ErrOutcomeUnknown):
			h.withdraw(ticket)
			return api.Acquired{}, err
		case err != nil || len(place.Grants) > 0:
			return place, err
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

// withdraw leaves the queue, without holding up the caller. A grant that came first is given back with it; if it was on its way to the
// caller when that turned away, it counts as claimed and would stay until the session ends, so the ticket is asked for it.
func (h *hold) withdraw(ticket uint64) {
	o, err := newOp(api.OpCancelWait, api.CancelWait{Ticket: ticket})
	if err != nil {
		h.client.log.Warn("a place in a queue could not be given back; it lapses", "ticket", ticket, "error", err)
		return
	}
	o.tidy = func(o *op) {
		var refused *Error
		switch {
		case o.err == nil:
		case errors.As(o.err, &refused) && refused.Code == api.CodeTicketEnded:
			h.client.reclaim(h, ticket)
		default:
			h.client.log.Warn("a place in a queue was not given back; it lapses", "ticket", ticket, "error", o.err)
		}
	}
	h.client.batches.fire(o)
}

// reclaim asks for the grant of a ticket and gives it back. It is called by a goroutine that Client.Close waits for.
func (c *Client) reclaim(h *hold, ticket uint64) {
	select {
	case c.reclaims <- struct{}{}:
	default:
		c.log.Warn("too many grants to give back; one more goes with its session", "ticket", ticket)
		return
	}
	c.joined.Go(func() {
		defer func() { <-c.reclaims }()
		ctx, cancel := context.WithTimeout(c.life, reclaimFor)
		defer cancel()
		got, err := c.askTicket(ctx, ticket, time.Millisecond)
		var refused *Error
		switch {
		case err == nil && len(got.Grants) > 0:
			h.giveBack(got)
		case err != nil && !errors.As(err, &refused):
			c.log.Warn("a grant that nobody waits for could not be given back; it goes with its session", "ticket", ticket, "error", err)
		}
	})
}

// DeadlockError says that a wait would have closed a circle of waits: it was withdrawn.
type DeadlockError struct {
	Waits []api.WaitFor // who waits for what, and who stands in the way
}

func (e *DeadlockError) Error() string {
	return "client: the wait would close a circle: " + describeWaits(e.Waits)
}

func describeWaits(waits []api.WaitFor) string {
	steps := make([]string, len(waits))
	for i, w := range waits {
		steps[i] = fmt.Sprintf("%s/%s waits for %q, which %s holds", w.Session, w.Owner, w.Name, w.BlockedBy)
		if w.BlockedByTurn {
			steps[i] = fmt.Sprintf("%s/%s waits for %q behind %s", w.Session, w.Owner, w.Name, w.BlockedBy)
		}
	}
	return strings.Join(steps, "; ")
}
