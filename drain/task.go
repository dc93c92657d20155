package drain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/quiescehq/quiesce/fsm"
)

// Source is one MySQL server and how it is watched.
type Source struct {
	Reader Reader
	Watch  Watch
}

// Parts is what a Task works with. Sources and Targets are by the names of the configuration, and are not changed after New.
type Parts struct {
	Log     Log
	Sources map[string]Source
	Targets map[string]Target
	Logger  *slog.Logger
}

// Task finishes what instances leave behind, while its node leads. Its methods may be called from any goroutine; Run by one at a time.
type Task struct {
	config Config
	Parts

	killed map[string]*atomic.Uint64 // by source, over all runs of this process

	mu      sync.Mutex
	current *run // nil while none is running
}

// New checks the configuration. It starts nothing.
func New(config Config, parts Parts) (*Task, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if parts.Log == nil || parts.Logger == nil {
		return nil, fmt.Errorf("%w: log and logger are needed", ErrConfig)
	}
	t := &Task{config: config, Parts: parts, killed: map[string]*atomic.Uint64{}}
	for name, source := range parts.Sources {
		if err := source.Watch.Validate(); err != nil {
			return nil, fmt.Errorf("source %s: %w", name, err)
		}
		t.killed[name] = new(atomic.Uint64)
	}
	return t, nil
}

// Name is the task's name in logs.
func (t *Task) Name() string { return "drain" }

// Run watches transactions, adopts what ended instances left and runs cleanups, until ctx ends; that is no error. It is called anew in each
// term of this node, and not twice at once.
func (t *Task) Run(ctx context.Context) error {
	r := newRun(t)
	t.become(r)
	defer t.become(nil)
	return r.run(ctx)
}

func (t *Task) become(r *run) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current = r
}

func (t *Task) running() *run {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.current
}

// run is one term of the task.
type run struct {
	task     *Task
	roster   *roster
	watchers map[string]*watcher // not changed after newRun
	ended    chan struct{}       // closed when the watchers answer nobody any more
}

func newRun(t *Task) *run {
	r := &run{task: t, roster: &roster{log: t.Log}, watchers: map[string]*watcher{}, ended: make(chan struct{})}
	for name := range t.Sources {
		r.watchers[name] = newWatcher(t, name, r.roster)
	}
	return r
}

func (r *run) run(ctx context.Context) error {
	defer close(r.ended)
	instances, stop := r.task.Log.Watch("instances", "")
	defer stop()
	r.roster.changed = instances
	group, ctx := errgroup.WithContext(ctx)
	for _, name := range slices.Sorted(maps.Keys(r.watchers)) {
		group.Go(func() error { return r.watchers[name].run(ctx) })
	}
	group.Go(func() error { return newAdopter(r).run(ctx) })
	group.Go(func() error { return newNotices(r.task.Log, r.task.Logger).run(ctx) })
	group.Go(func() error { return newCleaner(r.task, group).run(ctx) })
	return group.Wait()
}

// propose puts the commands into one entry. A refusal is a result.
func (t *Task) propose(ctx context.Context, commands ...fsm.Command) ([]fsm.Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, t.config.ProposeTimeout, errLogSilent)
	defer cancel()
	ops := make([]fsm.Op, len(commands))
	for i, command := range commands {
		ops[i].Command = command
	}
	return t.Log.Propose(ctx, ops...)
}

var errLogSilent = errors.New("the log did not answer in time")
