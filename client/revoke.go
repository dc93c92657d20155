package client

import (
	"slices"
	"time"

	"github.com/quiescehq/quiesce/api"
)

// Revocation says that somebody asked for a lock back.
type Revocation struct {
	Reason string
	Until  time.Time // the lock is lost then, a little before the coordinator takes it
}

// Revoked is closed when an operator asked the holder to give the lock back. Whoever heeds it ends the work and unlocks before
// Revocation().Until; then Done closes too, for the coordinator takes the lock.
func (h *hold) Revoked() <-chan struct{} {
	h.lease.mu.Lock()
	defer h.lease.mu.Unlock()
	return h.revokedLocked()
}

func (h *hold) revokedLocked() chan struct{} {
	if h.revoked == nil {
		h.revoked = make(chan struct{})
	}
	return h.revoked
}

// Revocation tells why and until when, once Revoked is closed; before it is zero.
func (h *hold) Revocation() Revocation {
	h.lease.mu.Lock()
	defer h.lease.mu.Unlock()
	return h.revocation
}

// revokeLocked takes notice of what is asked back. The time counts from the sending of the keepalive that brought the news, and each
// keepalive brings it anew: the last one counts, for an operator may have asked again for another time.
func (l *lease) revokeLocked(sent time.Time, asked []api.Revocation) {
	for _, r := range asked {
		for h := range l.held {
			if h.has(r.Name, r.Token) {
				within := time.Duration(r.TakenInMs) * time.Millisecond
				h.revokeLocked(Revocation{Reason: r.Reason, Until: sent.Add(within - min(within, l.ttl)/leaseMargin)})
			}
		}
	}
}

func (h *hold) has(name string, token uint64) bool {
	return slices.ContainsFunc(h.grants, func(g api.Grant) bool { return g.Token == token && g.Name == name })
}

func (h *hold) revokeLocked(r Revocation) {
	if h.revocation.Until.IsZero() {
		close(h.revokedLocked())
		h.taking = time.AfterFunc(time.Until(r.Until), h.takeAway)
	} else {
		h.taking.Reset(time.Until(r.Until))
	}
	h.revocation = r
}

// takeAway gives up what was not given back in time. It is released all the same: there may be other names under the handle.
func (h *hold) takeAway() {
	l := h.lease
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, held := l.held[h]; !held {
		return
	}
	if left := time.Until(h.revocation.Until); left > 0 { // asked again for a later time as the timer fired
		h.taking.Reset(left)
		return
	}
	l.dropLocked(h)
	h.end(ErrLockRevoked)
	l.lapsed = append(l.lapsed, h)
}
