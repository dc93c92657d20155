package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/quiescehq/quiesce/fsm"
)

// Parts is what a Task works with. Sources and Targets are by the names that mappings use, and are not changed after New. Relays is nil where no source has an outbox table.
type Parts struct {
	Log          Log
	Sources      map[string]Source
	Targets      map[string]Target
	Acknowledged Acknowledgements
	Relays       Relays
	Clock        func() time.Time // of the wall, for schedules and their windows; nil: this machine's
	Logger       *slog.Logger
}

// Task runs the passes of the replicated state while its node leads.
type Task struct {
	config Config
	Parts

	shared    *rate.Limiter // of the keys that all passes read; nil: no limit
	agreement *agreement

	mu       sync.Mutex
	under    map[uint64]*progress // passes under way
	standing map[uint64]Progress  // those that run and are not at work
}

// New checks the configuration. It starts nothing.
func New(config Config, parts Parts) (*Task, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if parts.Log == nil || parts.Acknowledged == nil || parts.Logger == nil {
		return nil, fmt.Errorf("%w: log, acknowledgements and logger are needed", ErrConfig)
	}
	if parts.Clock == nil {
		parts.Clock = time.Now
	}
	return &Task{config: config, Parts: parts, shared: newLimiter(uint64(config.KeysPerSecond)), under: map[uint64]*progress{}, agreement: newAgreement(config.SamplesPerSecond)}, nil
}

// Name is the task's name in logs.
func (t *Task) Name() string { return "reconcile" }

// Run runs every pass that the state calls running, from where it was last logged, until ctx ends; that is no error. It is called anew in
// each term of this node, and not twice at once.
func (t *Task) Run(ctx context.Context) error {
	wake, stop := t.Log.Watch("passes", "")
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	s := &supervisor{task: t, group: group, ended: make(chan uint64), active: map[uint64]context.CancelFunc{}, windows: windows{}}
	group.Go(func() error { return s.run(ctx, wake) })
	group.Go(func() error { return newScheduler(t).run(ctx) })
	group.Go(func() error { return t.watchAgreement(ctx, time.Second) })
	return group.Wait()
}

// supervisor keeps one goroutine for each running pass. Its fields belong to the goroutine of run.
type supervisor struct {
	task    *Task
	group   *errgroup.Group
	ended   chan uint64
	active  map[uint64]context.CancelFunc
	windows windows
}

func (s *supervisor) run(ctx context.Context, wake <-chan struct{}) error {
	defer s.task.stand(nil)
	for {
		var look <-chan time.Time
		timer := time.NewTimer(windowEvery)
		if s.adjust(ctx) {
			look = timer.C
		}
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-wake:
		case <-look:
		case id := <-s.ended:
			s.active[id]()
			delete(s.active, id)
		}
		timer.Stop()
	}
}

// adjust ends what the state no longer calls running, or whose window has closed, and starts what may run. A pass that is being ended keeps its place until it is over; one that stands outside its
// window takes none. It tells whether any pass has a window, so that the time of the day matters.
func (s *supervisor) adjust(ctx context.Context) (timed bool) {
	running := s.task.running()
	now, standing := s.task.Clock(), map[uint64]Progress{}
	open := make([]fsm.Pass, 0, len(running))
	for _, p := range running {
		windowed, isOpen := s.windows.open(s.task.Log, p, now)
		timed = timed || windowed
		if isOpen {
			open = append(open, p)
		} else {
			standing[p.ID] = Progress{Pass: p.ID, Mapping: p.Mapping, Phase: p.Phase, Estimate: p.Estimate, Throttled: throttledWindow}
		}
	}
	for id, cancel := range s.active {
		if !slices.ContainsFunc(open, func(p fsm.Pass) bool { return p.ID == id }) {
			cancel()
		}
	}
	for _, p := range open {
		switch {
		case s.active[p.ID] != nil:
		case len(s.active) < s.task.config.PassesMax:
			s.start(ctx, p)
		default:
			standing[p.ID] = Progress{Pass: p.ID, Mapping: p.Mapping, Phase: p.Phase, Estimate: p.Estimate, Waiting: waitTurn}
		}
	}
	s.task.stand(standing)
	return timed
}

// stand notes the passes that are not at work.
func (t *Task) stand(passes map[uint64]Progress) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.standing = passes
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
