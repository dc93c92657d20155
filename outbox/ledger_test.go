package outbox

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/fsm"
)

func ledgerRow(pk string) fsm.RowRef { return fsm.RowRef{Mapping: "m", PK: pk} }

func expectRecent(t *testing.T, l *ledger, pk string, since uint64, touched, covered bool) {
	t.Helper()
	gotTouched, gotCovered := l.recent(ledgerRow(pk), since)
	if gotTouched != touched || gotCovered != covered {
		t.Errorf("row %s since %d: touched %v, covered %v; want %v, %v", pk, since, gotTouched, gotCovered, touched, covered)
	}
}

func TestRecent_SettlementIsSeenFromBeforeItAndNotFromAfterIt(t *testing.T) {
	t.Parallel()
	l := newLedger(4, 10)
	l.release(nil, []fsm.RowRef{ledgerRow("a")}, 12)
	expectRecent(t, l, "a", 11, true, true)
	expectRecent(t, l, "a", 12, false, true)
	expectRecent(t, l, "b", 11, false, true)
	expectRecent(t, l, "b", 9, false, false)
}

func TestRecent_ClaimedRowIsTouched(t *testing.T) {
	t.Parallel()
	l := newLedger(4, 10)
	events := []fsm.Event{{Mapping: "m", PK: "a"}}
	l.claim(events)
	expectRecent(t, l, "a", 50, true, true)
	l.release(events, nil, 0)
	expectRecent(t, l, "a", 50, false, true)
}

func TestRecent_UnknownOutcomeTouchesUntilItIsForgotten(t *testing.T) {
	t.Parallel()
	l := newLedger(2, 10)
	l.release(nil, []fsm.RowRef{ledgerRow("a")}, unknownRevision)
	expectRecent(t, l, "a", 99, true, true)
	l.release(nil, []fsm.RowRef{ledgerRow("b")}, 20)
	l.release(nil, []fsm.RowRef{ledgerRow("c")}, 21)
	expectRecent(t, l, "a", 20, false, false)
	expectRecent(t, l, "a", 21, false, true)
}

func TestWrittenSince_TellsWhatIsUnderWayAndWhatWasSettledAndWhetherThatIsAll(t *testing.T) {
	t.Parallel()
	l := newLedger(2, 10)
	began := time.Now()
	l.release(nil, []fsm.RowRef{ledgerRow("old")}, 11)
	moment := time.Now()
	l.release(nil, []fsm.RowRef{ledgerRow("a")}, 12)
	l.claim([]fsm.Event{{Mapping: "m", PK: "b"}, {Mapping: "other", PK: "c"}})
	ours := func(row fsm.RowRef) bool { return row.Mapping == "m" }
	rows, covered := l.writtenSince(moment, ours)
	slices.SortFunc(rows, func(a, b fsm.RowRef) int { return strings.Compare(a.PK, b.PK) })
	if !covered || len(rows) != 2 || rows[0] != ledgerRow("a") || rows[1] != ledgerRow("b") {
		t.Errorf("%v, covered %v", rows, covered)
	}
	if _, covered := l.writtenSince(began.Add(-time.Hour), ours); covered {
		t.Error("what was before the run is not known")
	}
	l.release(nil, []fsm.RowRef{ledgerRow("d")}, 13) // the ring has room for two
	if _, covered := l.writtenSince(began, ours); covered {
		t.Error("what was forgotten is not known")
	}
	if rows, covered := l.writtenSince(moment, ours); !covered || len(rows) != 3 {
		t.Errorf("%v, covered %v", rows, covered)
	}
}

func TestRecent_FullRingForgetsTheOldestAndSaysSo(t *testing.T) {
	t.Parallel()
	l := newLedger(3, 10)
	for i, pk := range []string{"a", "b", "a", "c"} {
		l.release(nil, []fsm.RowRef{ledgerRow(pk)}, uint64(11+i))
	}
	// The first settlement of a, at 11, is forgotten; its second, at 13, is not.
	expectRecent(t, l, "a", 12, true, true)
	expectRecent(t, l, "b", 11, true, true)
	expectRecent(t, l, "b", 10, true, false)
	expectRecent(t, l, "d", 10, false, false)
	if len(l.settled) != 3 {
		t.Errorf("%d rows are remembered, want 3", len(l.settled))
	}
}
