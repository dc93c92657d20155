package relay_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/fsm"
)

var errOutcomeUnknown = errors.New("outcome unknown")

const clusterName = "c-test"

// memoryLog is a log of one replica: the real state, entries that pass through their encoding, and no Raft.
type memoryLog struct {
	mu    sync.RWMutex
	state *fsm.State
	ahead atomic.Uint64 // milliseconds by which cluster time was put forward

	base     time.Time
	watchMu  sync.Mutex
	watchers map[*watcher]struct{}

	// around, if set, stands between the task and the log: it may block, refuse, or lose the entry or its answer.
	around atomic.Pointer[func(ctx context.Context, command fsm.Command, apply func() fsm.Result) ([]fsm.Result, error)]
}

type watcher struct {
	table string
	wake  chan struct{}
}

func newLog(t testing.TB) *memoryLog {
	t.Helper()
	log := &memoryLog{state: fsm.New(), base: time.Now(), watchers: map[*watcher]struct{}{}}
	log.must(t, fsm.TermStart{Node: "n1"})
	return log
}

func (l *memoryLog) ClusterID() string { return clusterName }

func (l *memoryLog) Now() uint64 {
	return 1_000 + l.ahead.Load() + uint64(time.Since(l.base).Milliseconds())
}

func (l *memoryLog) View(f func(*fsm.State)) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	f(l.state)
}

func (l *memoryLog) Propose(ctx context.Context, ops ...fsm.Op) ([]fsm.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	apply := func() fsm.Result { return l.apply(ops[0].Command) }
	if around := l.around.Load(); around != nil {
		return (*around)(ctx, ops[0].Command, apply)
	}
	return []fsm.Result{apply()}, nil
}

func (l *memoryLog) stand(around func(ctx context.Context, command fsm.Command, apply func() fsm.Result) ([]fsm.Result, error)) {
	if around == nil {
		l.around.Store(nil)
		return
	}
	l.around.Store(&around)
}

func (l *memoryLog) apply(command fsm.Command) fsm.Result {
	l.mu.Lock()
	entry, err := fsm.DecodeEntry(fsm.EncodeEntry(fsm.Entry{Now: l.Now(), Ops: []fsm.Op{{Command: command}}}))
	if err != nil {
		panic(err)
	}
	results, changes := l.state.Apply(1, entry)
	l.mu.Unlock()
	touched := map[string]bool{}
	for _, change := range changes {
		touched[change.Table] = true
	}
	l.signal(touched)
	return results[0]
}

func (l *memoryLog) signal(touched map[string]bool) {
	l.watchMu.Lock()
	defer l.watchMu.Unlock()
	for w := range l.watchers {
		if !touched[w.table] {
			continue
		}
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

func (l *memoryLog) Watch(table, _ string) (<-chan struct{}, func()) {
	w := &watcher{table: table, wake: make(chan struct{}, 1)}
	l.watchMu.Lock()
	defer l.watchMu.Unlock()
	l.watchers[w] = struct{}{}
	return w.wake, func() {
		l.watchMu.Lock()
		defer l.watchMu.Unlock()
		delete(l.watchers, w)
	}
}

// must applies one command of the test, with nothing in between.
func (l *memoryLog) must(t testing.TB, command fsm.Command) fsm.Result {
	t.Helper()
	result := l.apply(command)
	if result.Refused() {
		t.Fatalf("%T refused: %s %s", command, result.Code, result.Detail)
	}
	return result
}

// later puts cluster time forward, and wakes those who wait for it.
func (l *memoryLog) later(d time.Duration) {
	l.ahead.Add(uint64(d.Milliseconds()))
	l.signal(map[string]bool{"prepared": true})
}

func (l *memoryLog) event(mapping, pk string) (e fsm.Event, ok bool) {
	l.View(func(s *fsm.State) { e, ok = s.Event(fsm.RowRef{Mapping: mapping, PK: pk}) })
	return e, ok
}

func (l *memoryLog) pending() (n int) {
	l.View(func(s *fsm.State) { n = s.PendingCount() })
	return n
}

func (l *memoryLog) prepared(id uint64) (p fsm.Prepared, ok bool) {
	l.View(func(s *fsm.State) { p, ok = s.Prepared(id) })
	return p, ok
}
