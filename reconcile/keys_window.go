package reconcile

import (
	"context"
	"fmt"
	"time"

	"github.com/quiescehq/quiesce/fsm"
)

// keyPart is what one scan gave, up to its cursor.
type keyPart struct {
	cursor fsm.KeyCursor
	counts fsm.KeyCounts // of this part
	open   []*stray
	found  []extraKey
}

// extraKey is a confirmed key without a row.
type extraKey struct {
	ref    fsm.RowRef
	sample *fsm.Difference
}

// keyWindow holds the parts that are not logged yet, in the order of the scans.
type keyWindow struct {
	parts []*keyPart
	open  int
	anew  bool // the next part to be logged is the first of another life
}

// add appends a part. One without suspects joins the one before, if that has none either.
func (w *keyWindow) add(part *keyPart) {
	w.open += len(part.open)
	if n := len(w.parts); n > 0 {
		if last := w.parts[n-1]; len(last.open)+len(last.found)+len(part.open)+len(part.found) == 0 {
			addCounts(&last.counts, part.counts)
			last.cursor = part.cursor
			return
		}
	}
	w.parts = append(w.parts, part)
}

// due gives at most limit open keys that were opened at or before then and not read again since.
func (w *keyWindow) due(then uint64, limit int) []*stray {
	var out []*stray
	for _, part := range w.parts {
		for _, s := range part.open {
			if s.seen == nil && s.opened <= then {
				if out = append(out, s); len(out) == limit {
					return out
				}
			}
		}
	}
	return out
}

// earliest gives the key that was opened first of those that are to be read again, and tells whether others wait for the relay.
func (w *keyWindow) earliest() (first *stray, asked bool) {
	for _, part := range w.parts {
		for _, s := range part.open {
			switch {
			case s.seen != nil:
				asked = true
			case first == nil || s.opened < first.opened:
				first = s
			}
		}
	}
	return first, asked
}

// closed tells whether something can be logged.
func (w *keyWindow) closed() bool { return len(w.parts) > 0 && len(w.parts[0].open) == 0 }

// take removes parts that can be logged from the front: one, and more of them as long as their extra keys fit into one checkpoint.
func (w *keyWindow) take() (taken []*keyPart) {
	found := 0
	for len(w.parts) > 0 && len(w.parts[0].open) == 0 {
		if found += len(w.parts[0].found); found > fsm.RepairsBatchMax && len(taken) > 0 {
			break
		}
		taken, w.parts = append(taken, w.parts[0]), w.parts[1:]
	}
	return taken
}

// extras counts the extra keys that can be logged.
func (w *keyWindow) extras() (n int) {
	for _, part := range w.parts {
		if len(part.open) > 0 {
			break
		}
		n += len(part.found)
	}
	return n
}

func addCounts(sum *fsm.KeyCounts, part fsm.KeyCounts) {
	sum.Looked += part.Looked
	sum.Matched += part.Matched
	sum.Foreign += part.Foreign
	sum.Hot += part.Hot
	sum.Extra += part.Extra
	sum.Removed += part.Removed
}

// checkpointIfDue logs what is settled: every CheckpointEvery, as soon as a checkpoint's removals are full, and without delay at the end.
func (k *keyPhase) checkpointIfDue(ctx context.Context, over bool) error {
	for k.window.closed() {
		if !over && k.window.extras() < fsm.RepairsBatchMax && time.Since(k.saved) < k.config.CheckpointEvery {
			return nil
		}
		if err := k.checkpointKeys(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (k *keyPhase) checkpointKeys(ctx context.Context) error {
	if _, err := k.mappingRecord(); err != nil {
		return err
	}
	parts := k.window.take()
	c := fsm.CheckpointKeys{ID: k.logged.ID, From: k.logged.Scan, Scan: parts[len(parts)-1].cursor, Counts: k.logged.Keys}
	if k.window.anew {
		c.Counts = fsm.KeyCounts{Extra: c.Counts.Removed, Removed: c.Counts.Removed}
		k.window.anew = false
	}
	for _, part := range parts {
		addCounts(&c.Counts, part.counts)
		k.removals(&c, part.found)
	}
	return k.logKeys(ctx, c)
}

// removals adds extra keys to a checkpoint: to be shown, and to be removed as long as that was approved. Keys of one row are removed by one event.
func (k *keyPhase) removals(c *fsm.CheckpointKeys, found []extraKey) {
	for _, x := range found {
		if x.sample != nil {
			c.Samples = append(c.Samples, *x.sample)
		}
		if k.logged.Mode == fsm.PassDryRun || c.Counts.Removed >= k.logged.Removals || len(c.Extras) >= fsm.RepairsBatchMax {
			continue
		}
		c.Counts.Removed++
		c.Extras = append(c.Extras, x.ref)
	}
}

func (k *keyPhase) logKeys(ctx context.Context, c fsm.CheckpointKeys) error {
	answer, err := k.propose(ctx, c)
	if err != nil {
		return err
	}
	if answer.Refused() {
		return fmt.Errorf("%w: %s", errMoved, answer.Detail)
	}
	k.logged.Phase, k.logged.Scan, k.logged.Keys = fsm.PassKeys, c.Scan, c.Counts
	k.saved = time.Now()
	return nil
}
