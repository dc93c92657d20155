package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/quiescehq/quiesce/fsm"
)

// Parts is what a Task works with. Sources and Targets are by the names that mappings use, and are not changed after New. Relays is nil where no source has an outbox table.
type Parts struct {
	Log          Log
	Sources      map[string]Source
	Targets      map[string]Target
	Acknowledged Acknowledgements
	Relays       Relays
	Logger       *slog.Logger
}

// Task runs the passes of the replicated state while its node leads.
type Task struct {
	config Config
	Parts

	mu    sync.Mutex
	under map[uint64]*progress // passes under way
}

// New checks the configuration. It starts nothing.
func New(config Config, parts Parts) (*Task, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if parts.Log == nil || parts.Acknowledged == nil || parts.Logger == nil {
		return nil, fmt.Errorf("%w: log, acknowledgements and logger are needed", ErrConfig)
	}
	return &Task{config: config, Parts: parts, under: map[uint64]*progress{}}, nil
}

// Name is the task's name in logs.
func (t *Task) Name() string { return "reconcile" }

// Run runs every pass that the state calls running, from where it was last logged, until ctx ends; that is no error. It is called anew in
// each term of this node, and not twice at once.
func (t *Task) Run(ctx context.Context) error {
	wake, stop := t.Log.Watch("passes", "")
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	s := &supervisor{task: t, group: group, ended: make(chan uint64), active: map[uint64]context.CancelFunc{}}
	group.Go(func() error { return s.run(ctx, wake) })
	return group.Wait()
}

// supervisor keeps one goroutine for each running pass. Its fields belong to the goroutine of run.
type supervisor struct {
	task   *Task
	group  *errgroup.Group
	ended  chan uint64
	active map[uint64]context.CancelFunc
}

func (s *supervisor) run(ctx context.Context, wake <-chan struct{}) error {
	for {
		s.adjust(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		case id := <-s.ended:
			s.active[id]()
			delete(s.active, id)
		}
	}
}

// adjust ends what the state no longer calls running and starts what it does. A pass that is being ended keeps its place until it is over.
func (s *supervisor) adjust(ctx context.Context) {
	running := s.task.running()
	for id, cancel := range s.active {
		if !slices.ContainsFunc(running, func(p fsm.Pass) bool { return p.ID == id }) {
			cancel()
		}
	}
	for _, p := range running {
		if s.active[p.ID] == nil && len(s.active) < s.task.config.PassesMax {
			s.start(ctx, p)
		}
	}
}

func (s *supervisor) start(ctx context.Context, p fsm.Pass) {
	own, cancel := context.WithCancel(ctx)
	s.active[p.ID] = cancel
	s.group.Go(func() error {
		defer cancel()
		s.task.runPass(own, p)
		select {
		case s.ended <- p.ID:
		case <-ctx.Done():
		}
		return nil
	})
}

// running gives the passes to be run, oldest first.
func (t *Task) running() []fsm.Pass {
	var out []fsm.Pass
	t.Log.View(func(s *fsm.State) {
		s.Passes(0, func(p fsm.Pass) bool {
			if p.State == fsm.PassRunning {
				out = append(out, p)
			}
			return true
		})
	})
	return out
}
