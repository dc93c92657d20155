package client

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quiescehq/quiesce/api"
)

// unreachableFor is how long a drain looks for a coordinator before it goes on without: about a failover.
const unreachableFor = 2 * time.Second

// drain is one stop of an instance, phase by phase. No step can keep the later ones from running: whatever fails is a leftover, and the
// time of each is bounded. None of its contexts derives from App.Context, which is over by then.
//
// Up to the point of no return it can be undone: ctx ends with ErrUndone, the step under way returns, and what was done is taken back.
type drain struct {
	app     *App
	why     *StopError
	servers *servers
	reports *reporter
	phase   atomic.Value    // Phase
	force   context.Context // ends when the process must go now
	ctx     context.Context // ends with force, and when the drain is undone
	end     context.CancelCauseFunc
	hurried chan struct{} // closed when killAt is known

	mu        sync.Mutex
	killAt    time.Time // when the platform kills, or would if it had signalled; zero when nobody hurries
	committed bool      // past the point of no return
	left      int       // what could not be finished
	started   []*task
}

func (a *App) newDrain(force context.Context, why *StopError, s *servers) *drain {
	force = drainWork(force)
	d := &drain{app: a, why: why, servers: s, force: force, hurried: make(chan struct{})}
	d.reports = newReporter(d)
	d.ctx, d.end = context.WithCancelCause(force)
	if why.Signal != nil || why.failed { // one that is broken must not serve on until there is room
		d.hurry(why)
	}
	return d
}

// run goes through the phases. It returns early when a second signal wants the process to go now, or when the drain is undone: then the
// instance serves again.
func (d *drain) run() {
	defer d.end(context.Canceled)
	d.goThrough()
	if d.wasUndone() {
		d.app.log.Info("the drain was undone: serving on")
		d.reports.cancel()
		d.takeBack()
		d.servers.resume()
		d.app.serveOn()
		d.app.forgetStops()
		d.app.member.drainOver()
	}
}

func (d *drain) goThrough() {
	d.announce()
	if d.ctx.Err() != nil {
		return
	}
	d.app.beginDrain()
	if !d.why.Fenced && d.app.isReady.Load() { // nobody sends anything to one that never was ready
		d.step(PhaseLameDuck, "balancers", d.waitForBalancers)
	} else {
		d.step(PhaseLameDuck, "", nil)
	}
	d.step(PhaseReject, TaskRequests, d.reject)
	d.step(PhaseConsumers, TaskBackground, d.endBackground)
	d.step(PhaseTransactions, "", nil)
	d.step(PhaseFlush, "", nil)
	d.commit()
	d.step(PhaseLocks, TaskLocks, d.giveLocksBack)
	d.step(PhaseClose, TaskServers, d.closeServers)
	d.step(PhaseLeave, "", d.leave)
}

// step runs one phase: what the drain does itself, and the tasks.
func (d *drain) step(p Phase, name string, own func(context.Context) (int, error)) {
	if d.ctx.Err() != nil {
		return
	}
	list := d.app.tasks.begin(p)
	if own != nil {
		list = append(list, &task{phase: p, name: name, run: own, own: true})
	}
	if p == PhaseLameDuck && len(list) == 0 {
		return
	}
	d.enter(p)
	limit := d.app.budget.limit[p]
	ctx, cancel := context.WithTimeout(d.ctx, limit)
	defer cancel()
	d.runTasks(ctx, limit, list)
}

func (d *drain) enter(p Phase) {
	if d.notePhase(p) {
		d.reports.add(report{phase: p})
	}
}

// notePhase answers false if the phase had begun: the point of no return is told before it is passed.
func (d *drain) notePhase(p Phase) bool {
	if d.phase.Swap(p) == p {
		return false
	}
	d.app.log.Info("drain", "phase", p, "in_flight", d.app.gate.inFlight.Load())
	return true
}

// announce asks for a place in the service's disruption budget and waits for it, serving, until the remaining phases need the time.
// Leaving does not depend on the coordinator: without an answer the drain goes on.
func (d *drain) announce() {
	if d.why.Fenced || d.why.granted || !d.app.member.reachable() {
		return
	}
	ctx, cancel := context.WithCancel(d.ctx)
	defer cancel()
	if until := d.waitUntil(); !until.IsZero() {
		ctx, cancel = context.WithDeadline(ctx, until)
		defer cancel()
	}
	status, err := d.app.member.askDrain(ctx, d.request())
	if err != nil {
		d.app.log.Warn("draining without a grant: the coordinator does not answer", "error", err)
		return
	}
	if status.State != api.StateQueued {
		return
	}
	d.enter(PhaseAnnounce)
	d.app.log.Info("waiting for the grant", "position", status.Position, "blockers", status.Blockers)
	d.waitForGrant()
}

