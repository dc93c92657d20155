package outbox

import (
	"math"
	"sync"
	"time"

	"github.com/quiescehq/quiesce/fsm"
)

// unknownRevision stands for a settlement whose outcome is unknown: it may have happened at any time since.
const unknownRevision = math.MaxUint64

// ledger knows which rows are in a batch and which were settled lately. One goroutine writes; it may read the claims without the lock.
type ledger struct {
	mu      sync.Mutex
	claims  map[fsm.RowRef]struct{}
	settled map[fsm.RowRef]settlement // the last of each row that is in the ring
	ring    []settlement              // oldest first from next on, once it is full
	next    int
	count   uint64
	newest  uint64    // highest revision recorded
	floor   uint64    // settlements after this revision are all remembered
	since   time.Time // and so are those from this moment on
}

type settlement struct {
	row      fsm.RowRef
	revision uint64
	number   uint64 // counts settlements: tells two of one row apart
	at       time.Time
}

// newLedger covers what happens after the given revision.
func newLedger(rowsMax int, revision uint64) *ledger {
	return &ledger{claims: map[fsm.RowRef]struct{}{}, settled: map[fsm.RowRef]settlement{}, ring: make([]settlement, 0, rowsMax), newest: revision, floor: revision, since: time.Now()}
}

func (l *ledger) claimed(row fsm.RowRef) bool {
	_, ok := l.claims[row]
	return ok
}

func (l *ledger) claim(events []fsm.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range events {
		l.claims[rowOf(&events[i])] = struct{}{}
	}
}

// release ends the claims of a batch and remembers in the same step what it settled, so that Recent never sees a gap between the two.
func (l *ledger) release(events []fsm.Event, settled []fsm.RowRef, revision uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for _, row := range settled {
		l.remember(settlement{row: row, revision: revision, at: now})
	}
	for i := range events {
		delete(l.claims, rowOf(&events[i]))
	}
}

func (l *ledger) remember(s settlement) {
	if s.revision != unknownRevision {
		l.newest = max(l.newest, s.revision)
	}
	l.count++
	s.number = l.count
	l.settled[s.row] = s
	if len(l.ring) < cap(l.ring) {
		l.ring = append(l.ring, s)
		return
	}
	l.forget(l.ring[l.next])
	l.ring[l.next] = s
	l.next = (l.next + 1) % len(l.ring)
}

// forget raises the floor. A settlement of unknown outcome has been decided by the time a whole ring of others was recorded.
func (l *ledger) forget(old settlement) {
	l.floor = max(l.floor, min(old.revision, l.newest))
	l.since = old.at
	if l.settled[old.row].number == old.number {
		delete(l.settled, old.row)
	}
}

func (l *ledger) recent(row fsm.RowRef, since uint64) (touched, covered bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.claimed(row) {
		return true, true
	}
	last, ok := l.settled[row]
	return ok && last.revision > since, since >= l.floor
}

func rowOf(e *fsm.Event) fsm.RowRef { return fsm.RowRef{Mapping: e.Mapping, PK: e.PK} }
