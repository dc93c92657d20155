package outbox

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quiescehq/quiesce/fsm"
)

// never stands for a wait that no timer ends.
const never = time.Duration(-1)

// run is one term of the task. All fields but those noted belong to the goroutine of loop.
type run struct {
	task   *Task
	cfg    Config
	log    Log
	sites  Places
	logger *slog.Logger
	ledger *ledger // has its own lock

	timeline *timeline // has its own lock

	lanes    map[string]*lane
	last     string // mapping that was served last: the next one in the alphabet goes first
	free     int    // batches that may still be started
	finished chan *report
	hold     time.Time // nothing is started before, since the log did not answer
	refusals uint32    // entries in a row that the log did not take

	mu     sync.Mutex // guards the map, for Stats
	places map[placeName]*place
}

func newRun(t *Task) *run {
	var revision uint64
	t.log.View(func(s *fsm.State) { revision = s.Revision() })
	return &run{task: t, cfg: t.cfg, log: t.log, sites: t.sites, logger: t.logger, ledger: newLedger(t.cfg.RecentRowsMax, revision),
		timeline: newTimeline(t.cfg.RecentRowsMax),
		lanes:    map[string]*lane{}, free: t.cfg.BatchesMax, finished: make(chan *report, t.cfg.BatchesMax), places: map[placeName]*place{}}
}

// loop decides what is delivered when. Deliveries run beside it; it joins them before it returns.
func (r *run) loop(ctx context.Context) error {
	events, stopEvents := r.log.Watch("events", "")
	defer stopEvents()
	mappings, stopMappings := r.log.Watch("mappings", "")
	defer stopMappings()
	pauses, stopPauses := r.log.Watch("pauses", "")
	defer stopPauses()
	deliveries, ctx := errgroup.WithContext(ctx)
	alarm := time.NewTimer(time.Hour)
	defer alarm.Stop()
	for ctx.Err() == nil {
		alarm.Stop()
		if wait := r.dispatch(ctx, deliveries); wait != never {
			alarm.Reset(wait)
		}
		select {
		case <-ctx.Done():
		case <-events:
		case <-mappings:
			r.forgetLanes()
		case <-pauses:
		case <-alarm.C:
		case done := <-r.finished:
			r.conclude(done)
		}
	}
	err := deliveries.Wait()
	close(r.finished)
	for done := range r.finished {
		r.conclude(done)
	}
	return err
}

// dispatch starts the batches that are due and tells when to look again if nothing else happens.
func (r *run) dispatch(ctx context.Context, deliveries *errgroup.Group) time.Duration {
	if r.free == 0 {
		return never // a batch that ends wakes the loop
	}
	if wait := time.Until(r.hold); wait > 0 {
		return wait
	}
	plan := r.plan()
	if len(plan.changed) > 0 {
		for _, record := range plan.changed {
			r.adopt(record)
		}
		plan = r.plan()
	}
	for _, due := range plan.due {
		r.start(ctx, deliveries, due)
	}
	if len(plan.changed) > 0 {
		return 0 // changed again in between
	}
	return plan.wait
}

// start gives a batch to a goroutine of its own, unless a breaker lets nobody through just now: then the batch that probes wakes the loop.
func (r *run) start(ctx context.Context, deliveries *errgroup.Group, due dueRows) {
	source, target, ok := due.lane.admit()
	if !ok {
		return
	}
	r.free--
	due.lane.inFlight++
	r.last = due.lane.rule.name
	r.ledger.claim(due.events)
	r.task.claimed(r.last, len(due.events))
	if r.task.tap != nil {
		r.task.tap(due.events)
	}
	d := delivery{run: r, report: &report{lane: due.lane, source: source, target: target, rule: due.lane.rule, events: due.events}}
	deliveries.Go(func() error {
		d.deliver(ctx)
		r.finished <- d.report // has room for every batch
		return nil
	})
}

// conclude takes a batch back: breakers, batch size, claims, figures.
func (r *run) conclude(done *report) {
	r.free++
	done.lane.inFlight--
	done.lane.adapt(len(done.events), done.took, done.halve)
	done.settleTickets()
	r.timeline.note(done)
	r.ledger.release(done.events, done.touched(), done.revision)
	r.task.concluded(done)
	r.logDead(done)
	if done.proposeErr == nil {
		r.refusals = 0
		return
	}
	// The events are still pending, or were settled after all: both are found out by beginning anew.
	r.hold = time.Now().Add(r.cfg.backoffCeiling(r.refusals))
	r.refusals++
	r.logger.Warn("outcome of a batch was not logged, its events are delivered again", "mapping", done.rule.name, "events", len(done.events), "error", done.proposeErr)
}

// logDead names one row of a batch that has dead letters; the others are in the state.
func (r *run) logDead(done *report) {
	for i := range done.items {
		if it := &done.items[i]; it.state == itemDead {
			r.logger.Warn("events became dead letters", "mapping", done.rule.name, "pk", it.event.PK, "class", it.fault.class, "error", it.fault.cause)
			return
		}
	}
}

// place gives the breaker of a target or a source's table.
func (r *run) place(name placeName) *place {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.places[name]
	if p == nil {
		p = newPlace(r.cfg, name, r.logger)
		r.places[name] = p
	}
	return p
}

// forgetLanes drops lanes and breakers of mappings that were deleted, so that they do not gather over the months.
func (r *run) forgetLanes() {
	r.log.View(func(s *fsm.State) {
		for name, l := range r.lanes {
			if _, ok := s.Mapping(name); !ok && l.inFlight == 0 {
				delete(r.lanes, name)
			}
		}
	})
	used := map[*place]bool{}
	for _, l := range r.lanes {
		used[l.source], used[l.target] = true, true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, p := range r.places {
		if !used[p] {
			delete(r.places, name)
		}
	}
}
