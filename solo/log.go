package solo

import (
	"context"
	"sync"
	"time"

	"github.com/quiescehq/quiesce/fsm"
)

const (
	term       = 1
	beginsAtMs = 1_000_000 // so that nothing happens at cluster time 0, which stands for never in some places
)

// Intercept stands between a caller and the log: it may wait, call apply or not, and keep the answer to itself. Apply puts the operations into the state, once a call.
type Intercept func(ctx context.Context, ops []fsm.Op, apply func() []fsm.Result) ([]fsm.Result, error)

// Log is the replicated log of one process. See [New].
type Log struct {
	began time.Time

	mu        sync.RWMutex
	state     *fsm.State
	ahead     time.Duration // by which cluster time was put forward
	intercept Intercept

	watching sync.Mutex
	watches  map[*watch]struct{}
}

type watch struct {
	table, key string
	wake       chan struct{}
}

// New begins with an empty state whose leader is the named node.
func New(node string) *Log {
	l := &Log{began: time.Now(), state: fsm.New(), watches: map[*watch]struct{}{}}
	l.apply([]fsm.Op{{Command: fsm.TermStart{Node: node}}})
	return l
}

// ClusterID names the cluster that there is none of.
func (l *Log) ClusterID() string { return "solo" }

// Now is cluster time in milliseconds.
func (l *Log) Now() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.now()
}

func (l *Log) now() uint64 {
	return beginsAtMs + uint64((l.ahead + time.Since(l.began)).Milliseconds())
}

// Propose applies operations as one entry. It answers an error only if ctx has ended, or from the Intercept.
func (l *Log) Propose(ctx context.Context, ops ...fsm.Op) ([]fsm.Result, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	apply := func() []fsm.Result { return l.apply(ops) }
	l.mu.RLock()
	intercept := l.intercept
	l.mu.RUnlock()
	if intercept != nil {
		return intercept(ctx, ops, apply)
	}
	return apply(), nil
}

// Do applies one command with nothing in between.
func (l *Log) Do(command fsm.Command) fsm.Result { return l.apply([]fsm.Op{{Command: command}})[0] }

// Intercept puts f between the callers of Propose and the log; nil takes it away.
func (l *Log) Intercept(f Intercept) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.intercept = f
}

func (l *Log) apply(ops []fsm.Op) []fsm.Result {
	l.mu.Lock()
	entry, err := fsm.DecodeEntry(fsm.EncodeEntry(fsm.Entry{Now: l.now(), Ops: ops}))
	if err != nil {
		l.mu.Unlock()
		panic("solo: a command of this program cannot be read back: " + err.Error())
	}
	results, changes := l.state.Apply(term, entry)
	l.tell(changes) // before the lock is given back: the list is the state's, until its next entry
	l.mu.Unlock()
	return results
}

func (l *Log) tell(changes []fsm.Change) {
	l.watching.Lock()
	defer l.watching.Unlock()
	for w := range l.watches {
		for _, c := range changes {
			if c.Table == w.table && (w.key == "" || w.key == c.Key) {
				w.signal()
				break
			}
		}
	}
}

func (w *watch) signal() {
	select {
	case w.wake <- struct{}{}:
	default: // it is awake
	}
}

// View runs f over the state under a read lock. f must not call the Log.
func (l *Log) View(f func(*fsm.State)) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	f(l.state)
}

// Watch wakes after the table changed, or the row of it that has the key when one is given. The channel coalesces; stop ends the watch and must be called.
func (l *Log) Watch(table, key string) (wake <-chan struct{}, stop func()) {
	w := &watch{table: table, key: key, wake: make(chan struct{}, 1)}
	l.watching.Lock()
	defer l.watching.Unlock()
	l.watches[w] = struct{}{}
	return w.wake, func() {
		l.watching.Lock()
		defer l.watching.Unlock()
		delete(l.watches, w)
	}
}

// Advance puts cluster time forward, lets happen what is due by then, and wakes everybody who watches: deadlines may have passed that no table tells of.
func (l *Log) Advance(d time.Duration) {
	l.mu.Lock()
	l.ahead += d
	l.mu.Unlock()
	l.apply([]fsm.Op{{Command: fsm.Tick{}}})
	l.watching.Lock()
	defer l.watching.Unlock()
	for w := range l.watches {
		w.signal()
	}
}
