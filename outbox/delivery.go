package outbox

import (
	"context"
	"errors"
	"time"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
	"github.com/quiescehq/quiesce/rediscache"
)

// roundsMax is how often a batch begins again for rows that were invalidated meanwhile, before they wait like others.
const roundsMax = 5

// fenceWait lets the millisecond of an invalidate pass: a begin within the same one is refused, to be safe.
const fenceWait = time.Millisecond

// delivery takes one batch from begin to the log, and fills its report on the way. It belongs to one goroutine.
type delivery struct {
	run *run
	*report
}

// item is one event on its way.
type item struct {
	event *fsm.Event
	tuple []string // of the mapping's key columns
	keys  []string // that it renders
	state itemState
	fault *fault // when the state is itemFailed or itemDead
}

type itemState uint8

const (
	itemOpen       itemState = iota // to be read and applied; at the end: nothing is logged and it is taken again at once
	itemApplied                     // settles
	itemSuperseded                  // settles
	itemRenewed                     // older than its rule: gets a new token
	itemFailed                      // is tried again later
	itemDead                        // is to be buried, once its key is safe
)

// deliver logs nothing when ctx ends on the way: the next leader finds the events as they were.
func (d *delivery) deliver(ctx context.Context) {
	began := time.Now()
	d.prepare()
	d.attempt(ctx)
	d.makeSafe(ctx)
	d.took = time.Since(began)
	if ctx.Err() != nil {
		d.abandon()
		return
	}
	d.log(ctx, d.run)
}

// prepare sets aside what is not to be delivered.
func (d *delivery) prepare() {
	d.items = make([]item, len(d.events))
	for i := range d.events {
		it := &d.items[i]
		it.event = &d.events[i]
		tuple, err := mapping.DecodeKey(it.event.PK)
		if err == nil {
			err = d.rule.mapping.CheckTuple(tuple)
		}
		if err == nil {
			it.tuple, it.keys = tuple, d.rule.mapping.Keys(tuple)
		}
		switch {
		case err != nil:
			it.bury(rowFault(ClassKeyInvalid, err))
		case it.event.Token < d.rule.revision:
			it.state = itemRenewed
		}
	}
}

func (it *item) bury(f *fault) { it.state, it.fault = itemDead, f }
func (it *item) fail(f *fault) { it.state, it.fault = itemFailed, f }

// attempt runs rounds until no row asks for another one.
func (d *delivery) attempt(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, d.run.cfg.AttemptTimeout)
	defer cancel()
	for range roundsMax {
		open := d.open()
		if len(open) == 0 {
			return
		}
		again, ok := d.round(ctx, open)
		if !ok || !again {
			return
		}
		if !pause(ctx, fenceWait) {
			return
		}
	}
	for _, it := range d.open() {
		it.fail(&faultFenced)
	}
}

func (d *delivery) open() []*item {
	open := make([]*item, 0, len(d.items))
	for i := range d.items {
		if d.items[i].state == itemOpen {
			open = append(open, &d.items[i])
		}
	}
	return open
}

// round is begin, read, render, apply. again says that some rows were invalidated after the begin; ok is false when the batch is over.
func (d *delivery) round(ctx context.Context, open []*item) (again, ok bool) {
	batch, err := d.begin(ctx, open)
	if err != nil {
		return false, d.blameTarget(ctx, open, err)
	}
	defer batch.Close()
	rows, ok := d.read(ctx, open)
	if !ok {
		return false, false // what needs no row is taken again at once
	}
	rendered, writes := d.render(open, rows)
	if len(writes) == 0 {
		return false, true
	}
	callCtx, cancel := context.WithTimeout(ctx, d.run.cfg.CallTimeout)
	defer cancel()
	outcomes, err := batch.Apply(callCtx, writes)
	again = d.take(rendered, outcomes)
	if err != nil {
		return false, d.blameTarget(ctx, rendered, err)
	}
	return again, true
}

