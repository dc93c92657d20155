package reconcile

import (
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
)

// tally sums up rows whose verdict is final.
type tally struct {
	counts           fsm.PassCounts
	expected, actual mapping.Sum
}

// count takes a verdict in. The sums hold the rows that have one, so that equal sums mean no difference, also while other rows are hot.
func (t *tally) count(l look) {
	t.counts.Rows++
	*t.class(l.verdict)++
	t.expected.Merge(l.expected)
	t.actual.Merge(l.actual)
}

func (t *tally) countHot() {
	t.counts.Rows++
	t.counts.Hot++
}

func (t *tally) class(v mapping.Verdict) *uint64 {
	switch v {
	case mapping.Equal:
		return &t.counts.Equal
	case mapping.FormatOnly:
		return &t.counts.FormatOnly
	case mapping.Missing:
		return &t.counts.Missing
	case mapping.WrongType:
		return &t.counts.WrongType
	case mapping.NoTTL:
		return &t.counts.NoTTL
	}
	return &t.counts.Stale
}

func (t *tally) merge(o tally) {
	c := &t.counts
	c.Rows += o.counts.Rows
	c.Equal += o.counts.Equal
	c.FormatOnly += o.counts.FormatOnly
	c.Hot += o.counts.Hot
	c.Stale += o.counts.Stale
	c.Missing += o.counts.Missing
	c.WrongType += o.counts.WrongType
	c.NoTTL += o.counts.NoTTL
	c.Repaired += o.counts.Repaired
	t.expected.Merge(o.expected)
	t.actual.Merge(o.actual)
}

// stretch is a run of rows in table order. Only its last row may be open or a confirmed difference, so that the scan can be logged up to
// any row: exactly as many repairs as allowed, and never past a row without a verdict.
type stretch struct {
	cursor  string // key of its last row
	tally   tally
	open    *suspect
	found   *fsm.RowRef
	repair  repair
	example *fsm.Difference
}

// repair is what a difference asks for, where the pass repairs at all.
type repair int

const (
	repairNone repair = iota // there is nothing to remove
	repairFill               // it writes what was absent, and overwrites nothing
	repairKeys
)

// window holds what was compared and is not logged yet, in table order.
type window struct {
	stretches []*stretch
	open      int
}

// add appends a stretch. Plain ones grow together, so the window's size follows from the number of suspects.
func (w *window) add(s *stretch) {
	if s.open != nil {
		w.open++
	}
	if n := len(w.stretches); n > 0 {
		if last := w.stretches[n-1]; last.open == nil && last.found == nil {
			last.tally.merge(s.tally)
			last.cursor, last.open, last.found, last.repair, last.example = s.cursor, s.open, s.found, s.repair, s.example
			return
		}
	}
	w.stretches = append(w.stretches, s)
}

// due gives at most limit stretches whose open rows were opened at or before then, in table order.
func (w *window) due(then uint64, limit int) []*stretch {
	var out []*stretch
	for _, s := range w.stretches {
		if s.open != nil && s.open.opened <= then && len(out) < limit {
			out = append(out, s)
		}
	}
	return out
}

// earliest is the time at which the oldest open row was opened.
func (w *window) earliest() (opened uint64, ok bool) {
	for _, s := range w.stretches {
		if s.open != nil && (!ok || s.open.opened < opened) {
			opened, ok = s.open.opened, true
		}
	}
	return opened, ok
}

// closed counts the stretches at the front that can be logged, and the differences in them.
func (w *window) closed() (stretches, found int) {
	for _, s := range w.stretches {
		if s.open != nil {
			break
		}
		stretches++
		if s.found != nil {
			found++
		}
	}
	return stretches, found
}

// take removes stretches that can be logged from the front, with at most limit differences, and up to the first that is not allowed, which it gives as well. It asks about each in turn.
func (w *window) take(limit int, allowed func(*stretch) bool) (taken []*stretch, beyond *stretch) {
	n := 0
	for ; n < len(w.stretches) && w.stretches[n].open == nil; n++ {
		if w.stretches[n].found != nil && limit == 0 {
			break
		}
		if !allowed(w.stretches[n]) {
			beyond = w.stretches[n]
			break
		}
		if w.stretches[n].found != nil {
			limit--
		}
	}
	taken, w.stretches = w.stretches[:n:n], w.stretches[n:]
	return taken, beyond
}
