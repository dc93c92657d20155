package outbox

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
)

// errSkipped tells a breaker that its place was not asked after all.
var errSkipped = errors.New("not asked")

// placeName identifies what a breaker protects: a target, or one table of a source, since a broken table says nothing of its neighbours.
type placeName struct {
	kind  string // placeTarget or placeSource
	name  string
	table string // of a source
}

const (
	placeTarget = "target"
	placeSource = "source"
)

// place is a target or a source's table with its breaker. The run's deciding goroutine alone admits and reports; Stats reads.
type place struct {
	name     placeName
	breaker  *gobreaker.TwoStepCircuitBreaker[struct{}]
	pause    time.Duration
	probe    int
	rowsMax  int
	logger   *slog.Logger
	mu       sync.Mutex
	since    time.Time // of the present state
	class    string    // of the last fault
	cause    error     // the same, for the log
	rowsNext int       // batch size that the place may be given: the ramp after an outage
	probing  bool      // the one batch that a half-open breaker lets through is under way
}

func newPlace(cfg Config, name placeName, logger *slog.Logger) *place {
	p := &place{name: name, pause: cfg.BreakerOpen, probe: cfg.ProbeRows, rowsMax: cfg.BatchRowsMax, rowsNext: cfg.BatchRowsMax,
		since: time.Now(), logger: logger.With("place", name.kind, "name", name.name, "table", name.table)}
	p.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:   1,
		Timeout:       cfg.BreakerOpen,
		ReadyToTrip:   func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= cfg.BreakerFailures },
		IsExcluded:    func(err error) bool { return errors.Is(err, errSkipped) },
		OnStateChange: p.changed,
	})
	return p
}

// changed runs under the breaker's own lock and must not ask it anything.
func (p *place) changed(_ string, from, to gobreaker.State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.since = time.Now()
	switch to {
	case gobreaker.StateOpen:
		p.rowsNext = p.probe
		if from == gobreaker.StateClosed {
			p.logger.Warn("breaker opened", "class", p.class, "error", p.cause)
		}
	case gobreaker.StateClosed:
		p.logger.Info("breaker closed")
	}
}

// room is how many rows the place may be given at once. While the breaker is open it is none, and wait says for how long; beside a probe it is none until that ends.
func (p *place) room() (rows int, wait time.Duration) {
	state := p.breaker.State()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case state == gobreaker.StateOpen:
		// The breaker lets go strictly after its pause.
		return 0, max(p.pause-time.Since(p.since), 0) + time.Millisecond
	case state == gobreaker.StateHalfOpen && p.probing:
		return 0, 0
	}
	return p.rowsNext, 0
}

// well tells whether the breaker is closed.
func (p *place) well() bool { return p.breaker.State() == gobreaker.StateClosed }

// ticket is the permission for one batch; it must be given back once. The zero ticket is for a place that is not needed.
type ticket struct {
	place *place
	done  func(error)
	probe bool
}

// admit refuses while the breaker is open, and beside a probe.
func (p *place) admit() (ticket, bool) {
	done, err := p.breaker.Allow()
	if err != nil {
		return ticket{}, false
	}
	t := ticket{place: p, done: done, probe: p.breaker.State() == gobreaker.StateHalfOpen}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.probing = t.probe
	return t, true
}

// skip says that the place was not asked.
func (t ticket) skip() { t.giveBack(errSkipped, func() {}) }

// succeed lets the next batches grow.
func (t ticket) succeed() {
	t.giveBack(nil, func() { t.place.rowsNext = min(t.place.rowsNext*2, t.place.rowsMax) })
}

func (t ticket) fail(f *fault) {
	t.giveBack(f.cause, func() { t.place.class, t.place.cause = f.class, f.cause })
}

// giveBack notes before it tells the breaker, which may then change its state and show what was noted.
func (t ticket) giveBack(verdict error, note func()) {
	if t.place == nil {
		return
	}
	t.place.mu.Lock()
	note()
	if t.probe {
		t.place.probing = false
	}
	t.place.mu.Unlock()
	t.done(verdict)
}

// BreakerStats shows one breaker.
type BreakerStats struct {
	Kind      string    // "target" or "source"
	Name      string    // of the target or source
	Table     string    // of a source, else empty
	State     string    // "closed", "half-open" or "open"
	Since     time.Time // wall clock, for display
	LastClass string    // class of the last fault, kept after recovery; empty if there was none
}

func (p *place) stats() BreakerStats {
	state := p.breaker.State() // before our lock: asking may change the state, and that takes it
	p.mu.Lock()
	defer p.mu.Unlock()
	return BreakerStats{Kind: p.name.kind, Name: p.name.name, Table: p.name.table, State: state.String(), Since: p.since, LastClass: p.class}
}
