package failover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/quiescehq/quiesce/cluster_test/services"
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mysql"
	"github.com/quiescehq/quiesce/rediscache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 60 * time.Second

var errLogGone = errors.New("the log does not answer")

// memory is a log of one process, and what was written lately.
type memory struct {
	mu      sync.Mutex
	state   *fsm.State
	deaf    func(fsm.Command) bool // whose entries get no answer and are not applied
	rows    []fsm.RowRef
	covered bool
	asked   []time.Time
}

func newMemory(t *testing.T) *memory {
	m := &memory{state: fsm.New()}
	m.do(t, fsm.TermStart{Node: "n1"})
	m.do(t, fsm.PutMapping{Name: "orders", Source: "main", Target: "cache", Spec: []byte(`{"mode":"write_through"}`)})
	m.do(t, fsm.PutMapping{Name: "pages", Source: "main", Target: "cache", Spec: []byte(`{"mode":"invalidate"}`)})
	return m
}

func (m *memory) View(f func(*fsm.State)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(m.state)
}

func (m *memory) Propose(_ context.Context, ops ...fsm.Op) ([]fsm.Result, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.deaf != nil && m.deaf(ops[0].Command) {
		return nil, errLogGone
	}
	results, _ := m.state.Apply(1, fsm.Entry{Now: m.state.Now() + 1, Ops: ops})
	return results, nil
}

func (m *memory) do(t *testing.T, c fsm.Command) fsm.Result {
	t.Helper()
	results, err := m.Propose(t.Context(), fsm.Op{Command: c})
	if err != nil || results[0].Refused() {
		t.Fatalf("%T: %+v %v", c, results, err)
	}
	return results[0]
}

func (m *memory) WrittenSince(_ string, since time.Time) ([]fsm.RowRef, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, since)
	return m.rows, m.covered
}

// remembers sets what WrittenSince answers.
func (m *memory) remembers(covered bool, rows ...fsm.RowRef) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows, m.covered = rows, covered
}

func (m *memory) identity(kind fsm.StoreKind, name string) (identity string) {
	m.View(func(s *fsm.State) {
		known, _ := s.Store(kind, name)
		identity = known.Identity
	})
	return identity
}

func (m *memory) doubt(mapping string) (d fsm.Doubt, ok bool) {
	m.View(func(s *fsm.State) { d, ok = s.DoubtOf(mapping) })
	return d, ok
}

func (m *memory) pending() (n int) {
	m.View(func(s *fsm.State) { n = s.PendingCount() })
	return n
}

type world struct {
	*memory
	t    *testing.T
	own  *services.Instance
	task *Task

	target *rediscache.Target
	looks  atomic.Int64
}

func newWorld(t *testing.T) *world {
	own := services.Own(t)
	target, err := rediscache.Open(rediscache.Config{Name: "cache", Addr: own.RedisAddr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = target.Close() })
	source, err := mysql.Open(mysql.Config{Name: "main", DSN: own.MySQLDSN})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = source.Close() })
	w := &world{memory: newMemory(t), t: t, own: own, target: target}
	cfg := Default()
	cfg.Every, cfg.PassRetry, cfg.Slack = 20*time.Millisecond, 50*time.Millisecond, 0
	w.task, err = New(cfg, Parts{Log: w, Targets: map[string]Target{"cache": counted{target, &w.looks}}, Sources: map[string]Source{"main": source}, Memory: w, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// lead runs the task until the test, or the caller, ends it, and waits until both stores are known.
func (w *world) lead() (resign func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.task.Run(ctx) }()
	resign = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(resign)
	w.until("both stores to be known", func() bool {
		return w.identity(fsm.StoreTarget, "cache") != "" && w.identity(fsm.StoreSource, "main") != ""
	})
	return resign
}

func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-ticker.C {
		if ok() {
			return
		}
	}
	w.t.Fatalf("never: %s", what)
}

func (w *world) redis(command ...any) {
	w.t.Helper()
	c := redis.NewClient(&redis.Options{Addr: w.own.RedisAddr})
	defer c.Close()
	if err := c.Do(w.t.Context(), command...).Err(); err != nil {
		w.t.Fatalf("%v: %v", command, err)
	}
}

// save dumps until the server tells of it: a dump in the second of its start it cannot tell from none.
func (w *world) save() (at time.Time) {
	w.t.Helper()
	w.until("a dump", func() bool {
		w.redis("SAVE")
		at = time.Now()
		id, err := w.target.Identity(w.t.Context())
		return err == nil && id.Servers[0].SavedMillis > 0
	})
	return at
}

// looked waits until the task has asked the target after now, and has dealt with the answer: it asks again only then.
func (w *world) looked() {
	w.t.Helper()
	before := w.looks.Load()
	w.until("two more looks", func() bool { return w.looks.Load() >= before+3 })
}

// counted counts the looks of the task.
type counted struct {
	Target
	looks *atomic.Int64
}

func (c counted) Identity(ctx context.Context) (rediscache.Identity, error) {
	c.looks.Add(1)
	return c.Target.Identity(ctx)
}

// restart kills Redis and starts it again, and waits until that is written down.
func (w *world) restart() {
	w.t.Helper()
	w.looked()
	before := w.identity(fsm.StoreTarget, "cache")
	w.own.KillRedis()
	w.own.StartRedis()
	w.until("the restart to be seen", func() bool { return w.identity(fsm.StoreTarget, "cache") != before })
}

