package outbox_test

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

// memoryLog is a log of one replica: the real state, entries that pass through their encoding, and no Raft.
type memoryLog struct {
	mu    sync.RWMutex
	state *fsm.State
	base  time.Time
	views atomic.Int64

	watchMu  sync.Mutex
	watchers map[*watcher]struct{}

	// tamper, if set, sees every entry of the task before it is applied and may change or lose it, or its answer.
	tamper atomic.Pointer[func(ops []fsm.Op) tampered]
}

type watcher struct {
	table string
	wake  chan struct{}
}

type tampered struct {
	ops         []fsm.Op
	lostBefore  bool // the entry is not applied, the caller does not learn it
	answerFails bool // the entry is applied, the caller does not learn it
}

func newLog(t testing.TB) *memoryLog {
	t.Helper()
	log := &memoryLog{state: fsm.New(), base: time.Now(), watchers: map[*watcher]struct{}{}}
	log.must(t, fsm.TermStart{Node: "n1"})
	return log
}

func (l *memoryLog) Now() uint64 { return 1_000 + uint64(time.Since(l.base).Milliseconds()) }

func (l *memoryLog) View(f func(*fsm.State)) {
	l.views.Add(1)
	l.mu.RLock()
	defer l.mu.RUnlock()
	f(l.state)
}

func (l *memoryLog) Propose(ctx context.Context, ops ...fsm.Op) ([]fsm.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	change := tampered{ops: ops}
	if tamper := l.tamper.Load(); tamper != nil {
		change = (*tamper)(ops)
	}
	if change.lostBefore {
		return nil, errOutcomeUnknown
	}
	results, err := l.apply(change.ops)
	if err == nil && change.answerFails {
		return nil, errOutcomeUnknown
	}
	return results, err
}

func (l *memoryLog) setTamper(f func(ops []fsm.Op) tampered) {
	if f == nil {
		l.tamper.Store(nil)
		return
	}
	l.tamper.Store(&f)
}

func (l *memoryLog) apply(ops []fsm.Op) ([]fsm.Result, error) {
	l.mu.Lock()
	entry, err := fsm.DecodeEntry(fsm.EncodeEntry(fsm.Entry{Now: l.Now(), Ops: ops}))
	if err != nil {
		l.mu.Unlock()
		return nil, err
	}
	results, changes := l.state.Apply(1, entry)
	touched := map[string]bool{}
	for _, change := range changes {
		touched[change.Table] = true
	}
	l.mu.Unlock()
	l.signal(touched)
	return results, nil
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

// must applies one command of the test, untampered.
func (l *memoryLog) must(t testing.TB, command fsm.Command) fsm.Result {
	t.Helper()
	results, err := l.apply([]fsm.Op{{Command: command}})
	if err != nil {
		t.Fatal(err)
	}
	if results[0].Refused() {
		t.Fatalf("%T refused: %s %s", command, results[0].Code, results[0].Detail)
	}
	return results[0]
}

func (l *memoryLog) pending(mapping string) (n int) {
	l.View(func(s *fsm.State) { n = s.Pending(mapping) })
	return n
}

func (l *memoryLog) dead(mapping string) (n int) {
	l.View(func(s *fsm.State) { n = s.Dead(mapping) })
	return n
}

func (l *memoryLog) event(row fsm.RowRef) (e fsm.Event, ok bool) {
	l.View(func(s *fsm.State) { e, ok = s.Event(row) })
	return e, ok
}

func (l *memoryLog) letter(row fsm.RowRef) (d fsm.DeadLetter, ok bool) {
	l.View(func(s *fsm.State) { d, ok = s.DeadLetter(row) })
	return d, ok
}

func (l *memoryLog) revision() (revision uint64) {
	l.View(func(s *fsm.State) { revision = s.Revision() })
	return revision
}
