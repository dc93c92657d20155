package httpapi

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// passBody gives the body of a pass with one option, over a mapping of its own: a mapping has one pass at a time.
func (e *edge) passBody(option string) func(n int) string {
	return func(n int) string {
		name := fmt.Sprintf("p-%s-%d", strings.ReplaceAll(option, "_", "-"), n)
		e.do(put, "/v1/mappings/"+name, `{"table":"t"}`)
		return fmt.Sprintf(`{"mapping":%q,%q:%d}`, name, option, n)
	}
}

// startPass begins a pass over a mapping that is made for it.
func (e *edge) startPass(mapping, options string) uint64 {
	e.t.Helper()
	e.do(put, "/v1/mappings/"+mapping, `{"table":"t"}`)
	return into[api.PassStarted](e.t, e.do(post, "/v1/passes", fmt.Sprintf(`{"mapping":%q%s}`, mapping, options))).ID
}

func (e *edge) pass(id uint64) api.Pass {
	e.t.Helper()
	return into[api.Pass](e.t, e.do(get, fmt.Sprintf("/v1/passes/%d", id), ""))
}

func (e *edge) must(command fsm.Command) fsm.Result {
	e.t.Helper()
	r := e.rep.apply(fsm.Op{Command: command})[0]
	if r.Refused() {
		e.t.Fatalf("%T: %s %s", command, r.Code, r.Detail)
	}
	return r
}

// TestPass_WhatIsNotSaidHasItsDefault: and a cap that is named is the only one.
func TestPass_WhatIsNotSaidHasItsDefault(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	for i, c := range []struct {
		options      string
		cap, percent uint64
	}{
		{``, 1_000, 1}, {`,"cap":0`, 0, 0}, {`,"cap":7`, 7, 0}, {`,"cap_percent":5`, 1_000, 5}, {`,"cap_percent":0`, 1_000, 0}, {`,"cap":7,"cap_percent":5`, 7, 5},
	} {
		p := e.pass(e.startPass(fmt.Sprintf("m%d", i), c.options))
		if p.Cap != c.cap || p.CapPercent != c.percent || p.Mode != api.PassDryRun || p.ConfirmDelayMs != 1_000 || p.Phase != api.PassPhaseRows {
			t.Errorf("%s: %+v", c.options, p)
		}
	}
}

// TestPass_OptionsComeBackAsTheyWereAsked: the range in canonical form.
func TestPass_OptionsComeBackAsTheyWereAsked(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	p := e.pass(e.startPass("m", `,"mode":"rewrite","range":{"from":["7"],"to":[9]},"sample":0.25,"fill_missing":true,"rate":50,"confirm_delay_ms":5`))
	if p.Mode != api.PassRewrite || p.Sample != 0.25 || !p.FillMissing || p.Rate != 50 || p.ConfirmDelayMs != 5 || p.Range == nil ||
		string(p.Range.From[0]) != `"7"` || string(p.Range.To[0]) != `"9"` || p.Keys != nil {
		t.Errorf("%+v", p)
	}
	e.rep.View(func(s *fsm.State) {
		x, _ := s.Pass(p.ID)
		if x.From != `["7"]` || x.To != `["9"]` || x.SamplePPM != 250_000 || !x.Fill || x.RateMax != 50 {
			t.Errorf("%+v", x.PassOptions)
		}
	})
	if p := e.pass(e.startPass("owner", `,"extras":true,"sample":1`)); !p.Extras || p.Sample != 0 || p.Keys == nil {
		t.Errorf("%+v", p)
	}
}