// waitForGrant hears of the grant from the keepalive, which is parked until there is news.
func (d *drain) waitForGrant() {
	hurried := d.hurried
	for {
		queued, changed := d.app.member.isQueued()
		if !queued {
			return
		}
		ctx, cancel := d.ctx, context.CancelFunc(func() {})
		if until := d.waitUntil(); !until.IsZero() {
			ctx, cancel = context.WithDeadline(d.ctx, until)
			hurried = nil
		}
		select {
		case <-changed:
		case <-hurried:
		case <-ctx.Done():
		}
		late := ctx.Err() != nil
		cancel()
		if late && d.ctx.Err() == nil {
			d.app.log.Warn("draining without a grant: the platform would not wait longer")
		}
		if late {
			return
		}
	}
}

// waitUntil is when the remaining phases need the time, or zero when nobody kills the instance.
func (d *drain) waitUntil() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.killAt.IsZero() {
		return time.Time{}
	}
	return d.killAt.Add(-d.app.budget.phases())
}

// request is what the coordinator is asked for now.
func (d *drain) request() api.DrainInstance {
	d.mu.Lock()
	defer d.mu.Unlock()
	ask := api.DrainInstance{Intent: string(d.app.options.intent), Reason: cut(d.why.Reason, api.ReasonBytesMax)}
	if d.why.intent != "" {
		ask.Intent = string(d.why.intent)
	}
	if !d.killAt.IsZero() {
		// The slack is the coordinator's, whose clock ticks: it is to grant before this side goes without.
		ask.KillInMs = max(1, millis(time.Until(d.killAt)-d.app.budget.slack()))
	}
	return ask
}

// hurry takes notice that the platform has signalled. It answers false if the drain is being undone: then the signal begins another.
func (d *drain) hurry(why *StopError) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.wasUndone() {
		return false
	}
	killAt := why.at.Add(d.app.options.grace)
	if d.killAt.IsZero() {
		d.killAt = killAt
		close(d.hurried)
	}
	d.killAt = earlier(d.killAt, killAt)
	return true
}

// askAgain tells the coordinator of the platform's signal, in a drain that was not begun by it.
func (d *drain) askAgain() {
	ctx, cancel := context.WithTimeout(d.ctx, unreachableFor)
	defer cancel()
	if !d.app.member.reachable() {
		return
	}
	if _, err := d.app.member.askDrain(ctx, d.request()); err != nil {
		d.app.log.Warn("the coordinator does not know that the platform has signalled", "error", err)
	}
}

// undo ends the drain if it can be undone: not beyond the point of no return, and never when the platform kills.
func (d *drain) undo() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.committed && d.killAt.IsZero() && !d.why.Fenced {
		d.end(ErrUndone)
	}
}

func (d *drain) wasUndone() bool { return errors.Is(context.Cause(d.ctx), ErrUndone) }

// commit passes the point of no return. Where the drain can be undone, the coordinator must hear of it first: it refuses if the drain was
// undone and the news is still on its way. One that does not answer cannot keep the instance from leaving.
func (d *drain) commit() {
	if d.ctx.Err() != nil {
		return
	}
	if d.waitUntil().IsZero() && d.app.member.drainKnown() {
		d.notePhase(PhaseLocks)
		err := d.reports.ask(d.ctx, PhaseLocks)
		if refused := (*Error)(nil); errors.As(err, &refused) && refused.Code == api.CodeInstanceState {
			d.undo()
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.committed = true // or it was undone, and nothing more runs
}

func (d *drain) leftOver(what string, n int, err error) {
	if n <= 0 && err == nil {
		return
	}
	d.mu.Lock()
	d.left += max(n, 1)
	d.mu.Unlock()
	phase, _ := d.phase.Load().(Phase)
	d.app.log.Error("left over", "phase", phase, "what", what, "count", n, "error", err)
	d.app.leftovers.note(noteOf(phase, what, n, err))
}

func (d *drain) noteStarted(t *task) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.started = append(d.started, t)
}

func (d *drain) startedTasks() []*task {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.started
}

func (d *drain) exitCode() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.why.failed:
		return ExitFailed
	case d.left > 0 || d.app.leftovers.count() > 0 || d.app.member.isFenced():
		return ExitLeftovers
	}
	return ExitClean
}
