package reconcile

import (
	"fmt"
	"strings"
	"testing"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
)

// A row has two keys, and one row is left out by the mapping's condition: the second key and the key of the row that is no more in the mapping are looked at as well.
func TestTask_ComparesEveryKeyOfARow(t *testing.T) {
	t.Parallel()
	const rows = 1_200
	again := func(w *world, i int) string { return w.mapping.Keys([]string{fmt.Sprint(id(i))})[1] }
	left := mapping.Literal("customer 000007")
	w := newWorld(t, rows, func(s *mapping.Spec) {
		s.Keys = []string{s.Key, strings.Replace(s.Key, "order:", "again:", 1)}
		s.Key, s.Where = "", []mapping.Condition{{Column: "name", Op: "!=", Value: &left}}
	})
	clean := w.run(fsm.PassDryRun, 0, 0)
	if want := (fsm.PassCounts{Rows: rows, Equal: rows}); clean.State != fsm.PassDone || clean.Counts != want || clean.Expected != clean.Actual || clean.Expected.Count != 2*(rows-1) {
		t.Fatalf("clean table: %+v", clean)
	}
	w.cache.do("DEL", again(w, 5))
	w.cache.do("SET", w.key(7), "left behind")
	found := w.run(fsm.PassRewrite, unlimited, 20)
	want := fsm.PassCounts{Rows: rows, Equal: rows - 2, Missing: 1, Stale: 1, Repaired: 2}
	if found.State != fsm.PassDone || found.Counts != want {
		t.Errorf("%s %q: %+v, want %+v", found.State, found.Reason, found.Counts, want)
	}
	if len(found.Samples) != 2 || found.Samples[0].Key != again(w, 5) || found.Samples[1].Key != w.key(7) {
		t.Errorf("samples %+v", found.Samples)
	}
	w.deliverAll()
	if last := w.run(fsm.PassDryRun, 0, 0); last.Counts.Equal != rows {
		t.Errorf("after the repair: %+v", last.Counts)
	}
}

// The keys are of another column than the table's order, and one row names no key.
func TestTask_ComparesKeysOfOtherColumns(t *testing.T) {
	t.Parallel()
	const rows = 1_200
	w := newWorld(t, rows, func(s *mapping.Spec) {
		s.KeyColumns, s.Fold, s.Key = []string{"note"}, mapping.FoldLower, strings.Replace(s.Key, "order:{id}", "note:{note}", 1)
	})
	clean := w.run(fsm.PassDryRun, 0, 0) // every other row has no note
	if want := (fsm.PassCounts{Rows: rows, Equal: rows}); clean.State != fsm.PassDone || clean.Counts != want || clean.Expected.Count != rows/2 {
		t.Fatalf("clean table: %s %q %+v", clean.State, clean.Reason, clean.Counts)
	}
	w.cache.do("DEL", w.mapping.Key([]string{"note 000010"}))
	found := w.run(fsm.PassRewrite, unlimited, 20)
	if found.Counts.Missing != 1 || found.Counts.Repaired != 1 {
		t.Errorf("%s %q: %+v", found.State, found.Reason, found.Counts)
	}
	if pending := w.pendingRows(); len(pending) != 1 || pending[0].PK != `["note 000010"]` {
		t.Errorf("repairs %+v", pending)
	}
}
