package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
	"github.com/quiescehq/quiesce/reconcile/bound"
)

func placeOfID(id int) string { return mapping.EncodeKey([]string{strconv.Itoa(id)}) }

func TestTask_RangeIsComparedAndNothingElse(t *testing.T) {
	t.Parallel()
	const rows = 3_000
	w := newWorld(t, rows, nil)
	w.unlink(0, rows, 10)
	for name, test := range map[string]struct {
		from, to      string
		rows, missing uint64
	}{
		"both bounds are rows":  {placeOfID(id(500)), placeOfID(id(1_500)), 1_000, 100},
		"both between rows":     {placeOfID(id(500) - 1), placeOfID(id(1_500) + 1), 1_001, 101},
		"just after a row":      {placeOfID(id(500) + 1), "", rows - 501, 249},
		"up to a row":           {"", placeOfID(id(10)), 10, 1},
		"nothing":               {placeOfID(id(7)), placeOfID(id(7)), 0, 0},
		"beyond all that is":    {placeOfID(id(rows)), "", 0, 0},
		"more than all that is": {placeOfID(0), placeOfID(1 << 40), rows, 300},
	} {
		p := w.perform(fsm.PassOptions{Mode: fsm.PassDryRun, From: test.from, To: test.to})
		if want := (fsm.PassCounts{Rows: test.rows, Equal: test.rows - test.missing, Missing: test.missing}); p.State != fsm.PassDone || p.Counts != want {
			t.Errorf("%s: %s %q: %+v, want %+v", name, p.State, p.Reason, p.Counts, want)
		}
	}
	for _, from := range []string{`["1","2"]`, `["x"]`, `nonsense`} {
		if p := w.perform(fsm.PassOptions{Mode: fsm.PassDryRun, From: from}); p.State != fsm.PassFailed || p.Counts.Rows != 0 {
			t.Errorf("from %s: %s %q", from, p.State, p.Reason)
		}
	}
}

// The rows that a pass draws are those of its id, whoever leads: counts are exact over changes of the leader, and what was found bounds what there is.
func TestTask_SampleIsTheSameForEveryLeader(t *testing.T) {
	t.Parallel()
	const rows, damaged, ppm = 20_000, 1_000, 100_000
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t, rows, nil)
	w.config.ChunkRowsStart, w.config.ChunkRowsMax = 60, 60 // rows that are drawn: some 600 are gone over
	w.unlink(0, rows, rows/damaged)
	pass := w.begin(fsm.PassOptions{Mode: fsm.PassDryRun, SamplePPM: ppm})
	leaders := 0
	for w.log.pass(pass).State == fsm.PassRunning {
		leaders++
		cursor, steps := w.log.pass(pass).Cursor, random.IntN(3)
		resign := w.lead(w.task(nil))
		w.until(pass, "further", func(p fsm.Pass) bool {
			if p.Cursor != cursor {
				cursor = p.Cursor
				steps--
			}
			return steps < 0 || p.State != fsm.PassRunning
		})
		resign()
	}
	drawn, err := w.source.ReadPart(context.Background(), w.mapping, mysql.Part{SamplePPM: ppm, Salt: pass}, nil, mysql.SampleRowsMax)
	if err != nil {
		t.Fatal(err)
	}
	want := fsm.PassCounts{Rows: uint64(len(drawn.Rows))}
	for _, row := range drawn.Rows {
		if n, _ := strconv.Atoi(row.PK[0]); (n-1)/idStep%(rows/damaged) == 0 {
			want.Missing++
		}
	}
	want.Equal = want.Rows - want.Missing
	p := w.log.pass(pass)
	if p.State != fsm.PassDone || p.Counts != want {
		t.Errorf("seed %d, %d leaders: %s %q: %+v, want %+v", seed, leaders, p.State, p.Reason, p.Counts, want)
	}
	if leaders < 3 || want.Rows < 1_600 || want.Rows > 2_400 {
		t.Errorf("seed %d: %d leaders, %d rows of %d drawn", seed, leaders, want.Rows, rows)
	}
	share := float64(damaged) / rows
	if at := bound.Upper(p.Counts.Missing, p.Counts.Rows, 0.999); at < share || at > 3*share {
		t.Errorf("%d of %d differ: at most %.4f, and it is %.4f", p.Counts.Missing, p.Counts.Rows, at, share)
	}
	if p.Estimate < rows/40 || p.Estimate > rows/4 {
		t.Errorf("estimated %d rows of the sample", p.Estimate)
	}
	other := w.perform(fsm.PassOptions{Mode: fsm.PassDryRun, SamplePPM: ppm})
	if other.Expected == p.Expected {
		t.Error("another pass draws the same rows")
	}
}

