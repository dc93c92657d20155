package reconcile

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/fsm"
)

const unlimited = 1 << 40

func (w *world) pendingRows() (out []fsm.RowRef) {
	w.log.View(func(s *fsm.State) {
		s.Events(fsm.RowRef{}, func(e fsm.Event) bool {
			out = append(out, fsm.RowRef{Mapping: e.Mapping, PK: e.PK})
			return true
		})
	})
	return out
}

func (w *world) tokens() (n uint64) {
	w.log.View(func(s *fsm.State) { n = s.Token() })
	return n
}

func (w *world) unlink(from, to, step int) (refs []fsm.RowRef) {
	args := []string{"UNLINK"}
	for i := from; i < to; i += step {
		refs = append(refs, w.ref(i))
		args = append(args, w.key(i))
	}
	w.cache.do(args...)
	return refs
}

func sortedRows(refs []fsm.RowRef) []fsm.RowRef {
	slices.SortFunc(refs, func(a, b fsm.RowRef) int { return strings.Compare(a.PK, b.PK) })
	return refs
}

func TestTask_RewriteRepairsExactlyTheDifferences(t *testing.T) {
	t.Parallel()
	const rows = 20_000
	w := newWorld(t, rows, nil)
	want := w.plant(rows, plan{stale: 40, missing: 30, wrongType: 0, formatOnly: 15, swapped: 25})
	more := w.unlink(10_001, 15_000, 2) // more than one checkpoint may carry; odd rows, so none of the planted ones
	want.Missing += uint64(len(more))
	want.Equal -= uint64(len(more))
	want.Repaired = want.Differences()

	before := w.tokens()
	p := w.run(fsm.PassRewrite, unlimited, 20)
	if p.State != fsm.PassDone || p.Counts != want {
		t.Fatalf("%s %q: %+v, want %+v", p.State, p.Reason, p.Counts, want)
	}
	if given := w.tokens() - before; given != 1+want.Repaired || uint64(w.log.pending()) != want.Repaired {
		t.Errorf("%d tokens and %d events for one pass and %d repairs", given, w.log.pending(), want.Repaired)
	}
	w.deliverAll()
	again := w.run(fsm.PassDryRun, 0, 20)
	clean := fsm.PassCounts{Rows: rows, Equal: rows - want.FormatOnly, FormatOnly: want.FormatOnly}
	if again.Counts != clean || again.Expected != again.Actual {
		t.Errorf("after the repair: %+v", again)
	}
	if again.Expected != p.Expected {
		t.Error("the table has not changed, but its digest has")
	}
}

func TestTask_IsHeldAtTheCap(t *testing.T) {
	t.Parallel()
	const rows, planted = 2_000, 50
	for _, limit := range []uint64{0, 10, planted - 1, planted} {
		w := newWorld(t, rows, nil)
		refs := w.unlink(0, rows, rows/planted)
		p := w.run(fsm.PassRewrite, limit, 0)
		repaired := min(limit, planted)
		if p.Counts.Repaired != repaired || p.Counts.Missing != repaired {
			t.Errorf("cap %d: %+v", limit, p.Counts)
		}
		if got, want := sortedRows(w.pendingRows()), sortedRows(refs[:repaired]); !slices.Equal(got, want) {
			t.Errorf("cap %d: repairs %v, want the first ones of the table %v", limit, got, want)
		}
		want := fsm.PassHeld
		if limit >= planted {
			want = fsm.PassDone
		}
		if p.State != want || (want == fsm.PassHeld) != (p.Hold == fsm.HoldCap && strings.HasPrefix(p.Reason, fmt.Sprintf("cap: %d of ", limit))) {
			t.Errorf("cap %d: %s %q", limit, p.State, p.Reason)
		}
	}
}

func TestTask_CountsAreExactAcrossLeaders(t *testing.T) {
	t.Parallel()
	const rows = 20_000
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t, rows, nil)
	want := w.plant(rows, plan{stale: 100, missing: 100, wrongType: 50, formatOnly: 50, swapped: 50})
	want.Repaired = want.Differences()
	before := w.tokens()
	pass := w.start(fsm.PassRewrite, unlimited, 30)
	leaders := 0
	for w.log.pass(pass).State == fsm.PassRunning {
		leaders++
		cursor := w.log.pass(pass).Cursor
		resign := w.lead(w.task(nil))
		steps := random.IntN(4)
		w.until(pass, "further", func(p fsm.Pass) bool {
			if p.Cursor != cursor {
				cursor = p.Cursor
				steps--
			}
			return steps < 0 || p.State != fsm.PassRunning
		})
		resign()
	}
	p := w.log.pass(pass)
	if p.State != fsm.PassDone || p.Counts != want {
		t.Errorf("seed %d, %d leaders: %s %q: %+v, want %+v", seed, leaders, p.State, p.Reason, p.Counts, want)
	}
	if leaders < 3 {
		t.Errorf("seed %d: only %d leaders, nothing was tried", seed, leaders)
	}
	if given := w.tokens() - before; given != 1+want.Repaired {
		t.Errorf("seed %d: %d tokens, want %d: some rows were repaired twice or not", seed, given, 1+want.Repaired)
	}
	w.deliverAll() // a row with a pending event would have no verdict
	single := w.run(fsm.PassDryRun, 0, 0)
	if single.Expected != p.Expected {
		t.Errorf("seed %d: the table's digest is not the one that a single leader gets", seed)
	}
}

func TestTask_LostAnswersOfTheLogDoNotCountTwice(t *testing.T) {
	t.Parallel()
	const rows = 5_000
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t, rows, nil)
	want := w.plant(rows, plan{stale: 100, missing: 100})
	want.Repaired = want.Differences()
	before := w.tokens()
	pass := w.start(fsm.PassRewrite, unlimited, 0)
	lost := 0
	w.log.intercept = func(fsm.Command) (apply, answer bool) {
		apply, answer = random.IntN(3) > 0, random.IntN(3) > 0
		if !apply || !answer {
			lost++
		}
		return apply, answer
	}
	resign := w.lead(w.task(nil))
	p := w.ended(pass)
	resign()
	if p.State != fsm.PassDone || p.Counts != want || lost == 0 {
		t.Errorf("seed %d, %d lost: %s %q: %+v, want %+v", seed, lost, p.State, p.Reason, p.Counts, want)
	}
	if given := w.tokens() - before; given != 1+want.Repaired {
		t.Errorf("seed %d: %d tokens, want %d", seed, given, 1+want.Repaired)
	}
}
