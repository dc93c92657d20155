package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// What becomes of tasks that do not end in order.
var (
	errLeftBehind = errors.New("client: it does not heed its context and is left behind")
	errNoTime     = errors.New("client: the phase was over before its turn")
	errStillRuns  = errors.New("client: it still runs since an earlier drain")
)

// phaseMargin is the part of a phase that its tasks have to end in order after their contexts have ended.
const phaseMargin = 8 // limit / phaseMargin

// outcome is what came of one task.
type outcome struct {
	task *task
	left int
	err  error
}

// runTasks runs the tasks of a phase, which ctx ends, side by side but for those that wait for others. It returns when all have ended or
// are left behind.
func (d *drain) runTasks(ctx context.Context, limit time.Duration, list []*task) {
	open := map[string]int{} // tasks of a name that have not ended
	for _, t := range list {
		open[t.name]++
	}
	for _, t := range list {
		for _, name := range t.after {
			if open[name] == 0 {
				d.app.log.Warn("a task would wait for one that does not exist", "task", t.name, "after", name)
			}
		}
	}
	outcomes := make(chan outcome, len(list))
	waiting, running := list, 0
	for len(waiting) > 0 || running > 0 {
		var still []*task
		for _, t := range waiting {
			if t.mustWait(open) {
				still = append(still, t)
				continue
			}
			running++
			go func() { outcomes <- d.runTask(ctx, limit, t) }()
		}
		waiting = still
		if running == 0 { // unless names lead in a circle, which add refuses
			return
		}
		o := <-outcomes
		running--
		open[o.task.name]--
		if d.ctx.Err() == nil {
			d.leftOver(o.task.name, o.left, o.err)
		}
	}
}

func (t *task) mustWait(open map[string]int) bool {
	for _, name := range t.after {
		if open[name] > 0 {
			return true
		}
	}
	return false
}

// runTask runs one task. It returns at the end of the phase at the latest, but for the drain's own, which always end.
func (d *drain) runTask(ctx context.Context, limit time.Duration, t *task) outcome {
	if t.own {
		left, err := t.run(ctx)
		return outcome{t, left, err}
	}
	margin := limit / phaseMargin
	end, _ := ctx.Deadline()
	end = end.Add(-margin)
	if t.within > 0 {
		end = earlier(end, time.Now().Add(t.within))
	}
	own, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	if own.Err() != nil {
		return outcome{t, 1, errNoTime}
	}
	if !t.running.CompareAndSwap(false, true) {
		return outcome{t, 1, errStillRuns}
	}
	d.noteStarted(t)
	ended := make(chan outcome, 1)
	go func() {
		defer t.running.Store(false)
		left, err := protected(own, t.run)
		ended <- outcome{t, left, err}
	}()
	select {
	case o := <-ended:
		return o
	case <-own.Done():
	}
	patience := time.NewTimer(margin)
	defer patience.Stop()
	select {
	case o := <-ended:
		return o
	case <-patience.C:
	case <-d.force.Done():
	}
	return outcome{t, 1, errLeftBehind}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// protected makes an error of a panic.
func protected(ctx context.Context, run func(context.Context) (int, error)) (left int, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return run(ctx)
}

// takeBack takes the tasks back that were begun, the last first.
func (d *drain) takeBack() {
	for _, t := range slices.Backward(d.startedTasks()) {
		if t.undo == nil || d.force.Err() != nil {
			continue
		}
		limit := orDefault(t.within, d.app.budget.limit[t.phase])
		again := &task{phase: t.phase, name: t.name, within: limit, run: func(ctx context.Context) (int, error) { return 0, t.undo(ctx) }}
		ctx, cancel := context.WithTimeout(d.force, limit+limit/phaseMargin)
		if o := d.runTask(ctx, limit, again); o.err != nil {
			d.app.log.Error("a task could not be taken back", "task", t.name, "phase", t.phase, "error", o.err)
		}
		cancel()
	}
}
