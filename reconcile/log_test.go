package reconcile

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/fsm"
)

const testTerm = 1

var errLostAnswer = errors.New("the answer was lost")

// testLog is a log of one replica: the real state, through the real encoding, behind one lock.
type testLog struct {
	mu        sync.Mutex
	state     *fsm.State
	began     time.Time
	watches   map[chan struct{}]string
	intercept func(command fsm.Command) (apply, answer bool) // nil: both
}

func newTestLog() *testLog {
	return &testLog{state: fsm.New(), began: time.Now(), watches: map[chan struct{}]string{}}
}

func (l *testLog) Now() uint64 { return 1_000_000 + uint64(time.Since(l.began).Milliseconds()) }

func (l *testLog) View(f func(*fsm.State)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(l.state)
}

func (l *testLog) Watch(table, _ string) (<-chan struct{}, func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	wake := make(chan struct{}, 1)
	l.watches[wake] = table
	return wake, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.watches, wake)
	}
}

func (l *testLog) Propose(ctx context.Context, ops ...fsm.Op) ([]fsm.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	apply, answer := true, true
	if l.intercept != nil {
		apply, answer = l.intercept(ops[0].Command)
	}
	if !apply {
		return nil, errLostAnswer
	}
	entry, err := fsm.DecodeEntry(fsm.EncodeEntry(fsm.Entry{Now: l.Now(), Ops: ops}))
	if err != nil {
		return nil, err
	}
	results, changes := l.state.Apply(testTerm, entry)
	for wake, table := range l.watches {
		for _, c := range changes {
			if c.Table == table {
				select {
				case wake <- struct{}{}:
				default:
				}
			}
		}
	}
	if !answer {
		return nil, errLostAnswer
	}
	return results, nil
}

func (l *testLog) must(t testing.TB, command fsm.Command) fsm.Result {
	t.Helper()
	results, err := l.Propose(context.Background(), fsm.Op{Command: command})
	if err != nil {
		t.Fatal(err)
	}
	if results[0].Refused() {
		t.Fatalf("%T refused: %s: %s", command, results[0].Code, results[0].Detail)
	}
	return results[0]
}

func (l *testLog) pass(id uint64) (p fsm.Pass) {
	l.View(func(s *fsm.State) { p, _ = s.Pass(id) })
	return p
}

func (l *testLog) pending() (n int) {
	l.View(func(s *fsm.State) { n = s.PendingCount() })
	return n
}

func (l *testLog) due(mapping string, limit int) (out []fsm.Event) {
	l.View(func(s *fsm.State) {
		s.DueEvents(mapping, s.Now(), func(e fsm.Event) bool {
			out = append(out, e)
			return len(out) < limit
		})
	})
	return out
}

// memory is what an outbox remembers: like the real one by revision, but of everything.
type memory struct {
	mu      sync.Mutex
	claimed map[fsm.RowRef]int
	settled map[fsm.RowRef]uint64
	floor   uint64
}

func newMemory() *memory {
	return &memory{claimed: map[fsm.RowRef]int{}, settled: map[fsm.RowRef]uint64{}}
}

func (m *memory) Recent(row fsm.RowRef, since uint64) (touched, covered bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.claimed[row] > 0 || m.settled[row] > since, since >= m.floor
}

func (m *memory) claim(row fsm.RowRef) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.claimed[row]++
}

func (m *memory) release(row fsm.RowRef, revision uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.claimed[row]--
	m.settled[row] = revision
}
