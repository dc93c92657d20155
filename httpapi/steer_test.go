package httpapi

import (
	"fmt"
	"testing"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// bury makes n dead letters of a mapping, of two classes in turn.
func (e *edge) bury(n int) {
	e.t.Helper()
	if r := e.do(put, "/v1/mappings/m", `{"table":"t"}`); r.status != 200 {
		e.t.Fatal(string(r.body))
	}
	var revision uint64
	e.rep.View(func(s *fsm.State) {
		m, _ := s.Mapping("m")
		revision = m.Revision
	})
	for first := 0; first < n; first += fsm.ReplayBatchMax {
		var rows []fsm.RowRef
		var dead []fsm.Failure
		for i := first; i < min(n, first+fsm.ReplayBatchMax); i++ {
			row := fsm.RowRef{Mapping: "m", PK: fmt.Sprintf(`["%d"]`, i)}
			rows = append(rows, row)
			dead = append(dead, fsm.Failure{Event: fsm.Settlement{Row: row, Revision: revision, Token: 1 << 40}, Class: []string{"wrong_type", "too_large"}[i%2], Detail: "d"})
		}
		if _, err := e.rep.Propose(e.t.Context(), fsm.Op{Command: fsm.EnqueueEvents{Events: rows}}, fsm.Op{Command: fsm.BuryEvents{Events: dead}}); err != nil {
			e.t.Fatal(err)
		}
	}
}

// TestDead_ReplayGoesOverAllThatFitAtTheRate: more than one entry takes, spread over time, and nothing else is touched.
func TestDead_ReplayGoesOverAllThatFitAtTheRate(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	e.bury(3_000)
	dry := into[api.Replayed](t, e.do(post, "/v1/outbox/dead/replay", `{"filter":{"mapping":"m","failure":"too_large"},"dry_run":true}`))
	if dry.Matched != 1_500 || dry.Changed != 0 || dry.Sample == nil || dry.Sample.Failure != "too_large" {
		t.Fatalf("%+v", dry)
	}
	got := into[api.Replayed](t, e.do(post, "/v1/outbox/dead/replay", `{"filter":{"mapping":"m","failure":"too_large"},"rate":500}`))
	if got.Matched != 1_500 || got.Changed != 1_500 {
		t.Fatalf("%+v", got)
	}
	e.rep.View(func(s *fsm.State) {
		if s.Pending("m") != 1_500 || s.Dead("m") != 1_500 {
			t.Errorf("%d pending, %d dead", s.Pending("m"), s.Dead("m"))
		}
		due := []uint64{}
		s.DueEvents("m", ^uint64(0), func(ev fsm.Event) bool { due = append(due, ev.NextAt-s.Now()); return true })
		if first, middle, last := due[0], due[750], due[1499]; first != 0 || middle != 1_500 || last != 2_998 {
			t.Errorf("due after %d, %d, %d ms at 500 a second", first, middle, last)
		}
	})
	one := into[api.Replayed](t, e.do(post, "/v1/outbox/dead/discard", `{"filter":{"mapping":"m","pk":["4"]}}`))
	if one.Matched != 1 || one.Changed != 1 {
		t.Errorf("%+v", one)
	}
	stats := into[api.OutboxStats](t, e.do(get, "/v1/outbox/stats", ""))
	if by := stats.Mappings[0].DeadBy; by["wrong_type"] != 1_499 || len(by) != 1 {
		t.Errorf("%v", by)
	}
	all := into[api.Replayed](t, e.do(post, "/v1/outbox/dead/discard", `{"filter":{"all":true}}`))
	if all.Changed != 1_499 {
		t.Errorf("%+v", all)
	}
}

func TestDead_FiltersThatCouldMeanAnythingAreRefused(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	e.bury(1)
	for _, filter := range []string{`{}`, `{"all":true,"mapping":"m"}`, `{"pk":["1"]}`, `{"pk":["1"],"failure":"x"}`} {
		if p := e.do(post, "/v1/outbox/dead/discard", `{"filter":`+filter+`}`).problem(t); p.Code != api.CodeInvalid {
			t.Errorf("%s: %+v", filter, p)
		}
	}
	if p := e.do(post, "/v1/outbox/dead/replay", `{"filter":{"mapping":"other"}}`).problem(t); p.Code != api.CodeMappingNotFound {
		t.Errorf("%+v", p)
	}
}

// TestPrepare_SourceWhoseFencesNobodyLooksAtIsRefused: what it announces would wait for ever.
func TestPrepare_SourceWhoseFencesNobodyLooksAtIsRefused(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	e.do(put, "/v1/mappings/m", `{"source":"bare","table":"t"}`)
	if p := e.do(post, "/v1/outbox/prepare", `{"events":[{"mapping":"m","pk":[1]}]}`).problem(t); p.Code != api.CodePlaceUnknown {
		t.Errorf("%+v", p)
	}
}

// TestOutbox_EventUnderWayIsShownAsSent: and a pause is named before whatever else holds an event up.
func TestOutbox_EventUnderWayIsShownAsSent(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	e.do(put, "/v1/mappings/m", `{"table":"t"}`)
	e.do(post, "/v1/outbox/events", `{"events":[{"mapping":"m","pk":[98]},{"mapping":"m","pk":[99]}]}`)
	shown := func() [2]string {
		var out [2]string
		for i, ev := range into[api.Events](t, e.do(get, "/v1/outbox/events", "")).Events {
			out[i] = ev.State + " " + ev.Blocked
		}
		return out
	}
	if got := shown(); got != [2]string{"pending target_down", "sent "} {
		t.Errorf("%q", got)
	}
	e.do(post, "/v1/outbox/pause", `{"mapping":"m"}`)
	if got := shown(); got != [2]string{"pending paused", "sent "} {
		t.Errorf("%q", got)
	}
}