// A table of which the sample has nothing is gone over to its end all the same.
func TestTask_EmptySampleEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 300, nil)
	w.flush(300)
	p := w.perform(fsm.PassOptions{Mode: fsm.PassDryRun, SamplePPM: 1})
	if p.State != fsm.PassDone || p.Counts.Rows > 2 {
		t.Errorf("%s %q: %+v", p.State, p.Reason, p.Counts)
	}
}

func TestTask_PauseInMidTableKeepsCountsExactForTheNextLeader(t *testing.T) {
	t.Parallel()
	const rows = 10_000
	w := newWorld(t, rows, nil)
	want := w.plant(rows, plan{stale: 100, missing: 100, wrongType: 50, formatOnly: 50})
	want.Repaired = want.Differences()
	before := w.tokens()
	pass := w.start(fsm.PassRewrite, unlimited, 20)
	for range 4 {
		cursor := w.log.pass(pass).Cursor
		task := w.task(nil)
		resign := w.lead(task)
		p := w.until(pass, "further", func(p fsm.Pass) bool { return p.Cursor != cursor || p.State != fsm.PassRunning })
		if p.State != fsm.PassRunning {
			resign()
			break
		}
		w.log.must(t, fsm.PausePass{ID: pass})
		still := w.until(pass, "standing still", func(fsm.Pass) bool { return len(task.Progress()) == 0 })
		resign()
		if now := w.log.pass(pass); now.Cursor != still.Cursor || now.State != fsm.PassPaused {
			t.Fatalf("a paused pass went on to %s: %s", now.Cursor, now.State)
		}
		w.log.must(t, fsm.ResumePass{ID: pass})
	}
	// The same leader takes it up again as well.
	task := w.task(nil)
	resign := w.lead(task)
	if r, err := w.log.Propose(context.Background(), fsm.Op{Command: fsm.PausePass{ID: pass}}); err == nil && !r[0].Refused() {
		w.until(pass, "standing still", func(fsm.Pass) bool { return len(task.Progress()) == 0 })
		w.log.must(t, fsm.ResumePass{ID: pass})
	}
	p := w.ended(pass)
	resign()
	if p.State != fsm.PassDone || p.Counts != want {
		t.Errorf("%s %q: %+v, want %+v", p.State, p.Reason, p.Counts, want)
	}
	if given := w.tokens() - before; given != 1+want.Repaired {
		t.Errorf("%d tokens, want %d", given, 1+want.Repaired)
	}
}

func TestTask_HeldPassGoesOnWhenApproved(t *testing.T) {
	t.Parallel()
	const rows, planted = 2_000, 50
	w := newWorld(t, rows, nil)
	refs := w.unlink(0, rows, rows/planted)
	before := w.tokens()
	defer w.lead(w.task(nil))()
	pass := w.start(fsm.PassRewrite, 10, 0)
	for i, step := range []struct{ limit, repaired uint64 }{{30, 10}, {0, 30}} {
		p := w.until(pass, "held", func(p fsm.Pass) bool { return p.State == fsm.PassHeld })
		if p.Hold != fsm.HoldCap || p.Counts.Repaired != step.repaired || p.Counts.Missing != step.repaired || !strings.Contains(p.Reason, strconv.FormatUint(step.repaired, 10)) {
			t.Errorf("hold %d: %s %q: %+v", i, p.Hold, p.Reason, p.Counts)
		}
		w.log.must(t, fsm.ApprovePass{ID: pass, Limit: step.limit})
	}
	p := w.until(pass, "done", func(p fsm.Pass) bool { return p.State == fsm.PassDone })
	if want := (fsm.PassCounts{Rows: rows, Equal: rows - planted, Missing: planted, Repaired: planted}); p.Counts != want {
		t.Errorf("%+v, want %+v", p.Counts, want)
	}
	if got := sortedRows(w.pendingRows()); !slices.Equal(got, sortedRows(refs)) {
		t.Errorf("%d events, want %d", len(got), len(refs))
	}
	if given := w.tokens() - before; given != 1+2+planted { // the pass, two acts in the audit, the events
		t.Errorf("%d tokens, want %d: some events were enqueued twice", given, 1+2+planted)
	}
}

