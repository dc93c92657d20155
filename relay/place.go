package relay

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// States of a relay.
const (
	StateRunning = "running"
	StatePaused  = "paused"
	StateFull    = "full"    // the outbox has no room: rows wait in MySQL
	StateFailing = "failing" // see Detail
)

// Status is how one relay is. Figures are of this process; Relayed and Refused also tell those of the present run.
type Status struct {
	Source  string
	Running bool // a run of the task is under way
	State   string
	Detail  string

	Relayed, RelayedTotal uint64 // rows
	Refused, RefusedTotal uint64 // rows that were set aside

	Oldest  time.Duration // age of the first row of the last reading; 0: there was none
	Drained time.Duration // since a reading last found the end of the table; negative: never in this run
	Open    int           // fences that the last look found open
}

// place is what is known of one source across runs.
type place struct {
	name    string
	nudged  chan struct{}
	begun   atomic.Uint64 // readings of the table that have begun
	drained atomic.Uint64 // the last of them that went to the end, and whose rows are in the log

	mu        sync.Mutex
	status    Status
	before    Status // totals at the beginning of the run
	drainedAt time.Time
}

func newPlace(name string) *place {
	return &place{name: name, nudged: make(chan struct{}, 1), status: Status{Source: name, State: StateRunning}}
}

func (p *place) nudge() {
	select {
	case p.nudged <- struct{}{}:
	default:
	}
}

func (p *place) begin() {
	p.update(func(s *Status) {
		p.before, p.drainedAt = *s, time.Time{}
		*s = Status{Source: p.name, Running: true, State: StateRunning, RelayedTotal: s.RelayedTotal, RefusedTotal: s.RefusedTotal}
	})
}

func (p *place) end() { p.update(func(s *Status) { s.Running = false }) }

func (p *place) update(f func(*Status)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.status)
}

// reached notes that a reading went to the end of the table and that its rows are in the log.
func (p *place) reached(reading uint64) {
	p.drained.Store(reading)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drainedAt = time.Now()
}

func (p *place) show() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.status
	s.Relayed, s.Refused = s.RelayedTotal-p.before.RelayedTotal, s.RefusedTotal-p.before.RefusedTotal
	s.Drained = -1
	if !p.drainedAt.IsZero() {
		s.Drained = time.Since(p.drainedAt)
	}
	return s
}

// Status tells of every relay, in the order of their names.
func (t *Task) Status() []Status {
	out := make([]Status, 0, len(t.places))
	for _, name := range slices.Sorted(maps.Keys(t.places)) {
		out = append(out, t.places[name].show())
	}
	return out
}
