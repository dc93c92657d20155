package failover

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mysql"
	"github.com/quiescehq/quiesce/rediscache"
)

// PollsMax bounds the answers that are remembered of a store.
const PollsMax = 120

// ErrConfig means that a Config cannot be used.
var ErrConfig = errors.New("failover: configuration not usable")

var errRefused = errors.New("refused")

// Log is what the task needs of the replicated log.
type Log interface {
	Propose(ctx context.Context, ops ...fsm.Op) ([]fsm.Result, error)
	View(f func(*fsm.State))
}

// Target is a Redis. [rediscache.Target] is one.
type Target interface {
	Identity(ctx context.Context) (rediscache.Identity, error)
}

// Source is a MySQL. [mysql.Source] is one.
type Source interface {
	Position(ctx context.Context) (mysql.Position, error)
	Holds(ctx context.Context, p, earlier mysql.Position) (holds, known bool, err error)
}

// Memory knows what was written lately. [outbox.Task] is one.
type Memory interface {
	WrittenSince(target string, since time.Time) (rows []fsm.RowRef, covered bool)
}

// Config sets the rhythm. See [Default].
type Config struct {
	Every          time.Duration // between two looks at a store
	CallTimeout    time.Duration
	ProposeTimeout time.Duration
	PassRetry      time.Duration // before another pass is started for a doubt whose pass did not end it
	Slack          time.Duration // taken off every moment up to which something lasted
	ConfirmMs      uint64        // of the passes
}

// Default gives the rhythm for production.
func Default() Config {
	return Config{Every: time.Second, CallTimeout: 2 * time.Second, ProposeTimeout: 10 * time.Second, PassRetry: 30 * time.Second, Slack: 2 * time.Second, ConfirmMs: 2_000}
}

// Parts is what a Task works with.
type Parts struct {
	Log     Log
	Targets map[string]Target
	Sources map[string]Source
	Memory  Memory
	Logger  *slog.Logger
}

// Task watches the stores while this node leads.
type Task struct {
	Parts
	config Config
}

// New checks the configuration; the error wraps [ErrConfig].
func New(config Config, parts Parts) (*Task, error) {
	if config.Every <= 0 || config.CallTimeout <= 0 || config.ProposeTimeout <= 0 || config.PassRetry <= 0 || config.Slack < 0 {
		return nil, ErrConfig
	}
	return &Task{Parts: parts, config: config}, nil
}

// Name is the task's name in logs.
func (t *Task) Name() string { return "failover" }

// Run watches until ctx ends, and then answers nil. Stores that no mapping names are watched too: the configuration bounds them.
func (t *Task) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	watch := func(look func(context.Context)) {
		group.Go(func() error {
			ticker := time.NewTicker(t.config.Every)
			defer ticker.Stop()
			for ctx.Err() == nil {
				look(ctx)
				select {
				case <-ticker.C:
				case <-ctx.Done():
				}
			}
			return nil
		})
	}
	for name, target := range t.Targets {
		watch((&targetWatch{task: t, name: name, target: target}).look)
	}
	for name, source := range t.Sources {
		watch((&sourceWatch{task: t, name: name, source: source}).look)
	}
	watch((&doubts{task: t, tried: map[string]time.Time{}}).look)
	return group.Wait()
}

// named tells whether a mapping uses the store; others are not written down.
func (t *Task) named(kind fsm.StoreKind, name string) (known fsm.Store, used bool) {
	t.Log.View(func(s *fsm.State) {
		known, _ = s.Store(kind, name)
		used = slices.Contains(s.StoresOf(kind), name)
	})
	return known, used
}

// propose gives the first refusal as an error.
func (t *Task) propose(ctx context.Context, commands ...fsm.Command) ([]fsm.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, t.config.ProposeTimeout)
	defer cancel()
	ops := make([]fsm.Op, len(commands))
	for i, c := range commands {
		ops[i].Command = c
	}
	results, err := t.Log.Propose(ctx, ops...)
	if err != nil {
		return nil, err
	}
	for _, r := range results {
		if r.Refused() {
			return results, errors.Join(errRefused, errors.New(string(r.Code)+": "+r.Detail))
		}
	}
	return results, nil
}

// targetWatch watches one target.
type targetWatch struct {
	task    *Task
	name    string
	target  Target
	history []poll
}

func (w *targetWatch) look(ctx context.Context) {
	asked := time.Now()
	call, cancel := context.WithTimeout(ctx, w.task.config.CallTimeout)
	id, err := w.target.Identity(call)
	cancel()
	if err != nil || id.Life == "" || id.Role != rediscache.RolePrimary || id.Loading {
		return
	}
	known, used := w.task.named(fsm.StoreTarget, w.name)
	if !used {
		return
	}
	now := describe(id)
	switch {
	case known.Identity == now:
	case known.Identity == "":
		if !w.observe(ctx, known, now, "") {
			return
		}
	case !w.changed(ctx, known, id):
		return // it is looked at again, with the same history
	}
	if len(w.history) > 0 && describe(w.history[len(w.history)-1].id) != now {
		w.history = nil
	}
	w.history = append(w.history, poll{at: asked, id: id})
	if len(w.history) > PollsMax {
		w.history = slices.Delete(w.history, 0, 1)
	}
}

