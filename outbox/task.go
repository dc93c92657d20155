package outbox

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"

	"github.com/quiescehq/quiesce/fsm"
)

// Task delivers the outbox while this node leads. Its methods may be called from any goroutine; Run by one at a time.
type Task struct {
	cfg    Config
	log    Log
	sites  Places
	logger *slog.Logger
	jitter jitter
	tap    func([]fsm.Event) // told of events whose delivery begins; nil: nobody

	mu      sync.Mutex
	tallies map[string]*tally // by mapping, over all runs of this process
	current *run              // nil while none is running
}

// New checks the configuration; the error wraps [ErrConfig].
func New(cfg Config, log Log, places Places, logger *slog.Logger) (*Task, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Task{cfg: cfg, log: log, sites: places, logger: logger, jitter: rand.Uint64N, tallies: map[string]*tally{}}, nil
}

// Tap has f told of the events whose delivery begins. It is called before Run; f is quick, and keeps nothing of the slice.
func (t *Task) Tap(f func([]fsm.Event)) { t.tap = f }

// Name is the task's name in logs.
func (t *Task) Name() string { return "outbox" }

// Run delivers until ctx ends, and then answers nil.
func (t *Task) Run(ctx context.Context) error {
	r := newRun(t)
	t.become(r)
	defer t.become(nil)
	return r.loop(ctx)
}

func (t *Task) become(r *run) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current = r
}

// Recent tells whether the row's key may have been written by a delivery that was under way at the given revision of the state or settled after it. Where covered is false,
// an answer of not touched means nothing. See the package comment for the order in which to ask.
func (t *Task) Recent(row fsm.RowRef, sinceRevision uint64) (touched, covered bool) {
	t.mu.Lock()
	r := t.current
	t.mu.Unlock()
	if r == nil {
		return false, false
	}
	return r.ledger.recent(row, sinceRevision)
}
