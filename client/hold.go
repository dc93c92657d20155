package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/quiescehq/quiesce/api"
)

// hold is what every handle is: grants of one owner that were taken together and go together.
type hold struct {
	client *Client
	lease  *lease
	grants []api.Grant
	order  uint64 // of taking

	life context.Context // ends when the grants can no longer be relied on; its cause says why
	end  context.CancelCauseFunc

	// Guarded by lease.mu.
	release    *op // once begun
	revoked    chan struct{}
	revocation Revocation
	taking     *time.Timer // of the revocation
}

func newHold(c *Client, l *lease) *hold {
	h := &hold{client: c, lease: l}
	h.life, h.end = context.WithCancelCause(context.Background())
	return h
}

// Done is closed when the lock can no longer be relied on, some time before the coordinator may grant it to another, and by Unlock.
func (h *hold) Done() <-chan struct{} { return h.life.Done() }

// Err is nil while the lock can be relied on, else ErrLockLost, ErrLockRevoked or ErrUnlocked: the first of them that came true, for
// ever. It looks at the clock and is right at once after the process was stopped and resumed, when Done is not closed yet.
func (h *hold) Err() error {
	if h.life.Err() != nil {
		return context.Cause(h.life)
	}
	h.lease.mu.Lock()
	defer h.lease.mu.Unlock()
	switch {
	case !h.lease.aliveLocked():
		return ErrLockLost
	case !h.revocation.Until.IsZero() && !time.Now().Before(h.revocation.Until):
		return ErrLockRevoked
	}
	return nil
}

// Context gives a context for the work that needs the lock: it ends with ctx, or when the lock can no longer be relied on or is given
// back. Then its cause is the lock's Err.
func (h *hold) Context(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	context.AfterFunc(h.life, func() { cancel(context.Cause(h.life)) })
	return ctx
}

// Unlock gives the lock back. Done is closed before the coordinator hears of it. ErrNotHolder says that it had been lost before. The
// release goes on when ctx ends, also when it has ended already; calling Unlock again waits for it once more.
func (h *hold) Unlock(ctx context.Context) error {
	h.lease.drop(h)
	h.end(ErrUnlocked)
	o, err := h.startRelease()
	if err := h.await(ctx, o, err); err != nil {
		return fmt.Errorf("unlock %s: %w", h, err)
	}
	return nil
}

func (h *hold) await(ctx context.Context, o *op, err error) error {
	if err != nil {
		return err
	}
	return h.client.batches.wait(ctx, o)
}

// startRelease gives the operation that releases the hold and sends it if it is new. There is only one that can have been applied: two
// would count a reentrant owner down twice.
func (h *hold) startRelease() (*op, error) {
	h.lease.mu.Lock()
	defer h.lease.mu.Unlock()
	if o := h.release; o != nil && !h.client.batches.surelyNotApplied(o) {
		return o, nil
	}
	o, err := newOp(api.OpRelease, &api.ReleaseLocks{Session: h.lease.session, Locks: h.grants})
	if err != nil {
		return nil, err
	}
	o.sticky, o.keep, o.tidy = true, true, h.released
	if err := h.client.batches.add(o); err != nil {
		return nil, err
	}
	h.release = o
	return o, nil
}

// released looks after what a release could not do.
func (h *hold) released(o *op) {
	switch {
	case o.err == nil:
	case errors.Is(o.err, ErrUnavailable):
		h.lease.owe(h)
	case errors.Is(o.err, ErrNotHolder) && len(h.grants) > 1:
		// All or none: one name that was taken away must not keep the others.
		for _, g := range h.grants {
			rest := newHold(h.client, h.lease)
			rest.grants = []api.Grant{g}
			rest.giveUp()
		}
	case errors.Is(o.err, ErrOutcomeUnknown):
		h.client.log.Warn("whether a lock was given back is unknown; it goes with its session", "lock", h.String(), "error", o.err)
	}
}

// giveUp releases without anybody waiting for it.
func (h *hold) giveUp() {
	h.end(ErrUnlocked)
	if _, err := h.startRelease(); err != nil {
		h.client.log.Warn("a lock could not be given back; it goes with its session", "lock", h.String(), "error", err)
	}
}

// String names what is held.
func (h *hold) String() string { return quoted(h.grants, func(g api.Grant) string { return g.Name }) }

func quoted[T any](list []T, name func(T) string) string {
	var text strings.Builder
	for i, item := range list {
		if i > 0 {
			text.WriteString(", ")
		}
		fmt.Fprintf(&text, "%q", name(item))
	}
	return text.String()
}
