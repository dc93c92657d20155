package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client/quiescetest"
)

// phaseReports lists what an instance reported.
func phaseReports(t *testing.T, coordinator *quiescetest.Coordinator, id string) []api.ReportPhase {
	t.Helper()
	var all []api.ReportPhase
	for _, r := range coordinator.Requests("/v1/instances/" + id + "/phase") {
		var body api.ReportPhase
		must(t, json.Unmarshal(r.Body, &body))
		all = append(all, body)
	}
	return all
}

func TestLeftover_RowsAreReportedOnceForEachChangeAndUntilTheLastWord(t *testing.T) {
	t.Parallel()
	signals := make(quiescetest.Signals, 2)
	coordinator, app, id, code := readyApp(t, Signals(signals), LameDuck(1))
	must(t, coordinator.PutMapping("orders"))
	must(t, app.Leftover("orders", 1, "two", []any{3, "x"}))
	app.Flush("orders", func(context.Context) (int, error) {
		eventually(t, "all are known", func() bool { return coordinator.Status(id).Leftovers == 3 })
		must(t, app.Settled("orders", 1, []any{3, "x"}))
		return 1, nil
	})
	must(t, app.On(PhaseClose, "late", func(context.Context) error { return app.Leftover("orders", 9) }))
	signals.SendSIGTERM()
	if got := exitCode(t, code); got != ExitLeftovers {
		t.Errorf("exit code %d", got)
	}
	var counts []int
	var last *api.Leftovers
	all := phaseReports(t, coordinator, id)
	for _, r := range all {
		if r.Leftovers != nil {
			counts, last = append(counts, len(r.Leftovers.Keys)), r.Leftovers
		}
	}
	if counts[0] != 3 || len(counts) > 3 || len(all) < 8 {
		t.Errorf("of %d reports, those with leftovers had %v rows", len(all), counts)
	}
	if len(last.Keys) != 2 || len(last.Notes) != 1 || !strings.Contains(last.Notes[0], "flush: orders: 1 left") {
		t.Errorf("the last word: %+v", last)
	}
}

func TestLeftover_AreBounded(t *testing.T) {
	t.Parallel()
	app := &App{}
	for i := range api.LeftoversMax {
		must(t, app.Leftover("orders", i))
	}
	must(t, app.Leftover("orders", 0)) // is known
	if err := app.Leftover("orders", "one more", 1); !errors.Is(err, ErrLeftoversFull) {
		t.Errorf("number 1001: %v", err)
	}
	if err := app.Leftover("orders", strings.Repeat("x", api.PKBytesMax+1)); !errors.Is(err, ErrPK) {
		t.Errorf("a long key: %v", err)
	}
	if err := app.Leftover("orders", 1.5); !errors.Is(err, ErrPK) {
		t.Errorf("a fraction: %v", err)
	}
	for i := range 2 * api.NotesMax {
		app.leftovers.note(strings.Repeat("é", api.ReasonBytesMax) + fmt.Sprint(i))
	}
	left, _ := app.leftovers.unreported()
	if len(left.Keys) != api.LeftoversMax || len(left.Notes) != api.NotesMax || len(left.Notes[0]) > api.ReasonBytesMax {
		t.Errorf("%d keys, %d notes of %d bytes", len(left.Keys), len(left.Notes), len(left.Notes[0]))
	}
}

func TestLeftover_RowsThatNobodyKnowsDoNotKeepTheDrainFromBeingReported(t *testing.T) {
	t.Parallel()
	signals := make(quiescetest.Signals, 2)
	coordinator, app, id, code := readyApp(t, Signals(signals), LameDuck(1))
	must(t, app.Leftover("nobody-declared-this", 1))
	signals.SendSIGTERM()
	if got := exitCode(t, code); got != ExitLeftovers {
		t.Errorf("exit code %d", got)
	}
	if v := coordinator.Instances()[0]; v.ID != id || v.State != api.StateLeft || len(v.Phases) < 8 {
		t.Errorf("%+v", v)
	}
}

func TestUndo_TheNextDrainReportsWhatIsLeftAnew(t *testing.T) {
	t.Parallel()
	coordinator, app, id, _ := readyApp(t, LameDuck(1))
	must(t, coordinator.PutMapping("orders"))
	must(t, app.Leftover("orders", 1))
	began, _, err := holds(app, PhaseFlush)
	must(t, err)
	for range 2 {
		must(t, coordinator.Drain(id))
		<-began
		eventually(t, "reported", func() bool { return coordinator.Status(id).Leftovers == 1 })
		must(t, coordinator.Undo(id))
		eventually(t, "ready again", func() bool { return app.serving() })
	}
}
