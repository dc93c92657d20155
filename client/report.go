package client

import (
	"context"
	"maps"
	"time"
)

const (
	reportsMax   = 16 // more than there are phases
	reportPeriod = time.Second
)

// reporter tells the coordinator in order what the drain does, without holding it up.
type reporter struct {
	app   *App
	why   string
	queue chan Phase
	stop  context.CancelFunc
	done  chan struct{}
}

func (a *App) newReporter(why string) *reporter {
	r := &reporter{app: a, why: why, queue: make(chan Phase, reportsMax), done: make(chan struct{})}
	var ctx context.Context
	ctx, r.stop = context.WithCancel(context.Background())
	a.joined.Go(func() {
		defer close(r.done)
		r.run(ctx)
	})
	return r
}

func (r *reporter) add(p Phase) {
	select {
	case r.queue <- p:
	default: // the phases are fewer than the queue is long
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
		case p, more := <-r.queue:
			if !more {
				return
			}
			phase, told = p, r.app.readCounters()
			r.send(ctx, phase, told)
		case <-ticker.C:
			if now := r.app.readCounters(); phase != "" && !maps.Equal(now, told) {
				told = now
				r.send(ctx, phase, told)
			}
		}
	}
}

func (r *reporter) send(ctx context.Context, p Phase, counters map[string]uint64) {
	if !r.app.member.reachable() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, reportFor)
	defer cancel()
	if err := r.app.member.report(ctx, p, counters, r.why); err != nil {
		r.app.log.Warn("a phase could not be reported", "phase", p, "error", err)
	}
}

// finish waits for the reports that are queued, as long as ctx allows. Nothing may be added afterwards.
func (r *reporter) finish(ctx context.Context) {
	close(r.queue)
	select {
	case <-r.done:
	case <-ctx.Done():
		r.stop()
		<-r.done
	}
}
