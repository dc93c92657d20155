package outbox

import (
	"sync"
	"time"

	"github.com/quiescehq/quiesce/fsm"
)

// What happened to a row, in a timeline.
const (
	HappenedApplied    = "applied"
	HappenedSuperseded = "superseded"
	HappenedRenewed    = "renewed" // older than its rule: got a new token instead
	HappenedFailed     = "failed"
	HappenedDead       = "dead"
)

var happened = map[itemState]string{itemApplied: HappenedApplied, itemSuperseded: HappenedSuperseded, itemRenewed: HappenedRenewed, itemFailed: HappenedFailed, itemDead: HappenedDead}

// Entry is one delivery of a row.
type Entry struct {
	Age    time.Duration
	What   string
	Token  uint64
	Detail string
}

// timeline remembers the last deliveries of all rows together. It dies with the run.
type timeline struct {
	mu    sync.Mutex
	began time.Time
	ring  []moment
	next  int
}

type moment struct {
	row   fsm.RowRef
	at    time.Time
	what  string
	token uint64
	fault *fault // one for all the rows that share it
}

func newTimeline(entriesMax int) *timeline {
	return &timeline{began: time.Now(), ring: make([]moment, 0, entriesMax)}
}

// note records what became of a batch.
func (t *timeline) note(done *report) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range done.items {
		it := &done.items[i]
		what := happened[it.state]
		if what == "" {
			continue
		}
		m := moment{row: rowOf(it.event), at: now, what: what, token: it.event.Token, fault: it.fault}
		if len(t.ring) < cap(t.ring) {
			t.ring = append(t.ring, m)
			continue
		}
		t.ring[t.next] = m
		t.next = (t.next + 1) % len(t.ring)
	}
}

// of gives a row's entries, the oldest first, and since when everything is remembered.
func (t *timeline) of(row fsm.RowRef) (since time.Duration, entries []Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	since = time.Since(t.began)
	if len(t.ring) == cap(t.ring) {
		since = time.Since(t.ring[t.next].at)
	}
	for i := range t.ring {
		m := &t.ring[(t.next+i)%len(t.ring)]
		if m.row != row {
			continue
		}
		e := Entry{Age: time.Since(m.at), What: m.what, Token: m.token}
		if m.fault != nil {
			e.Detail = m.fault.class + ": " + m.fault.detail
		}
		entries = append(entries, e)
	}
	return since, entries
}

// Timeline is what this leader remembers of a row, the oldest first, and how far back it remembers anything. It may be called inside Log.View.
func (t *Task) Timeline(row fsm.RowRef) (since time.Duration, entries []Entry) {
	t.mu.Lock()
	r := t.current
	t.mu.Unlock()
	if r == nil {
		return 0, nil
	}
	return r.timeline.of(row)
}
