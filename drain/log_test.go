package drain

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/fsm"
)

var errLostAnswer = errors.New("the answer was lost")

// testLog is a log of one replica: the real state, through the real encoding, behind one lock.
type testLog struct {
	mu        sync.Mutex
	state     *fsm.State
	began     time.Time
	ahead     uint64 // by which cluster time was moved
	term      uint64
	watches   map[chan struct{}]string
	intercept func(command fsm.Command) (apply, answer bool) // nil: both
	applied   []fsm.Command
}

func newTestLog(t testing.TB) *testLog {
	l := &testLog{state: fsm.New(), began: time.Now(), term: 1, watches: map[chan struct{}]string{}}
	l.must(t, fsm.TermStart{Node: "n1"})
	return l
}

func (l *testLog) Now() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now()
}

func (l *testLog) now() uint64 {
	return 1_000_000 + l.ahead + uint64(time.Since(l.began).Milliseconds())
}

// advance moves cluster time on, and lets what is due by then happen.
func (l *testLog) advance(t testing.TB, by time.Duration) {
	l.mu.Lock()
	l.ahead += uint64(by.Milliseconds())
	l.mu.Unlock()
	l.must(t, fsm.Tick{})
}

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
	entry, err := fsm.DecodeEntry(fsm.EncodeEntry(fsm.Entry{Now: l.now(), Ops: ops}))
	if err != nil {
		return nil, err
	}
	results, changes := l.state.Apply(l.term, entry)
	for _, op := range ops {
		l.applied = append(l.applied, op.Command)
	}
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

// onPropose puts a function before every proposal.
func (l *testLog) onPropose(f func(fsm.Command) (apply, answer bool)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.intercept = f
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

// member is an instance in the log.
type member struct {
	id, session string
	incarnation uint64
}

func (l *testLog) register(t testing.TB, name string) member {
	t.Helper()
	l.mu.Lock()
	n := len(l.applied)
	l.mu.Unlock()
	m := member{id: fmt.Sprintf("i-%s-%d", name, n), session: fmt.Sprintf("s-%s-%d", name, n)}
	r := l.must(t, fsm.RegisterInstance{ID: m.id, Session: m.session, Service: "orders", Name: name, TTLMs: 10_000, GraceMs: 25_000,
		Phases: []fsm.PhaseLimit{{Phase: "transactions", LimitMs: 3_000}}})
	m.id, m.incarnation = r.Instance.ID, r.Instance.Incarnation
	return m
}

func (l *testLog) report(t testing.TB, m member, source string, ids ...uint64) {
	t.Helper()
	l.must(t, fsm.ReportConnections{ID: m.id, Incarnation: m.incarnation, Connections: []fsm.Connections{{Source: source, IDs: ids}}})
}

// lose ends the member's lease.
func (l *testLog) lose(t testing.TB, m member) {
	t.Helper()
	var generation uint64
	l.View(func(s *fsm.State) {
		v, _ := s.Session(m.session)
		generation = v.Generation
	})
	l.must(t, fsm.ExpireSession{ID: m.session, Generation: generation})
	if state := l.instance(m).State; state != fsm.InstanceLost {
		t.Fatalf("the instance is %s", state)
	}
}

func (l *testLog) instance(m member) (v fsm.Instance) {
	l.View(func(s *fsm.State) { v, _ = s.Instance(m.id) })
	return v
}

// steps are what was done for a member, without what the state did by itself.
func (l *testLog) steps(m member) (steps []fsm.AdoptionStep) {
	for _, step := range l.instance(m).Adoption {
		if step.Step != fsm.AdoptLocks {
			steps = append(steps, step)
		}
	}
	return steps
}

func (l *testLog) cleanup(id uint64) (c fsm.Cleanup) {
	l.View(func(s *fsm.State) { c, _ = s.Cleanup(id) })
	return c
}
