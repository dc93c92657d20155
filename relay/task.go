package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quiescehq/quiesce/fsm"
)

// Parts is what a Task works with. Sources are by the names of the configuration, and are not changed after New.
type Parts struct {
	Log     Log
	Mapper  Mapper
	Sources map[string]Source
	Logger  *slog.Logger
}

// Task relays the outbox tables of its sources and looks at their fences, while its node leads. Its methods may be called from any goroutine; Run
// by one at a time.
type Task struct {
	config Config
	Parts
	places map[string]*place
}

// New checks the configuration. It starts nothing.
func New(config Config, parts Parts) (*Task, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if parts.Log == nil || parts.Mapper == nil || parts.Logger == nil {
		return nil, fmt.Errorf("%w: log, mapper and logger are needed", ErrConfig)
	}
	t := &Task{config: config, Parts: parts, places: map[string]*place{}}
	for name := range parts.Sources {
		t.places[name] = newPlace(name)
	}
	return t, nil
}

// Name is the task's name in logs.
func (t *Task) Name() string { return "relay" }

// Run relays until ctx ends; that is no error. It is called anew in each term of this node, and not twice at once.
func (t *Task) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { <-ctx.Done(); return nil }) // also where there is no source: a task that returns is started again
	for _, name := range slices.Sorted(maps.Keys(t.Sources)) {
		t.places[name].begin()
		defer t.places[name].end()
		group.Go(func() error { return newMover(t, name).run(ctx) })
		group.Go(func() error { return newProber(t, name).run(ctx) })
		group.Go(func() error { return newPurger(t, name).run(ctx) })
	}
	return group.Wait()
}

// Serves tells whether the source has a relay, and so somebody who looks at its fences.
func (t *Task) Serves(source string) bool { return t.places[source] != nil }

// Nudge has the relay of a source look at its table now. It is false if there is none.
func (t *Task) Nudge(source string) bool {
	p, ok := t.places[source]
	if ok {
		p.nudge()
	}
	return ok
}

// Mark notes a moment. See [Task.Drained].
func (t *Task) Mark(source string) uint64 {
	if p, ok := t.places[source]; ok {
		return p.begun.Load()
	}
	return 0
}

// Drained tells whether every row that could be seen in the outbox table of a source when the mark was taken has become events, or was refused:
// a reading that began later went to the end of the table, and the log has taken what it found. Since a transaction's rows appear together,
// whoever reads a table first and takes the mark then knows after Drained that the outbox had nothing to say any more of what was read. A source
// without a relay has no such rows: true. While a relay is paused, fails or has a full batch at each reading, it stays false.
func (t *Task) Drained(source string, mark uint64) bool {
	p, ok := t.places[source]
	return !ok || p.drained.Load() > mark
}

var errLogSilent = errors.New("the log did not answer in time")

// propose puts one command into an entry. A refusal is a result.
func (t *Task) propose(ctx context.Context, command fsm.Command) (fsm.Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, t.config.ProposeTimeout, errLogSilent)
	defer cancel()
	results, err := t.Log.Propose(ctx, fsm.Op{Command: command})
	if err != nil {
		return fsm.Result{}, err
	}
	if len(results) != 1 {
		return fsm.Result{}, fmt.Errorf("relay: %d results for one command", len(results))
	}
	return results[0], nil
}

// paused tells whether the relay of a source is, with its probes.
func (t *Task) paused(source string) (paused bool) {
	t.Log.View(func(s *fsm.State) { paused = s.RelayPaused(source) })
	return paused
}

// complaint says a failure once, and again only when it is another one.
type complaint struct {
	logger   *slog.Logger
	what     string
	said     string
	failures int
}

func (c *complaint) fail(reason string, err error) {
	c.failures++
	if c.said != reason {
		c.said = reason
		c.logger.Warn(c.what, "reason", reason, "error", err)
	}
}

func (c *complaint) recover() {
	if c.said != "" {
		c.logger.Info(c.what + ": over")
	}
	c.said, c.failures = "", 0
}

// aLongTime is for who is woken otherwise.
const aLongTime = time.Hour