func TestTarget_WhatNobodyRememberedIsInDoubt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.lead()
	w.restart() // it kept nothing on disk
	d, ok := w.doubt("orders")
	if _, pages := w.doubt("pages"); !ok || !pages || d.Cause == "" {
		t.Fatalf("%+v, %v", d, ok)
	}
	// A pass is started for what can be compared, and its end is that of the doubt.
	w.until("a pass", func() bool { d, _ = w.doubt("orders"); return d.Pass != 0 })
	w.do(t, fsm.FinishPass{ID: d.Pass, Reason: "the source went away"})
	first := d.Pass
	w.until("another pass", func() bool { d, _ = w.doubt("orders"); return d.Pass != first })
	w.do(t, fsm.FinishPass{ID: d.Pass})
	if _, ok := w.doubt("orders"); ok {
		t.Error("the doubt outlives its pass")
	}
	w.until("a pass over what is only invalidated", func() bool { d, _ = w.doubt("pages"); return d.Pass != 0 })
	w.do(t, fsm.FinishPass{ID: d.Pass})
	if _, ok := w.doubt("pages"); ok {
		t.Error("the doubt about what is only invalidated outlives its pass")
	}
}

func TestTarget_LostWritesThatAreRememberedAreMadeAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.lead()
	saved := w.save()
	w.remembers(true, fsm.RowRef{Mapping: "orders", PK: `["1"]`}, fsm.RowRef{Mapping: "orders", PK: `["2"]`})
	w.restart()
	if _, ok := w.doubt("orders"); ok || w.pending() != 2 {
		t.Errorf("in doubt: %v, %d events", ok, w.pending())
	}
	if since := w.asked[0]; since.After(saved) || since.Before(saved.Add(-10*time.Second)) {
		t.Errorf("asked for what was written since %s before the dump", saved.Sub(since))
	}
	// With a memory that does not reach back, the same is a doubt.
	w.save()
	w.remembers(false)
	w.restart()
	if _, ok := w.doubt("orders"); !ok {
		t.Error("no doubt, though not all is remembered")
	}
}

func TestTarget_RestartThatLosesNothingIsNoDoubt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.lead()
	w.redis("CONFIG", "SET", "appendfsync", "always")
	w.redis("CONFIG", "SET", "appendonly", "yes")
	w.restart()
	if _, ok := w.doubt("orders"); ok || w.pending() != 0 {
		t.Errorf("in doubt: %v, %d events", ok, w.pending())
	}
}

func TestTarget_LeaderThatDiesInBetweenLeavesTheNextOneInDoubt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	resign := w.lead()
	w.save()
	w.looked()
	w.remembers(true, fsm.RowRef{Mapping: "orders", PK: `["1"]`})
	w.mu.Lock()
	w.deaf = func(c fsm.Command) bool { _, ok := c.(fsm.ObserveStore); return ok }
	w.mu.Unlock()
	w.own.KillRedis()
	w.own.StartRedis()
	w.until("the events of the first leader", func() bool { return w.pending() == 1 })
	resign()
	w.mu.Lock()
	w.deaf = nil
	w.mu.Unlock()
	w.lead()
	w.until("the doubt of the second", func() bool { _, ok := w.doubt("orders"); return ok })
}

func TestSource_ServerThatKeepsNoHistoryAndWasReplacedIsInDoubt(t *testing.T) {
	t.Parallel()
	m := newMemory(t)
	now := &scripted{position: mysql.Position{Server: "a", Flavour: "mysql"}, comparable: true, holds: true}
	w := &sourceWatch{task: &Task{Parts: Parts{Log: m, Logger: slog.New(slog.DiscardHandler)}, config: Default()}, name: "main", source: now}
	for i, step := range []struct {
		server            string
		comparable, holds bool
		doubt             bool
	}{
		{"a", true, true, false},
		{"b", true, true, false}, // a switch that lost nothing
		{"b", true, true, false},
		{"b", true, false, true}, // the same server, with less than it had: restored from a dump
		{"c", false, false, true},
		{"c", false, false, false}, // no history, but the same server
		{"d", true, false, true},
	} {
		now.position.Server, now.comparable, now.holds = step.server, step.comparable, step.holds
		w.look(t.Context())
		_, doubt := m.doubt("orders")
		if doubt != step.doubt || m.identity(fsm.StoreSource, "main") != step.server {
			t.Errorf("step %d: in doubt %v, identity %q", i+1, doubt, m.identity(fsm.StoreSource, "main"))
		}
		m.do(t, fsm.PutMapping{Name: "orders", Source: "main", Target: "cache", Spec: []byte(fmt.Sprintf(`{"n":%d}`, i))})
		m.do(t, fsm.DeleteMapping{Name: "orders"}) // and its doubt
		m.do(t, fsm.PutMapping{Name: "orders", Source: "main", Target: "cache", Spec: []byte(`{}`)})
	}
	// A leader that did not see the one before knows nothing.
	w = &sourceWatch{task: w.task, name: "main", source: now}
	now.position.Server, now.comparable, now.holds = "e", true, true
	w.look(t.Context())
	if _, ok := m.doubt("orders"); !ok {
		t.Error("no doubt")
	}
}

// scripted is a source that says what it is told to: a MySQL failover needs more servers than a test has.
type scripted struct {
	position          mysql.Position
	comparable, holds bool
}

func (s *scripted) Position(context.Context) (mysql.Position, error) { return s.position, nil }
func (s *scripted) Holds(context.Context, mysql.Position, mysql.Position) (bool, bool, error) {
	return s.holds, s.comparable, nil
}