// The share allows as many as the rows compared so far give, and the cap allows a few before that is anything.
func TestTask_CapGrowsWithTheRowsWhereItIsAShare(t *testing.T) {
	t.Parallel()
	const rows, planted = 2_000, 40
	w := newWorld(t, rows, nil)
	w.unlink(0, rows, rows/planted) // two in a hundred
	for percent, want := range map[uint64]fsm.PassState{1: fsm.PassHeld, 3: fsm.PassDone} {
		p := w.perform(fsm.PassOptions{Mode: fsm.PassRewrite, Cap: 5, CapPercent: percent})
		if p.State != want || p.Counts.Repaired > p.Allowance() || want == fsm.PassHeld && p.Counts.Repaired < 5 {
			t.Errorf("%d %%: %s %q: %+v, %d allowed", percent, p.State, p.Reason, p.Counts, p.Allowance())
		}
		if want == fsm.PassHeld {
			w.log.must(t, fsm.CancelPass{ID: p.ID})
		}
		w.forgetEvents()
	}
}

// forgetEvents settles what is pending without delivering it.
func (w *world) forgetEvents() {
	w.t.Helper()
	for {
		events := w.log.due("orders", 500)
		if len(events) == 0 {
			return
		}
		var c fsm.SettleEvents
		for _, e := range events {
			c.Events = append(c.Events, fsm.Settlement{Row: fsm.RowRef{Mapping: e.Mapping, PK: e.PK}, Revision: w.mapping.Revision(), Token: e.Token})
		}
		w.log.must(w.t, c)
	}
}

// An answer that was lost must not hold a pass again that somebody has approved meanwhile.
func TestTask_HoldIsNotRepeatedAfterAnApproval(t *testing.T) {
	t.Parallel()
	const rows, planted = 500, 20
	w := newWorld(t, rows, nil)
	w.unlink(0, rows, rows/planted)
	pass := w.start(fsm.PassRewrite, 5, 0)
	holds := 0
	w.log.intercept = func(c fsm.Command) (apply, answer bool) {
		if _, hold := c.(fsm.HoldPass); !hold {
			return true, true
		}
		holds++
		return true, holds > 1 // the answer of the first is lost
	}
	approved := false
	w.config.RetryMin, w.config.RetryMax = 300*time.Millisecond, 300*time.Millisecond
	defer w.lead(w.task(nil))()
	p := w.until(pass, "done", func(p fsm.Pass) bool {
		if p.State == fsm.PassHeld && !approved {
			approved = true
			w.log.must(t, fsm.ApprovePass{ID: pass, Limit: unlimited})
			return false
		}
		return p.State == fsm.PassDone || approved && p.State == fsm.PassHeld
	})
	if p.State != fsm.PassDone || p.Counts.Repaired != planted {
		t.Errorf("%s %q after %d holds: %+v", p.State, p.Reason, holds, p.Counts)
	}
}

// The same between the two moments at which the supervisor looks: whoever proposes the hold again finds that the cap is another one.
func TestHold_FindsThatItWasApproved(t *testing.T) {
	t.Parallel()
	log := newTestLog()
	log.must(t, fsm.PutMapping{Name: "t", Spec: []byte("{}")})
	id := log.must(t, fsm.StartPass{Mapping: "t", PassOptions: fsm.PassOptions{Mode: fsm.PassRewrite, Cap: 5}}).Pass.ID
	p := &pass{config: Default(), log: log, logged: log.pass(id), progress: &progress{}, logger: slog.New(slog.DiscardHandler)}
	log.must(t, fsm.HoldPass{ID: id, Hold: fsm.HoldCap, Reason: "its answer is lost"})
	log.must(t, fsm.ApprovePass{ID: id, Limit: 50})
	if err := p.hold(t.Context(), fsm.HoldCap, "again"); !errors.Is(err, errMoved) || log.pass(id).State != fsm.PassRunning {
		t.Errorf("%v, and the pass is %s", err, log.pass(id).State)
	}
	p.logged = log.pass(id)
	if err := p.hold(t.Context(), fsm.HoldCap, "at the new cap"); !errors.Is(err, errHeld) || log.pass(id).State != fsm.PassHeld {
		t.Errorf("%v, and the pass is %s", err, log.pass(id).State)
	}
}