func TestPass_IsPausedResumedHeldAndApproved(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	id := e.startPass("m", `,"mode":"rewrite","cap":10`)
	ask := func(verb, body string) reply { return e.do(post, fmt.Sprintf("/v1/passes/%d/%s", id, verb), body) }
	if ask("pause", "").status != 204 || e.pass(id).State != api.PassPaused || ask("pause", "").status != 204 {
		t.Error("not paused")
	}
	if p := ask("approve", "{}").problem(t); p.Code != api.CodePassNotHeld {
		t.Errorf("%+v", p)
	}
	if ask("resume", "").status != 204 || e.pass(id).State != api.PassRunning {
		t.Error("not resumed")
	}
	e.must(fsm.HoldPass{ID: id, Hold: fsm.HoldCap, Reason: "10 rows were repaired and more differ"})
	if p := e.pass(id); p.State != api.PassHeld || p.Hold != api.HoldCap || p.Reason == "" || p.Allowance != 10 {
		t.Errorf("%+v", p)
	}
	if held := into[api.Passes](t, e.do(get, "/v1/passes?state=held", "")).Passes; len(held) != 1 {
		t.Errorf("%d held passes are listed", len(held))
	}
	if running := into[api.Passes](t, e.do(get, "/v1/passes?state=running", "")).Passes; len(running) != 0 {
		t.Errorf("%d running passes are listed", len(running))
	}
	for _, verb := range []string{"pause", "resume"} {
		if p := ask(verb, "").problem(t); p.Code != api.CodePassHeld {
			t.Errorf("%s: %+v", verb, p)
		}
	}
	if ask("approve", `{"limit":25}`).status != 204 || e.pass(id).Allowance != 25 {
		t.Error("not approved")
	}
	acts := into[api.Audit](t, e.do(get, "/v1/audit", "")).Acts
	if len(acts) == 0 || acts[0].Action != "pass.approve" || acts[0].Subject != "m" {
		t.Errorf("an approval is not on record: %+v", acts)
	}
}

// TestPass_ProgressIsTheLeadersAndOfRunningPasses: a paused pass does nothing, whatever the leader still remembers.
func TestPass_ProgressIsTheLeadersAndOfRunningPasses(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	id := e.startPass("m", "")
	if p := e.pass(id); p.Progress != nil {
		t.Errorf("%+v", p.Progress)
	}
	e.rep.progress.Store(&[]PassProgress{{Pass: id, Mapping: "m", RowsPerSecond: 1.5, ETA: 90 * time.Second, Throttled: "threads_running 31 > 25", Open: 3, ChunkRows: 100}})
	want := api.PassProgress{RowsPerSecond: 1.5, ETAMs: 90_000, Throttled: "threads_running 31 > 25", Open: 3, ChunkRows: 100}
	if p := e.pass(id); p.Progress == nil || *p.Progress != want {
		t.Errorf("%+v", p.Progress)
	}
	if p := into[api.Passes](t, e.do(get, "/v1/passes", "")).Passes[0]; p.Progress == nil || *p.Progress != want {
		t.Errorf("%+v", p.Progress)
	}
	e.must(fsm.PausePass{ID: id})
	if p := e.pass(id); p.Progress != nil {
		t.Errorf("%+v", p.Progress)
	}
}

func TestPass_PercentNeverSaysAllBeforeTheEnd(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	id := e.startPass("owner", `,"extras":true`)
	see := func(rows uint64, want float64) {
		t.Helper()
		if p := e.pass(id); p.Percent != want || p.Counts.Rows != rows {
			t.Errorf("%d rows of %d are %v%%, want %v", p.Counts.Rows, p.Estimate, p.Percent, want)
		}
	}
	see(0, 0)
	e.must(fsm.CheckpointPass{ID: id, Cursor: "a", Counts: fsm.PassCounts{Rows: 333}, Estimate: 1_000})
	see(333, 33.3)
	e.must(fsm.CheckpointPass{ID: id, From: "a", Cursor: "b", Counts: fsm.PassCounts{Rows: 1_200, Stale: 2}, Samples: []fsm.Difference{{PK: `["1"]`, Class: "stale"}}})
	see(1_200, 99.9) // the estimate was one
	e.must(fsm.CheckpointKeys{ID: id, Scan: fsm.KeyCursor{Life: "x", Cursor: 5}, Counts: fsm.KeyCounts{Looked: 90, Matched: 8, Extra: 3}})
	see(1_200, 100)
	if p := e.pass(id); p.Phase != api.PassPhaseKeys || p.Keys.Extra != 3 {
		t.Errorf("%+v", p)
	}
	if d := into[api.Differences](t, e.do(get, fmt.Sprintf("/v1/passes/%d/differences", id), "")); d.Total != 5 || len(d.Differences) != 1 {
		t.Errorf("%+v", d)
	}
	e.rep.advance(2_500)
	e.must(fsm.FinishPass{ID: id})
	if p := e.pass(id); p.TookMs != 2_500 {
		t.Errorf("took %d ms", p.TookMs)
	}
}