// changed deals with a target that is not what it was, and answers whether that is written down.
func (w *targetWatch) changed(ctx context.Context, known fsm.Store, id rediscache.Identity) bool {
	found := judge(w.remembered(known), id)
	log := w.task.Logger.With("target", w.name)
	if found.none {
		log.Info("the target changed without losing anything")
		return w.observe(ctx, known, describe(id), "")
	}
	if found.known {
		since := found.since.Add(-w.task.config.Slack)
		if rows, covered := w.task.Memory.WrittenSince(w.name, since); covered {
			if err := w.again(ctx, rows); err == nil {
				log.Warn("the target may have lost writes, they are made again", "reason", found.why, "rows", len(rows), "since", time.Since(since).Round(time.Millisecond))
				return w.observe(ctx, known, describe(id), "")
			}
		}
	}
	if !w.observe(ctx, known, describe(id), found.why) {
		return false
	}
	log.Warn("the target may have lost writes that nobody remembers, its mappings are in doubt", "reason", found.why)
	return true
}

// remembered is the history if it is that of the identity which was written down.
func (w *targetWatch) remembered(known fsm.Store) []poll {
	if n := len(w.history); n > 0 && describe(w.history[n-1].id) == known.Identity {
		return w.history
	}
	return nil
}

func (w *targetWatch) again(ctx context.Context, rows []fsm.RowRef) error {
	for chunk := range slices.Chunk(rows, fsm.EventsBatchMax) {
		if _, err := w.task.propose(ctx, fsm.EnqueueEvents{Events: chunk}); err != nil {
			return err
		}
	}
	return nil
}

func (w *targetWatch) observe(ctx context.Context, known fsm.Store, identity, cause string) bool {
	_, err := w.task.propose(ctx, fsm.ObserveStore{Kind: fsm.StoreTarget, Name: w.name, Before: known.Identity, Identity: identity, Cause: cause})
	return err == nil
}

// sourceWatch watches one source.
type sourceWatch struct {
	task   *Task
	name   string
	source Source
	last   *mysql.Position
}

func (w *sourceWatch) look(ctx context.Context) {
	call, cancel := context.WithTimeout(ctx, 2*w.task.config.CallTimeout)
	defer cancel()
	now, err := w.source.Position(call)
	if err != nil {
		return
	}
	known, used := w.task.named(fsm.StoreSource, w.name)
	if !used {
		return
	}
	cause, ok := w.compare(call, known, now)
	if !ok {
		return
	}
	if known.Identity != now.Server || cause != "" {
		_, err := w.task.propose(ctx, fsm.ObserveStore{Kind: fsm.StoreSource, Name: w.name, Before: known.Identity, Identity: now.Server, Cause: cause})
		if err != nil {
			return
		}
		if cause != "" {
			w.task.Logger.Warn("the source may have lost commits, its mappings are in doubt", "source", w.name, "reason", cause)
		}
	}
	w.last = &now
}

// compare tells what a change means; ok is false when the server did not answer.
func (w *sourceWatch) compare(ctx context.Context, known fsm.Store, now mysql.Position) (cause string, ok bool) {
	switch {
	case known.Identity == "":
		return "", true
	case w.last == nil && known.Identity == now.Server:
		return "", true
	case w.last == nil:
		return "another MySQL server answers, and this leader did not see the one before", true
	}
	holds, comparable, err := w.source.Holds(ctx, now, *w.last)
	switch {
	case err != nil:
		return "", false
	case comparable && !holds:
		return "the MySQL server lacks commits that were there", true
	case !comparable && known.Identity != now.Server:
		return "another MySQL server answers, and without a binlog nobody can tell what it lacks", true
	}
	return "", true
}

// doubts starts the passes that end doubts.
type doubts struct {
	task  *Task
	tried map[string]time.Time // by mapping
}

func (d *doubts) look(ctx context.Context) {
	var start []fsm.StartPass
	d.task.Log.View(func(s *fsm.State) {
		s.Doubts(func(x fsm.Doubt) bool {
			m, _ := s.Mapping(x.Mapping)
			p, there := s.Pass(x.Pass)
			switch {
			case there && underWay(p.State):
			case time.Since(d.tried[x.Mapping]) >= d.task.config.PassRetry:
				start = append(start, fsm.StartPass{Mapping: x.Mapping, PassOptions: d.task.options(m), Doubt: true})
			}
			return true
		})
	})
	for _, x := range start {
		d.tried[x.Mapping] = time.Now()
		results, err := d.task.propose(ctx, x)
		if err != nil { // another pass is running, or the log does not answer: it is tried again
			d.task.Logger.Warn("no pass over a mapping in doubt could begin", "mapping", x.Mapping, "error", err)
			continue
		}
		d.task.Logger.Info("a pass is to end the doubt about a mapping", "mapping", x.Mapping, "pass", results[0].Pass.ID)
	}
}

// underWay: a pass that is paused or held goes on when somebody lets it.
func underWay(state fsm.PassState) bool {
	return state == fsm.PassRunning || state == fsm.PassPaused || state == fsm.PassHeld
}

// options are those of the pass that ends a doubt about a mapping. Where it owns its prefix, keys whose row is gone are looked for as well: an old dump brings them back, and no pass over the table finds
// them. What is only invalidated has no value that could be compared, so every key of it is removed.
func (t *Task) options(m fsm.Mapping) fsm.PassOptions {
	var spec struct {
		Mode       string `json:"mode"`
		OwnsPrefix bool   `json:"owns_prefix"`
	}
	_ = json.Unmarshal(m.Spec, &spec) // what cannot be read ends its pass with the reason
	out := fsm.PassOptions{Mode: fsm.PassRewrite, Cap: fsm.TokenMax, ConfirmMs: t.config.ConfirmMs, Extras: spec.OwnsPrefix}
	if spec.Mode == "invalidate" {
		out.Mode = fsm.PassInvalidate
	}
	return out
}
