package outbox

import (
	"context"
	"time"

	"github.com/quiescehq/quiesce/fsm"
)

// report is what became of a batch. It goes from the deciding goroutine to the delivering one and back.
type report struct {
	lane           *lane // belongs to the deciding goroutine
	source, target ticket

	rule   *rule
	events []fsm.Event
	items  []item
	took   time.Duration
	halve  bool // the lane should take fewer rows

	// How the places did: a place that was asked and has no fault is well.
	sourceAsked, targetAsked bool
	sourceFault, targetFault *fault

	proposed   bool
	proposeErr error  // then the outcome of the entry is unknown
	revision   uint64 // of the state after the entry, or unknownRevision
}

// abandon forgets what the places said: the run ended in mid-call.
func (r *report) abandon() {
	r.sourceAsked, r.targetAsked = false, false
	r.sourceFault, r.targetFault = nil, nil
}

// log puts the outcome of the whole batch into one entry.
func (r *report) log(ctx context.Context, run *run) {
	ops := r.ops(run)
	if len(ops) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, run.cfg.ProposeTimeout)
	defer cancel()
	r.proposed = true
	results, err := run.log.Propose(ctx, ops...)
	if err != nil {
		r.proposeErr, r.revision = err, unknownRevision
		return
	}
	for _, result := range results {
		r.revision = max(r.revision, result.Index)
	}
}

func (r *report) ops(run *run) []fsm.Op {
	var settle fsm.SettleEvents
	var bury fsm.BuryEvents
	var fail fsm.FailEvents
	var renew fsm.EnqueueEvents
	renewDrop := fsm.EnqueueEvents{Drop: true} // of one that became an ordinary event meanwhile it makes none
	for i := range r.items {
		it := &r.items[i]
		switch it.state {
		case itemApplied, itemSuperseded:
			settle.Events = append(settle.Events, r.settlement(it))
		case itemRenewed:
			again := &renew
			if it.event.Drop {
				again = &renewDrop
			}
			again.Events = append(again.Events, rowOf(it.event))
		case itemDead:
			// The failure changes nothing once the event is buried. Where there is no room for another dead letter it keeps the event from being tried without a pause.
			bury.Events = append(bury.Events, r.failure(it, 0))
			fail.Events = append(fail.Events, r.failure(it, run.delayMs(it)))
		case itemFailed:
			fail.Events = append(fail.Events, r.failure(it, run.delayMs(it)))
		}
	}
	var ops []fsm.Op
	add := func(rows int, command fsm.Command) {
		if rows > 0 {
			ops = append(ops, fsm.Op{Command: command})
		}
	}
	add(len(settle.Events), settle)
	add(len(bury.Events), bury)
	add(len(fail.Events), fail)
	add(len(renew.Events), renew)
	add(len(renewDrop.Events), renewDrop)
	return ops
}

func (r *report) settlement(it *item) fsm.Settlement {
	return fsm.Settlement{Row: rowOf(it.event), Revision: r.rule.revision, Token: it.event.Token}
}

func (r *report) failure(it *item, delayMs uint64) fsm.Failure {
	return fsm.Failure{Event: r.settlement(it), Class: it.fault.class, Detail: it.fault.detail, DelayMs: delayMs, Attempt: it.fault.blame == blameRow}
}

// delayMs spreads rows over their backoff. A place's breaker decides when the place is asked again, so its rows only make room for others until the next probe:
// were they to back off like failures, an hour's outage would be followed by a long wait for nothing.
func (r *run) delayMs(it *item) uint64 {
	switch it.fault.blame {
	case blameRow:
		return r.task.jitter.upTo(r.cfg.backoffCeiling(it.event.Attempts))
	case blameNobody:
		return r.task.jitter.upTo(r.cfg.BackoffBase)
	}
	return r.task.jitter.upTo(r.cfg.BreakerOpen)
}

// settleTickets tells the breakers how their places did.
func (r *report) settleTickets() {
	giveBack(r.source, r.sourceAsked, r.sourceFault)
	giveBack(r.target, r.targetAsked, r.targetFault)
}

func giveBack(t ticket, asked bool, f *fault) {
	switch {
	case !asked:
		t.skip()
	case f == nil:
		t.succeed()
	case f.blame == blameRow:
		t.skip()
	default:
		t.fail(f)
	}
}

// touched are the rows whose events may be gone from the state while their keys were written.
func (r *report) touched() []fsm.RowRef {
	if !r.proposed {
		return nil
	}
	var rows []fsm.RowRef
	for i := range r.items {
		switch it := &r.items[i]; it.state {
		case itemApplied, itemSuperseded, itemDead:
			rows = append(rows, rowOf(it.event))
		}
	}
	return rows
}