// TestPass_SampleSaysWhatItMeansForAllRows: 0 of 300 rows is less than one percent with a confidence of 95 %, the rule of three.
func TestPass_SampleSaysWhatItMeansForAllRows(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	id := e.startPass("m", `,"sample":0.01`)
	if p := e.pass(id); p.Bound != nil {
		t.Errorf("%+v of no rows", p.Bound)
	}
	e.must(fsm.CheckpointPass{ID: id, Cursor: "a", Counts: fsm.PassCounts{Rows: 310, Hot: 10}, Estimate: 300})
	p := e.pass(id)
	if p.Estimate != 300 || p.Percent != 99.9 {
		t.Errorf("%+v", p)
	}
	if p.Bound == nil || p.Bound.Confidence != 0.95 || math.Abs(p.Bound.ShareAtMost-0.00994) > 0.0001 {
		t.Errorf("%+v", p.Bound)
	}
	if whole := e.pass(e.startPass("whole", "")); whole.Bound != nil {
		t.Errorf("%+v", whole.Bound)
	}
}

// TestMetrics_TellTheLastPassAndTheLastCleanOne: a pass over a part of the rows, or one that had to repair, is not clean.
func TestMetrics_TellTheLastPassAndTheLastCleanOne(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	ends := func(options string, counts fsm.PassCounts) {
		id := e.startPass("m", options)
		e.must(fsm.CheckpointPass{ID: id, Cursor: "a", Counts: counts})
		e.rep.advance(1_000)
		e.must(fsm.FinishPass{ID: id})
	}
	wants := func(lines ...string) {
		t.Helper()
		text := string(e.do(get, "/metrics", "").body)
		for _, line := range lines {
			absent, found := strings.CutPrefix(line, "no ")
			if strings.Contains(text, absent) == found {
				t.Errorf("%s in\n%s", line, text)
			}
		}
	}
	ends(`,"sample":0.5`, fsm.PassCounts{Rows: 5, Equal: 5})
	wants(`quiesce_pass_differences{class="stale",mapping="m"} 0`, `no quiesce_pass_clean_age_seconds{`)
	ends(``, fsm.PassCounts{Rows: 5, Equal: 5})
	e.rep.advance(7_000)
	ends(`,"mode":"rewrite"`, fsm.PassCounts{Rows: 5, Equal: 3, Stale: 2, Repaired: 2})
	running := e.startPass("m", "")
	e.rep.progress.Store(&[]PassProgress{{Pass: running, Mapping: "m", Throttled: "target_latency 40ms > 20ms"}})
	wants(`quiesce_pass_differences{class="stale",mapping="m"} 2`, `quiesce_pass_differences{class="extra",mapping="m"} 0`, `quiesce_pass_clean_age_seconds{mapping="m"} 8`,
		`quiesce_passes{state="running"} 1`, `quiesce_passes{state="held"} 0`, `quiesce_pass_throttled{mapping="m"} 1`, `quiesce_state_rows{table="schedules"} 0`,
		`quiesce_sync_agreement_looked_total{mapping="orders",within="10s"} 40`, `quiesce_sync_agreement_agreed_total{mapping="orders",within="10s"} 39`)
}

func TestMetrics_SpansAreShort(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{10 * time.Second: "10s", time.Minute: "1m", 5 * time.Minute: "5m", 90 * time.Second: "1m30s"} {
		if got := spanLabel(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}