// needsRow tells whether the item is delivered by what its row is. Others have their keys removed.
func (d *delivery) needsRow(it *item) bool { return !it.event.Drop && d.rule.mapping.NeedsRow() }

func (d *delivery) begin(ctx context.Context, items []*item) (Batch, error) {
	ctx, cancel := context.WithTimeout(ctx, d.run.cfg.CallTimeout)
	defer cancel()
	keys := make([]string, 0, len(items)*d.rule.mapping.KeyCount())
	for _, it := range items {
		keys = append(keys, it.keys...)
	}
	d.targetAsked = true
	return d.rule.target.Begin(ctx, keys)
}

// read answers no rows at all where none is needed.
func (d *delivery) read(ctx context.Context, open []*item) (rows map[string]*mapping.Row, ok bool) {
	readers := make([]*item, 0, len(open))
	tuples := make([][]string, 0, len(open))
	for _, it := range open {
		if d.needsRow(it) {
			readers, tuples = append(readers, it), append(tuples, it.tuple)
		}
	}
	if len(readers) == 0 {
		return nil, true
	}
	callCtx, cancel := context.WithTimeout(ctx, d.run.cfg.CallTimeout)
	defer cancel()
	d.sourceAsked = true
	rows, err := d.rule.source.ReadRows(callCtx, d.rule.mapping, tuples)
	switch {
	case err == nil:
		return rows, true
	case errors.Is(err, mysql.ErrBatchTooLarge):
		d.tooMuch(readers, rowFault(ClassTooLarge, errors.New("the row is larger than what may be read at once")))
		return nil, false
	}
	return nil, d.blameSource(ctx, readers, err)
}

// tooMuch halves the batch. The rows stay as they are and are taken again at once; only a row that is alone is at fault itself.
func (d *delivery) tooMuch(open []*item, alone *fault) {
	d.halve = true
	if len(d.items) > 1 {
		return
	}
	for _, it := range open {
		if alone.permanent {
			it.bury(alone)
		} else {
			it.fail(alone)
		}
	}
}

// render gives the items that can be written and, in the same order, their writes: one for each key of an item, side by side.
func (d *delivery) render(open []*item, rows map[string]*mapping.Row) ([]*item, []rediscache.Guarded) {
	keys := d.rule.mapping.KeyCount()
	rendered := make([]*item, 0, len(open))
	guarded := make([]rediscache.Guarded, 0, len(open)*keys)
	writes := make([]mapping.Write, 0, keys)
	for _, it := range open {
		var err error
		if it.event.Drop {
			writes = d.removals(writes[:0], it)
		} else if writes, err = d.rule.mapping.AppendWrites(writes[:0], it.tuple, rows[it.event.PK], it.event.Token); err != nil {
			it.bury(renderFault(err))
			continue
		}
		rendered = append(rendered, it)
		for _, write := range writes {
			guarded = append(guarded, rediscache.Guarded{Token: it.event.Token, Write: write})
		}
	}
	return rendered, guarded
}

// removals are the writes of an event that only removes: whole keys, also of an encoding that would keep foreign fields of a row that is gone.
func (d *delivery) removals(writes []mapping.Write, it *item) []mapping.Write {
	for _, key := range it.keys {
		writes = append(writes, mapping.Write{Key: key, Guard: d.rule.mapping.Guard(key), Op: mapping.OpDel})
	}
	return writes
}

// take notes the outcomes that were read. An item whose keys are not all written stays open, and all its keys are written again: those that were have its token, and answer so.
func (d *delivery) take(rendered []*item, outcomes []rediscache.Outcome) (again bool) {
	keys := d.rule.mapping.KeyCount()
	var late []*item
	for i, it := range rendered {
		switch worst(outcomes[i*keys : (i+1)*keys]) {
		case rediscache.OutcomeApplied:
			it.state = itemApplied
		case rediscache.OutcomeSuperseded:
			it.state = itemSuperseded
		case rediscache.OutcomeWrongType:
			it.bury(&faultWrongType)
		case rediscache.OutcomeTooLate:
			late = append(late, it)
		case rediscache.OutcomeBeganBeforeInvalidate:
			again = true
		}
	}
	if len(late) > 0 {
		d.tooMuch(late, &faultTooLate)
		return false
	}
	return again
}

