package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// What a drain does in each phase, beside the tasks of the application.

// goodbyePart is the part of phase reject that goodbyes on hijacked connections may take.
const goodbyePart = 4 // limit / goodbyePart

// waitForBalancers lets balancers notice, by probes and by closed connections, that other instances are to be used.
func (d *drain) waitForBalancers(ctx context.Context) (int, error) {
	<-ctx.Done()
	return 0, nil
}

// reject refuses new requests with an answer, on listeners that stay open, tells those to end that would go on for ever, and waits for
// those under way. Those that take too long are cancelled in time to end in order.
func (d *drain) reject(ctx context.Context) (int, error) {
	a := d.app
	a.gate.set(gateReject)
	a.present.Load().work.end(d.why)
	limit := a.budget.limit[PhaseReject]
	patient, cancel := context.WithTimeout(ctx, limit-limit/phaseMargin)
	defer cancel()
	goodbye, said := context.WithTimeout(patient, limit/goodbyePart)
	a.hijacked.close(goodbye)
	said()
	slow := a.gate.wait(patient)
	if slow == 0 || d.ctx.Err() != nil {
		return 0, nil
	}
	a.log.Warn("cancelling slow requests", "in_flight", slow, "routes", a.gate.visits.list())
	a.gate.cancel(d.why)
	d.servers.hasten(time.Now().Add(limit / phaseMargin / 2)) // the other half is for the handler
	if left := a.gate.wait(ctx); left > 0 {
		return int(left), errors.New(strings.Join(a.gate.visits.list(), "; "))
	}
	return 0, nil
}

func (d *drain) endBackground(ctx context.Context) (int, error) {
	d.app.present.Load().background.end(d.why)
	return d.app.background.wait(ctx)
}

// giveLocksBack comes after the flush, which may need the locks, and in the reverse order of taking. They travel together: what was sent
// first is applied first.
func (d *drain) giveLocksBack(ctx context.Context) (int, error) {
	d.app.sealed.Store(true)
	l := d.app.member.currentLease()
	if l == nil {
		return 0, nil
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
	return 0, nil
}

func (d *drain) closeServers(ctx context.Context) (int, error) {
	if err := d.servers.shutdown(ctx); err != nil {
		d.app.log.Warn("connections were closed the hard way", "error", err)
	}
	return 0, nil
}

// leave tells the coordinator. It is best effort: a lease that is not renewed says the same later. Reports that are still queued have half
// of the time, for the last word says more.
func (d *drain) leave(ctx context.Context) (int, error) {
	reporting, cancel := context.WithTimeout(ctx, d.app.budget.limit[PhaseLeave]/2)
	defer cancel()
	d.reports.finish(reporting)
	if !d.app.member.reachable() {
		return 0, nil
	}
	if err := d.app.member.leave(ctx); err != nil {
		d.app.log.Warn("left without a word; the lease will say it", "error", err)
	}
	return 0, nil
}

// noteOf says for people what was not finished.
func noteOf(p Phase, what string, n int, err error) string {
	text := fmt.Sprintf("%s: %s", p, what)
	if n > 0 {
		text += fmt.Sprintf(": %d left", n)
	}
	if err != nil {
		text += ": " + err.Error()
	}
	return text
}
