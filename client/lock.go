package client

import (
	"context"
	"fmt"

	"github.com/quiescehq/quiesce/api"
)

// Lock is a lock, shared or not, or some permits, that this process was granted.
type Lock struct{ *hold }

// Name is the name that was asked for.
func (l *Lock) Name() string { return l.grants[0].Name }

// Token is the fencing token of this grant: higher than that of every earlier grant. Hand it to the resource that the lock protects and
// let that refuse lower ones; only so is exclusion certain for a process that was stopped past its lease and does not know it yet.
func (l *Lock) Token() uint64 { return l.grants[0].Token }

// Downgrade makes a writer a reader, under the same token, without letting another writer in between. There is no way back: two readers
// that both wanted it would wait for each other for ever.
func (l *Lock) Downgrade(ctx context.Context) error {
	return l.change(ctx, api.OpDowngrade, api.DowngradeLock{Session: l.lease.session, Name: l.Name(), Token: l.Token()})
}

// HandOff gives the lock to the first in line, or to the waiting session that to names. With ErrNoSuccessor nobody waits who could have
// it, and it stays here. End the work that needs the lock before: until the answer comes Done cannot tell which of the two it will be.
func (l *Lock) HandOff(ctx context.Context, to string) error {
	o, err := newOp(api.OpHandOff, api.HandOffLock{Session: l.lease.session, Name: l.Name(), Token: l.Token(), To: to})
	if err != nil {
		return err
	}
	o.sticky, o.tidy = true, l.handedOff
	if err := l.client.batches.do(ctx, o); err != nil {
		return fmt.Errorf("hand off %s: %w", l, err)
	}
	l.handedOff(o) // who waited is woken before an operation is tidied up, and must find the handle closed
	return nil
}

// handedOff closes the handle once the lock is gone, also for a caller that did not wait for it. When that is unknown the lock counts as
// lost, and is released if it is still here.
func (h *hold) handedOff(o *op) {
	switch {
	case o.err == nil:
		h.lease.drop(h)
		h.end(ErrUnlocked)
	case o.inDoubt():
		h.lease.drop(h)
		h.end(ErrLockLost)
		h.lease.owe(h)
	}
}

// change sends what alters a grant that stays this caller's.
func (h *hold) change(ctx context.Context, name string, body any) error {
	o, err := newOp(name, body)
	if err == nil {
		err = h.client.batches.do(ctx, o)
	}
	if err != nil {
		return fmt.Errorf("%s of %s: %w", name, h, err)
	}
	return nil
}

// Locks are several locks that were granted together and go together: they are lost when the first of them is.
type Locks struct{ *hold }

// Token is the fencing token of one of the names, 0 for a name that was not asked for.
func (l *Locks) Token(name string) uint64 { return l.Tokens()[name] }

// Tokens gives the fencing token of each name.
func (l *Locks) Tokens() map[string]uint64 {
	tokens := make(map[string]uint64, len(l.grants))
	for _, g := range l.grants {
		tokens[g.Name] = g.Token
	}
	return tokens
}