// outcomeRanks order the outcomes of one item's keys. What can never be written comes first, then what is not known, then what asks for another round; an item is superseded only if all its keys are.
var outcomeRanks = map[rediscache.Outcome]int{
	rediscache.OutcomeWrongType: 6, rediscache.OutcomeUnknown: 5, rediscache.OutcomeUnconfirmed: 4, rediscache.OutcomeTooLate: 3,
	rediscache.OutcomeBeganBeforeInvalidate: 2, rediscache.OutcomeApplied: 1, rediscache.OutcomeSuperseded: 0,
}

func worst(outcomes []rediscache.Outcome) rediscache.Outcome {
	out := outcomes[0]
	for _, o := range outcomes[1:] {
		if outcomeRanks[o] > outcomeRanks[out] {
			out = o
		}
	}
	return out
}

// blameTarget and blameSource note a fault of a place and postpone the rows; they answer false, for the batch is over. When the run itself ended, nobody is to blame.
func (d *delivery) blameTarget(ctx context.Context, open []*item, err error) bool {
	if !runEnded(ctx) {
		d.targetFault = d.postpone(open, targetFault(err))
	}
	return false
}

func (d *delivery) blameSource(ctx context.Context, open []*item, err error) bool {
	if !runEnded(ctx) {
		d.sourceFault = d.postpone(open, sourceFault(err))
	}
	return false
}

// runEnded tells the end of the run from the end of an attempt, whose deadline is a verdict on the place.
func runEnded(ctx context.Context) bool { return errors.Is(ctx.Err(), context.Canceled) }

// postpone answers the fault as it is charged: a suspect one goes to a row that is alone with it. Such a row would otherwise open the breaker again and again.
func (d *delivery) postpone(open []*item, f *fault) *fault {
	d.halve = d.halve || f.suspect
	if f.suspect && len(d.items) == 1 {
		f.blame = blameRow
	}
	for _, it := range open {
		if it.state == itemOpen {
			it.fail(f)
		}
	}
	return f
}

// makeSafe removes and fences the keys of rows that are about to be buried. If that fails they stay pending, whatever their own fault was.
func (d *delivery) makeSafe(ctx context.Context) {
	doomed, pairs := d.doomed()
	if len(pairs) == 0 {
		return
	}
	err := d.invalidate(ctx, doomed, pairs)
	if err == nil || runEnded(ctx) {
		return
	}
	d.targetFault = targetFault(err)
	for _, it := range doomed {
		it.fail(d.targetFault)
	}
}

// doomed finds the rows whose attempts are exhausted and those that only could fail again. A key that is no key of this table has nothing in Redis to be made safe.
func (d *delivery) doomed() (doomed []*item, pairs []rediscache.KeyPair) {
	for i := range d.items {
		it := &d.items[i]
		if it.state == itemFailed && it.fault.blame == blameRow && it.event.Attempts+1 >= d.run.cfg.AttemptsMax {
			it.state = itemDead
		}
		if it.state != itemDead || it.fault.class == ClassKeyInvalid {
			continue
		}
		doomed = append(doomed, it)
		for _, key := range it.keys {
			pairs = append(pairs, rediscache.KeyPair{Key: key, Guard: d.rule.mapping.Guard(key)})
		}
	}
	return doomed, pairs
}

func (d *delivery) invalidate(ctx context.Context, doomed []*item, pairs []rediscache.KeyPair) error {
	batch, err := d.begin(ctx, doomed)
	if err != nil {
		return err
	}
	defer batch.Close()
	ctx, cancel := context.WithTimeout(ctx, d.run.cfg.CallTimeout)
	defer cancel()
	return batch.Invalidate(ctx, pairs)
}

// pause answers false when ctx ended first.
func pause(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
