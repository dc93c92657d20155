package replica

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"

	"github.com/quiescehq/quiesce/fsm"
)

// Task is work of the leader. Run is called once TermStart of a term is applied and must return soon after ctx is done, which is when
// the leadership is lost; the next term calls it anew. An error that Run returns earlier is logged, and Run is called again.
type Task interface {
	Name() string
	Run(ctx context.Context) error
}

// leadership is one term of this node as leader.
type leadership struct {
	term   uint64
	ready  atomic.Bool   // TermStart is applied
	open   atomic.Bool   // ready, and takes proposals: closed again before leadership is handed over
	ended  chan struct{} // closed when the term is over here
	rounds chan chan error

	clockMu sync.Mutex
	base    uint64    // cluster time of the state at TermStart
	since   time.Time // when that was, monotonic

	askMu   sync.Mutex
	pending map[raft.ServerID]int // term questions without an answer yet

	leases *lessor
}

const asksPerPeerMax = 4

func newLeadership(term uint64) *leadership {
	return &leadership{term: term, ended: make(chan struct{}), rounds: make(chan chan error, queueMax), pending: map[raft.ServerID]int{}}
}

// now is the cluster time. Before TermStart it is 0: the state takes the later of its own time and an entry's.
func (l *leadership) now() uint64 {
	l.clockMu.Lock()
	defer l.clockMu.Unlock()
	if l.since.IsZero() {
		return 0
	}
	return l.base + uint64(time.Since(l.since).Milliseconds())
}

func (l *leadership) startClock(base uint64) {
	l.clockMu.Lock()
	defer l.clockMu.Unlock()
	l.base, l.since = base, time.Now()
}

func (l *leadership) mayAsk(id raft.ServerID) bool {
	l.askMu.Lock()
	defer l.askMu.Unlock()
	if l.pending[id] >= asksPerPeerMax {
		return false
	}
	l.pending[id]++
	return true
}

func (l *leadership) asked(id raft.ServerID) {
	l.askMu.Lock()
	defer l.askMu.Unlock()
	l.pending[id]--
}

// followLeadership turns raft's notices into calls of lead: leading is being inside that call, and everything that belongs to a term has
// ended when it returns.
func (r *Replica) followLeadership(ctx context.Context) error {
	end := func() {}
	defer func() { end() }()
	for {
		select {
		case leads := <-r.notices:
			end()
			end = func() {}
			if leads {
				end = r.beginTerm(ctx)
			}
		case job := <-r.restores:
			end()
			job.done <- r.restore(job)
			end = r.beginTerm(ctx) // in the same term, if this node still leads; if not, it ends by itself
		case <-ctx.Done():
			return nil
		}
	}
}

// beginTerm starts to lead and returns the function that ends it.
func (r *Replica) beginTerm(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	var term sync.WaitGroup
	term.Go(func() { r.lead(ctx) })
	return func() { cancel(); term.Wait() }
}

func (r *Replica) lead(ctx context.Context) {
	l := newLeadership(r.raft.CurrentTerm())
	l.leases = newLessor(r, l)
	log := r.log.With("term", l.term)
	r.leading.Store(l)
	defer func() {
		r.machine.onChanges(func([]fsm.Change) {})
		r.leading.CompareAndSwap(l, nil)
		l.open.Store(false)
		l.ready.Store(false)
		close(l.ended)
		log.Info("leadership ended")
	}()
	if err := r.startTerm(ctx, l); err != nil {
		log.Warn("term did not start", "error", err)
		return
	}
	log.Info("leading")
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.runRounds(ctx, l) })
	group.Go(func() error { return l.leases.run(ctx) })
	group.Go(func() error { return r.tick(ctx, l) })
	group.Go(func() error { return r.promote(ctx, l) })
	group.Go(func() error { return r.publishSelf(ctx) })
	for _, task := range r.tasks {
		group.Go(func() error { return r.keepRunning(ctx, task) })
	}
	_ = group.Wait() // none returns an error before ctx is done
}

// startTerm proposes TermStart until it is applied or the leadership is gone.
func (r *Replica) startTerm(ctx context.Context, l *leadership) error {
	for {
		_, err := r.propose(ctx, l, []fsm.Op{{Command: fsm.TermStart{Node: r.cfg.NodeID}}})
		if err == nil {
			break
		}
		if ctx.Err() != nil || r.raft.State() != raft.Leader || r.raft.CurrentTerm() != l.term {
			return err
		}
		r.log.Warn("TermStart not applied yet", "term", l.term, "error", err)
		if err := sleep(ctx, r.cfg.ElectionTimeout/4); err != nil {
			return err
		}
	}
	r.machine.mu.Lock()
	defer r.machine.mu.Unlock()
	if got := r.machine.state.Term(); got != l.term {
		return fmt.Errorf("the state is of term %d", got)
	}
	l.startClock(r.machine.state.Now())
	l.leases.load(r.machine.state)
	r.machine.onChange = l.leases.changed
	l.ready.Store(true)
	l.open.Store(true)
	return nil
}

// tick logs the time when a deadline has come and no other command brought it. Waits are punctual; housekeeping may be a second late.
func (r *Replica) tick(ctx context.Context, l *leadership) error {
	for {
		now := l.now()
		var urgent, lazy uint64
		var hasUrgent, hasLazy bool
		r.View(func(s *fsm.State) {
			urgent, hasUrgent = s.NextWaitDeadline()
			lazy, hasLazy = s.NextDeadline()
		})
		wait := lazyTickEvery
		switch {
		case hasUrgent && urgent <= now, hasLazy && lazy+uint64(lazyTickEvery.Milliseconds()) <= now:
			if _, err := r.propose(ctx, l, []fsm.Op{{Command: fsm.Tick{}}}); err != nil && ctx.Err() == nil {
				r.log.Debug("tick not applied", "error", err)
			}
			wait = tickEvery
		case hasUrgent:
			wait = min(wait, time.Duration(urgent-now)*time.Millisecond)
		}
		if err := r.sleepOrWatch(ctx, l.leases.ticket, max(wait, tickEvery)); err != nil {
			return nil
		}
	}
}

// sleepOrWatch sleeps, but not past a new wait, whose deadline may be earlier.
func (r *Replica) sleepOrWatch(ctx context.Context, woken <-chan struct{}, d time.Duration) error {
	if err := sleep(ctx, tickEvery); err != nil {
		return err
	}
	t := time.NewTimer(d - tickEvery)
	defer t.Stop()
	select {
	case <-t.C:
	case <-woken:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

const (
	taskRestartMin = 100 * time.Millisecond
	taskRestartMax = 5 * time.Second
)

func (r *Replica) keepRunning(ctx context.Context, task Task) error {
	delay := taskRestartMin
	for {
		err := task.Run(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = errors.New("it returned")
		}
		r.log.Error("leader task ended early, starting it again", "task", task.Name(), "error", err)
		if sleep(ctx, delay) != nil {
			return nil
		}
		delay = min(2*delay, taskRestartMax)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
