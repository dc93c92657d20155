package reconcile

import (
	"strings"
	"testing"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
)

// Keys that may be absent are no difference, unless the pass is asked to fill them; then they are written, and do not count for the cap.
func TestTask_FillWritesWhatIsAbsentAndCountsItApart(t *testing.T) {
	t.Parallel()
	const rows, absent = 3_000, 1_500
	for name, encoding := range map[string]mapping.Encoding{"json": mapping.JSON, "hash": mapping.Hash} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := mapping.Literal("customer 000001")
			w := newWorld(t, rows, func(s *mapping.Spec) {
				s.Encoding, s.TTLMillis, s.Where = encoding, 600_000, []mapping.Condition{{Column: "name", Op: "!=", Value: &out}}
			})
			w.unlink(0, 2*absent, 2) // even rows; row 1 has no key and is to have none
			for i := 3; i < 43; i += 4 {
				w.spoil(w.key(i))
			}
			if p := w.run(fsm.PassDryRun, 0, 0); p.Counts.Missing != 0 || p.Counts.Stale != 10 || p.Expected.Count != rows-absent-1 {
				t.Fatalf("before: %+v", p)
			}
			p := w.perform(fsm.PassOptions{Mode: fsm.PassRewrite, Cap: 10, Fill: true, ConfirmMs: 20})
			want := fsm.PassCounts{Rows: rows, Equal: rows - absent - 10, Missing: absent, Stale: 10, Repaired: absent + 10}
			if p.State != fsm.PassDone || p.Counts != want || p.Filled != absent {
				t.Errorf("%s %q: %+v, %d filled, want %+v", p.State, p.Reason, p.Counts, p.Filled, want)
			}
			w.deliverAll()
			after := w.run(fsm.PassDryRun, 0, 0)
			if after.Counts.Equal != rows || after.Expected.Count != rows-1 || after.Expected != after.Actual {
				t.Errorf("after: %+v", after)
			}
		})
	}
}

// Beyond the cap, a pass that fills is held by what it would overwrite, and by nothing else.
func TestTask_FillIsHeldByDifferencesOnly(t *testing.T) {
	t.Parallel()
	const rows = 1_000
	w := newWorld(t, rows, func(s *mapping.Spec) { s.TTLMillis = 600_000 })
	w.unlink(0, 600, 1)
	w.spoil(w.key(700))
	p := w.perform(fsm.PassOptions{Mode: fsm.PassRewrite, Fill: true})
	if p.State != fsm.PassHeld || p.Filled != 600 || p.Counts.Repaired != 600 || p.Counts.Stale != 0 {
		t.Errorf("%s %q: %+v, %d filled", p.State, p.Reason, p.Counts, p.Filled)
	}
}

func TestTask_RowsWithEventsAreNotFilledAgain(t *testing.T) {
	t.Parallel()
	const rows = 600
	w := newWorld(t, rows, func(s *mapping.Spec) { s.TTLMillis = 600_000 })
	refs := w.unlink(0, 20, 1)
	w.log.must(t, fsm.EnqueueEvents{Events: refs[:15]})
	p := w.perform(fsm.PassOptions{Mode: fsm.PassRewrite, Fill: true})
	if want := (fsm.PassCounts{Rows: rows, Equal: rows - 20, Hot: 15, Missing: 5, Repaired: 5}); p.Counts != want || w.log.pending() != 20 {
		t.Errorf("%+v, want %+v", p.Counts, want)
	}
}

func TestTask_NothingIsFilledWhereReadersDecideWhatIsCached(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 10, func(s *mapping.Spec) { s.Mode = mapping.WriteIfPresent })
	if p := w.perform(fsm.PassOptions{Mode: fsm.PassRewrite, Fill: true}); p.State != fsm.PassFailed || !strings.HasPrefix(p.Reason, "not_fillable: ") {
		t.Errorf("%s %q", p.State, p.Reason)
	}
}

// In mode invalidate what differs is removed: there is nothing to do where nothing is there, and the next that writes the key makes it right.
func TestTask_InvalidateRemovesWhatDiffers(t *testing.T) {
	t.Parallel()
	const rows = 4_000
	w := newWorld(t, rows, nil)
	want := w.plant(rows, plan{stale: 40, missing: 30, wrongType: 20})
	want.Repaired = 60
	p := w.run(fsm.PassInvalidate, unlimited, 20)
	if p.State != fsm.PassDone || p.Counts != want {
		t.Fatalf("%s %q: %+v, want %+v", p.State, p.Reason, p.Counts, want)
	}
	refs := w.pendingRows()
	for _, e := range w.log.due("orders", 1_000) {
		if !e.Drop || e.Pass != p.ID {
			t.Errorf("%+v does not remove", e)
		}
	}
	w.deliverAll()
	if after := w.run(fsm.PassDryRun, 0, 0); after.Counts.Missing != 90 || after.Counts.Differences() != 90 {
		t.Errorf("after: %+v", after.Counts)
	}
	w.log.must(t, fsm.EnqueueEvents{Events: refs}) // somebody writes the rows
	w.deliverAll()
	if after := w.run(fsm.PassDryRun, 0, 0); after.Counts.Missing != 30 || after.Counts.Differences() != 30 {
		t.Errorf("written anew: %+v", after.Counts)
	}
}

func TestTask_InvalidateIsHeldAtItsCapToo(t *testing.T) {
	t.Parallel()
	const rows = 1_000
	w := newWorld(t, rows, nil)
	w.plant(rows, plan{stale: 20, missing: 20})
	if p := w.run(fsm.PassInvalidate, 15, 0); p.State != fsm.PassHeld || p.Counts.Repaired != 15 {
		t.Errorf("%s %q: %+v", p.State, p.Reason, p.Counts)
	}
}

// Nobody can vouch for the keys of a mapping that only invalidates: mode invalidate removes those that are there, and says so.
func TestTask_InvalidateRemovesAllKeysThatNobodyCanVouchFor(t *testing.T) {
	t.Parallel()
	const rows, filled = 1_200, 100
	w := newWorld(t, rows, func(s *mapping.Spec) { s.Mode, s.Columns, s.Encoding = mapping.Invalidate, nil, "" })
	for i := range filled {
		w.cache.do("SET", w.key(i*10), "whatever a reader put there")
	}
	p := w.run(fsm.PassInvalidate, unlimited, 20)
	want := fsm.PassCounts{Rows: rows, Equal: rows - filled, Stale: filled, Repaired: filled}
	if p.State != fsm.PassDone || p.Counts != want {
		t.Fatalf("%s %q: %+v, want %+v", p.State, p.Reason, p.Counts, want)
	}
	if len(p.Samples) == 0 || p.Samples[0].Class != classUnverified || p.Samples[0].Expected != "" || p.Samples[0].Actual != "whatever a reader put there" {
		t.Errorf("samples %+v", p.Samples)
	}
	w.deliverAll()
	if got := w.cache.do("EXISTS", w.key(10)); got != "0" {
		t.Error("a key is still there")
	}
	if again := w.run(fsm.PassInvalidate, unlimited, 0); again.Counts.Equal != rows {
		t.Errorf("again: %+v", again.Counts)
	}
}
