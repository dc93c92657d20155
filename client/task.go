package client

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// tasksMax bounds the tasks of one instance.
const tasksMax = 256

// Names of what the drain does by itself, for [After].
const (
	TaskRequests   = "requests"   // in phase reject: streams and hijacked connections are ended, requests under way finish
	TaskBackground = "background" // in phase consumers: what [App.Go] started ends
	TaskLocks      = "locks"      // in phase locks: locks are given back
	TaskServers    = "servers"    // in phase close: the HTTP servers are closed
)

// task is something to do in one phase of a drain.
type task struct {
	phase  Phase
	name   string
	run    func(ctx context.Context) (left int, err error)
	within time.Duration // 0: as long as the phase
	after  []string
	undo   func(ctx context.Context) error
	own    bool // of the drain itself: it has the whole of its phase, and always returns

	running atomic.Bool // perhaps left behind by an earlier drain
}

// TaskOption says more about a task.
type TaskOption func(*task)

// Within gives a task less time than its phase has.
func Within(d time.Duration) TaskOption { return func(t *task) { t.within = d } }

// After makes a task wait for others of its phase, by name, until they have ended, well or badly. A name that nobody has is logged and
// not waited for.
func After(names ...string) TaskOption {
	return func(t *task) { t.after = append(t.after, names...) }
}

// Undo says how to take a task back when the drain that ran it is undone: what was stopped is to be started again. Of several tasks the
// last that began is taken back first, each within the time that the task itself has.
func Undo(run func(ctx context.Context) error) TaskOption { return func(t *task) { t.undo = run } }

// On adds a task to a phase from lameduck to close. The tasks of one phase run side by side, and beside what the drain does there itself;
// see After. Its context is its own: it ends a little before the phase does, to leave time to end in order. An error or a panic makes the
// exit code ExitLeftovers and keeps nothing else from running; a task that does not heed its context is left behind when the phase is over.
// It runs again in the next drain if this one is undone.
//
// ErrStopping says that the phase has begun already; ErrConfig that there is no such phase, that tasks would wait for each other in a
// circle, or that there are 256 already.
func (a *App) On(p Phase, name string, run func(ctx context.Context) error, opts ...TaskOption) error {
	t := &task{phase: p, name: name, run: func(ctx context.Context) (int, error) { return 0, run(ctx) }}
	for _, opt := range opts {
		opt(t)
	}
	return a.tasks.add(t)
}

// Flush adds a task to phase flush: after the last request and before the locks are given back. It returns how much could not be saved;
// then the process ends with ExitLeftovers. Otherwise it is like one of On.
func (a *App) Flush(name string, run func(ctx context.Context) (left int, err error), opts ...TaskOption) {
	t := &task{phase: PhaseFlush, name: name, run: run}
	for _, opt := range opts {
		opt(t)
	}
	if err := a.tasks.add(t); err != nil {
		a.log.Error("this will not be flushed", "task", name, "error", err)
	}
}

// tasks are those of an instance.
type tasks struct {
	mu    sync.Mutex
	list  []*task
	begun int // phases of the present drain
}

func (ts *tasks) add(t *task) error {
	place := t.phase.place()
	if place < 0 {
		return fmt.Errorf("%w: task %q: a task cannot run in phase %q", ErrConfig, t.name, t.phase)
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	switch {
	case place < ts.begun:
		return fmt.Errorf("%w: task %q: phase %s has begun", ErrStopping, t.name, t.phase)
	case len(ts.list) >= tasksMax:
		return fmt.Errorf("%w: task %q: there are %d already", ErrConfig, t.name, tasksMax)
	case ts.leadsToLocked(t.phase, t.after, t.name, tasksMax):
		return fmt.Errorf("%w: task %q would wait for itself", ErrConfig, t.name)
	}
	ts.list = append(ts.list, t)
	return nil
}

// leadsToLocked tells whether one of the names is, or waits for, another name. A way without circles has no more steps than there are tasks.
func (ts *tasks) leadsToLocked(p Phase, names []string, to string, steps int) bool {
	seen := map[string]bool{}
	for ; len(names) > 0 && steps >= 0; steps-- {
		var next []string
		for _, name := range names {
			if name == to {
				return true
			}
			if seen[name] {
				continue
			}
			seen[name] = true
			for _, t := range ts.list {
				if t.phase == p && t.name == name {
					next = append(next, t.after...)
				}
			}
		}
		names = next
	}
	return false
}

// begin gives the tasks of a phase. It takes no more of them, nor of an earlier one.
func (ts *tasks) begin(p Phase) []*task {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.begun = max(ts.begun, p.place()+1)
	return slices.DeleteFunc(slices.Clone(ts.list), func(t *task) bool { return t.phase != p })
}

// renew makes all phases come again.
func (ts *tasks) renew() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.begun = 0
}
