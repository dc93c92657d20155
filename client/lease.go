package client

import (
	"errors"
	"slices"
	"sync"
	"time"
)

var (
	// ErrLockLost is the Err of a lock whose lease may have run out at the coordinator: somebody else may hold it by now.
	ErrLockLost = errors.New("client: the lock may be lost: its lease could not be renewed in time")
	// ErrUnlocked is the Err of a lock after Unlock.
	ErrUnlocked = errors.New("client: the lock was given back")
)

// leaseMargin is the part of the TTL by which this side gives up earlier than the coordinator: it covers the time until a goroutine that
// waits for Lock.Done runs.
const leaseMargin = 10 // TTL / leaseMargin

// lease is what this process knows of its session, and the locks that depend on it.
//
// Its deadline counts from the sending of the last acknowledged keepalive: the coordinator counts from a later moment, so it expires
// later. The lease may lapse here and yet be renewed afterwards; the locks that were given up by then stay given up.
type lease struct {
	session string
	ttl     time.Duration
	turns   turns

	mu     sync.Mutex
	until  time.Time
	timer  *time.Timer
	held   []*Lock // oldest first
	lapsed []*Lock // given up here; the coordinator may still hold them for this session
	ended  error
	done   chan struct{} // closed by end
}

func newLease(session string, ttl time.Duration, sent time.Time) *lease {
	l := &lease{session: session, ttl: ttl, done: make(chan struct{})}
	l.until = sent.Add(ttl - ttl/leaseMargin)
	l.timer = time.AfterFunc(time.Until(l.until), l.lapse)
	return l
}

// renew extends the lease. It returns the locks that were given up before this news came: they are to be released.
func (l *lease) renew(sent time.Time, remaining time.Duration) []*Lock {
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
	for _, lock := range l.held {
		lock.close(why)
		lock.passTurn()
	}
	l.lapsed = append(l.lapsed, l.held...)
	l.held = nil
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

// alive tells whether the coordinator surely still keeps the session.
func (l *lease) alive() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.aliveLocked()
}

func (l *lease) aliveLocked() bool { return l.ended == nil && time.Now().Before(l.until) }

// add puts a granted lock under the lease, unless that has lapsed while the grant was on its way.
func (l *lease) add(lock *Lock) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.aliveLocked() {
		return false
	}
	l.held = append(l.held, lock)
	return true
}

func (l *lease) remove(lock *Lock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	same := func(other *Lock) bool { return other == lock }
	l.held = slices.DeleteFunc(l.held, same)
	l.lapsed = slices.DeleteFunc(l.lapsed, same)
}

// newestFirst lists the held locks in the order in which to give them back.
func (l *lease) newestFirst() []*Lock {
	l.mu.Lock()
	defer l.mu.Unlock()
	locks := slices.Clone(l.held)
	slices.Reverse(locks)
	return locks
}
