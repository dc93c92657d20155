package client

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/quiescehq/quiesce/api"
)

var (
	// ErrLockLost is the Err of a lock whose lease may have run out at the coordinator: somebody else may hold it by now.
	ErrLockLost = errors.New("client: the lock may be lost: its lease could not be renewed in time")
	// ErrLockRevoked is the Err of a lock that was asked back and not given back in time. It is an ErrLockLost too.
	ErrLockRevoked = fmt.Errorf("%w (it was revoked)", ErrLockLost)
	// ErrUnlocked is the Err of a lock after Unlock.
	ErrUnlocked = errors.New("client: the lock was given back")
)

// leaseMargin is the part of the TTL, or of the time given by a revocation, by which this side gives up earlier than the coordinator: it
// covers the time until a goroutine that waits for Lock.Done runs.
const leaseMargin = 10 // TTL / leaseMargin

// lease is what this process knows of its session, and the holds that depend on it.
//
// Its deadline counts from the sending of the last acknowledged keepalive: the coordinator counts from a later moment, so it expires
// later. The lease may lapse here and yet be renewed afterwards; what was given up by then stays given up.
type lease struct {
	session string
	ttl     time.Duration

	mu     sync.Mutex
	until  time.Time
	timer  *time.Timer
	held   map[*hold]struct{}
	taken  uint64  // how many holds there have been
	lapsed []*hold // given up here; the coordinator may still hold them for this session
	ended  error
	done   chan struct{} // closed by end
}

func newLease(session string, ttl time.Duration, sent time.Time) *lease {
	l := &lease{session: session, ttl: ttl, held: map[*hold]struct{}{}, done: make(chan struct{})}
	l.until = sent.Add(ttl - ttl/leaseMargin)
	l.timer = time.AfterFunc(time.Until(l.until), l.lapse)
	return l
}

// renew extends the lease and hears of revocations. It returns what was given up before this news came: it is to be released.
func (l *lease) renew(sent time.Time, remaining time.Duration, asked []api.Revocation) []*hold {
	l.mu.Lock()
	defer l.mu.Unlock()
	until := sent.Add(min(remaining, l.ttl) - l.ttl/leaseMargin)
	if l.ended != nil || !until.After(l.until) {
		return nil
	}
	// A lease that lapsed on the clock but whose timer has not run yet must not come to life again with its locks.
	if !time.Now().Before(l.until) {
		l.giveUpLocked(ErrLockLost)
	}
	l.until = until
	l.timer.Reset(time.Until(until))
	l.revokeLocked(sent, asked)
	lapsed := l.lapsed
	l.lapsed = nil
	return lapsed
}

// lapse runs when the timer fires, perhaps just after a renewal.
func (l *lease) lapse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if left := time.Until(l.until); left > 0 {
		l.timer.Reset(left)
		return
	}
	l.giveUpLocked(ErrLockLost)
}

func (l *lease) giveUpLocked(why error) {
	for h := range l.held {
		l.dropLocked(h)
		h.end(why)
		l.lapsed = append(l.lapsed, h)
	}
}

// end is final: the session is gone or was closed.
func (l *lease) end(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended != nil {
		return
	}
	l.ended = why
	l.timer.Stop()
	l.giveUpLocked(ErrLockLost)
	l.lapsed = nil
	close(l.done)
}

func (l *lease) err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended
}

func (l *lease) aliveLocked() bool { return l.ended == nil && time.Now().Before(l.until) }

// add puts what was granted under the lease, unless that has lapsed while the grant was on its way.
func (l *lease) add(h *hold) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.aliveLocked() {
		return false
	}
	l.taken++
	h.order = l.taken
	l.held[h] = struct{}{}
	return true
}

// drop forgets a hold that is being released.
func (l *lease) drop(h *hold) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dropLocked(h)
	l.lapsed = slices.DeleteFunc(l.lapsed, func(other *hold) bool { return other == h })
}

func (l *lease) dropLocked(h *hold) {
	delete(l.held, h)
	if h.taking != nil {
		h.taking.Stop()
	}
}

// owe notes that a hold was given up and could not be released: the next renewal tries again.
func (l *lease) owe(h *hold) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended == nil {
		l.lapsed = append(l.lapsed, h)
	}
}

// newestFirst lists what is held in the order in which to give it back.
func (l *lease) newestFirst() []*hold {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.SortedFunc(maps.Keys(l.held), func(a, b *hold) int { return cmp.Compare(b.order, a.order) })
}

func (l *lease) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.held)
}
