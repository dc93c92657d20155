package client

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/quiescehq/quiesce/api"
)

const (
	// unreachableFor is how long a drain looks for a coordinator before it goes on without: about a failover.
	unreachableFor = 2 * time.Second
	queuePoll      = 250 * time.Millisecond
)

// drain is one stop of an instance, phase by phase. No step can keep the later ones from running: whatever fails is a leftover, and the
// time of each is bounded. None of its contexts derives from App.Context, which is over by then.
type drain struct {
	app     *App
	why     *StopError
	killAt  time.Time
	servers *servers
	reports *reporter
	phase   atomic.Value // Phase
	left    int          // what could not be finished
}

// run goes through the phases. It returns early when ctx ends: then a second signal wants the process to go now.
func (d *drain) run(ctx context.Context) {
	if d.why.Fenced {
		d.app.beginDrain()
	} else {
		d.announce(ctx)
		d.app.beginDrain()
		d.lameDuck(ctx)
	}
	d.step(ctx, PhaseReject, d.reject)
	d.step(ctx, PhaseFlush, d.flush)
	d.step(ctx, PhaseLocks, d.giveLocksBack)
	d.step(ctx, PhaseClose, d.closeServers)
	d.step(ctx, PhaseLeave, d.leave)
}

func (a *App) beginDrain() {
	a.gate.duck()
	close(a.draining)
}

func (d *drain) step(ctx context.Context, p Phase, run func(context.Context)) {
	if ctx.Err() != nil {
		return
	}
	d.enter(p)
	ctx, cancel := context.WithTimeout(ctx, d.app.budget.limit[p])
	defer cancel()
	run(ctx)
}

func (d *drain) enter(p Phase) {
	d.phase.Store(p)
	d.app.log.Info("drain", "phase", p, "in_flight", d.app.gate.inFlight.Load())
	d.reports.add(p)
}

// announce asks for a place in the service's disruption budget and waits for it, serving, until the remaining phases need the time.
// Leaving does not depend on the coordinator: without an answer the drain goes on.
func (d *drain) announce(ctx context.Context) {
	if d.why.granted || !d.app.member.reachable() {
		return
	}
	ctx, cancel := context.WithDeadline(ctx, d.killAt.Add(-d.app.budget.phases()))
	defer cancel()
	status, err := d.app.member.askDrain(ctx, d.why.Reason)
	if err != nil {
		d.app.log.Warn("draining without a grant: the coordinator does not answer", "error", err)
		return
	}
	if status.State == api.StateQueued {
		d.enter(PhaseAnnounce)
		d.app.log.Info("waiting for the grant", "position", status.Position, "blockers", status.Blockers)
	}
	for status.State == api.StateQueued {
		if pause(ctx, jittered(queuePoll)) != nil {
			d.app.log.Warn("draining without a grant: the platform would not wait longer")
			return
		}
		if err := d.app.member.keepalive(ctx); err == nil {
			status.State = d.app.member.heard()
		}
	}
}

// lameDuck lets balancers notice, by probes and by closed connections, that other instances are to be used. It is skipped by an instance
// that never was ready: nobody sends it anything.
func (d *drain) lameDuck(ctx context.Context) {
	if !d.app.isReady.Load() {
		return
	}
	d.step(ctx, PhaseLameDuck, func(ctx context.Context) { <-ctx.Done() })
}

// reject refuses new requests with an answer, on listeners that stay open, and waits for those under way. Those that take too long are
// cancelled in time to end in order.
func (d *drain) reject(ctx context.Context) {
	d.app.gate.set(gateReject)
	d.app.endWork(d.why)
	limit := d.app.budget.limit[PhaseReject]
	patient, cancel := context.WithTimeout(ctx, limit-limit/8)
	defer cancel()
	slow := d.app.gate.wait(patient)
	if slow == 0 {
		return
	}
	d.app.log.Warn("cancelling slow requests", "in_flight", slow)
	d.app.gate.cancel(d.why)
	d.leftOver("requests", int(d.app.gate.wait(ctx)), nil)
}

// flush runs the tasks side by side. One that does not heed its context is left behind: the process is about to end.
func (d *drain) flush(ctx context.Context) {
	tasks := d.app.tasks.begin(PhaseFlush)
	type result struct {
		task, left int
		err        error
	}
	results := make(chan result, len(tasks))
	running := make(map[int]*task, len(tasks))
	for i, task := range tasks {
		running[i] = task
		go func() {
			left, err := task.protected(ctx)
			results <- result{i, left, err}
		}()
	}
	for len(running) > 0 {
		select {
		case r := <-results:
			delete(running, r.task)
			d.leftOver(tasks[r.task].name, r.left, r.err)
		case <-ctx.Done():
			for _, task := range running {
				d.leftOver(task.name, 1, context.Cause(ctx))
			}
			return
		}
	}
}

func (t *task) protected(ctx context.Context) (left int, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return t.run(ctx)
}

func (d *drain) leftOver(what string, n int, err error) {
	if n <= 0 && err == nil {
		return
	}
	d.left += max(n, 1)
	d.app.log.Error("left over", "what", what, "count", n, "error", err)
}

// giveLocksBack comes after the flush, which may need the locks, and in the reverse order of taking. They travel together: what was sent
// first is applied first.
func (d *drain) giveLocksBack(ctx context.Context) {
	d.app.sealed.Store(true)
	l := d.app.member.currentLease()
	if l == nil {
		return
	}
	held := l.newestFirst()
	ops := make([]*op, len(held))
	errs := make([]error, len(held))
	for i, h := range held {
		l.drop(h)
		h.end(ErrUnlocked)
		ops[i], errs[i] = h.startRelease()
	}
	for i, h := range held {
		if err := h.await(ctx, ops[i], errs[i]); err != nil && !errors.Is(err, ErrNotHolder) {
			d.app.log.Warn("a lock could not be given back; it goes with the lease", "lock", h.String(), "error", err)
		}
	}
}

func (d *drain) closeServers(ctx context.Context) {
	if err := d.servers.shutdown(ctx); err != nil {
		d.app.log.Warn("connections were closed the hard way", "error", err)
	}
}

// leave tells the coordinator. It is best effort: a lease that is not renewed says the same later.
func (d *drain) leave(ctx context.Context) {
	d.reports.finish(ctx)
	if !d.app.member.reachable() {
		return
	}
	if err := d.app.member.leave(ctx); err != nil {
		d.app.log.Warn("left without a word; the lease will say it", "error", err)
	}
}
