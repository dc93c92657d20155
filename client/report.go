package client

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"time"

	"github.com/quiescehq/quiesce/api"
)

const (
	reportsMax   = 16 // more than there are phases
	reportPeriod = time.Second
	// acknowledgedFor bounds the wait at the point of no return.
	acknowledgedFor = time.Second
)

// reporter tells the coordinator in order what the drain does, without holding it up.
type reporter struct {
	drain  *drain
	queue  chan report
	cancel context.CancelFunc
	done   chan struct{}
}

// report is one phase to tell of.
type report struct {
	phase  Phase
	answer chan error // holds one; nil when nobody waits
}

func newReporter(d *drain) *reporter {
	r := &reporter{drain: d, queue: make(chan report, reportsMax), done: make(chan struct{})}
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(context.Background())
	d.app.joined.Go(func() {
		defer close(r.done)
		r.run(ctx)
	})
	return r
}

func (r *reporter) add(next report) {
	select {
	case r.queue <- next:
	default: // the phases are fewer than the queue is long
	}
}

// ask tells of a phase and waits a little for what the coordinator says to it.
func (r *reporter) ask(ctx context.Context, p Phase) error {
	ctx, cancel := context.WithTimeout(ctx, acknowledgedFor)
	defer cancel()
	answer := make(chan error, 1)
	r.add(report{p, answer})
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run reports each phase as it begins, and once a second what has changed within it.
func (r *reporter) run(ctx context.Context) {
	ticker := time.NewTicker(jittered(reportPeriod))
	defer ticker.Stop()
	var phase Phase
	var told map[string]uint64
	for {
		select {
		case <-ctx.Done():
			return
		case next, more := <-r.queue:
			if !more {
				return
			}
			phase, told = next.phase, r.drain.app.readCounters()
			err := r.sendWithin(ctx, phase, told)
			if next.answer != nil {
				next.answer <- err
			}
		case <-ticker.C:
			now := r.drain.app.readCounters()
			left, _ := r.drain.app.leftovers.unreported()
			if phase != "" && (left != nil || !maps.Equal(now, told)) {
				told = now
				_ = r.sendWithin(ctx, phase, told) // it is in the log, and the next one says the same
			}
		}
	}
}

func (r *reporter) sendWithin(ctx context.Context, p Phase, counters map[string]uint64) error {
	if !r.drain.app.member.reachable() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, reportFor)
	defer cancel()
	err := r.send(ctx, p, counters)
	if err != nil {
		r.drain.app.log.Warn("a phase could not be reported", "phase", p, "error", err)
	}
	return err
}

// send reports a phase now. If the coordinator was away when the drain was announced, it is asked first.
func (r *reporter) send(ctx context.Context, p Phase, counters map[string]uint64) error {
	m, leftovers := r.drain.app.member, &r.drain.app.leftovers
	if !m.drainKnown() {
		if _, err := m.askDrain(ctx, r.drain.request()); err != nil {
			return err
		}
	}
	left, version := leftovers.unreported()
	body := api.ReportPhase{Phase: string(p), Counters: counters, Leftovers: left}
	err := m.report(ctx, body)
	if left != nil && len(left.Keys) > 0 && saysInvalid(err) { // such as a mapping that was never declared
		r.drain.app.log.Error("the coordinator does not take the rows that are left over", "error", err)
		body.Leftovers = &api.Leftovers{Notes: left.Notes}
		err = m.report(ctx, body)
	}
	if err == nil {
		leftovers.reported(version)
	}
	return err
}

// saysInvalid tells whether an answer blames what was said.
func saysInvalid(err error) bool {
	refused := (*Error)(nil)
	return errors.As(err, &refused) && (refused.Status == http.StatusUnprocessableEntity || refused.Code == api.CodeMappingNotFound)
}

// finish waits for the reports that are queued, as long as ctx allows. Nothing may be added afterwards.
func (r *reporter) finish(ctx context.Context) {
	close(r.queue)
	select {
	case <-r.done:
	case <-ctx.Done():
		r.cancel()
		<-r.done
	}
}
