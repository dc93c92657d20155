package syncchaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/cluster_test/syncchaos/writer"
)

const (
	restWithin  = 4 * time.Minute // a doubt is tried again after half a minute, prepared events of the dead are found out
	passWithin  = 2 * time.Minute
	confirmMs   = 200
	looksInARow = 2
)

var errBusy = errors.New("something is under way")

// awaitRest waits until nothing is under way: no event, no doubt, no row in the outbox table, nobody who is adopted.
func (r *run) awaitRest() {
	r.t.Helper()
	r.world.c.AwaitWhole()
	quiet := 0
	harness.Eventually(r.t, restWithin, "everything to come to rest", func() error {
		if err := r.busy(); err != nil {
			quiet = 0
			return err
		}
		if quiet++; quiet < looksInARow {
			return errBusy
		}
		return nil
	})
	r.world.c.AwaitSameState()
}

// busy says what is under way.
func (r *run) busy() error {
	var people api.Instances
	r.world.c.Must(harness.Request{Method: http.MethodGet, Path: "/v1/instances?limit=1000&service=" + writer.Service}, &people)
	for _, v := range people.Instances {
		lost := v.State == api.StateLost || v.State == api.StateForced
		if v.State != api.StateLeft && !lost || lost && (len(v.Adoption) == 0 || v.Adoption[len(v.Adoption)-1].Step != "done") {
			return fmt.Errorf("%w: %s is %s, adoption %+v", errBusy, v.Name, v.State, v.Adoption)
		}
	}
	for _, table := range []string{"quiesce_outbox"} {
		if n, err := r.world.count("SELECT COUNT(*) FROM " + table); err != nil || n > 0 {
			return fmt.Errorf("%w: %d rows in %s, %w", errBusy, n, table, orNil(err))
		}
	}
	err := r.world.delivers()
	var ask *asks
	if errors.As(err, &ask) {
		r.report.Approved++
		r.t.Logf("%v, and is given it", err)
		r.world.c.Must(harness.Request{Method: http.MethodPost, Path: fmt.Sprintf("/v1/passes/%d/approve", ask.pass), Body: map[string]any{}}, nil)
	}
	return err
}

// asks: the pass that is to end a doubt found keys without a row, and waits for somebody's word.
type asks struct {
	mapping string
	pass    uint64
}

func (a *asks) Error() string {
	return fmt.Sprintf("pass %d over %s asks whether keys without a row may go", a.pass, a.mapping)
}

func orNil(err error) error {
	if err == nil {
		return errBusy
	}
	return err
}

// delivers says what the coordinator has not finished.
func (w *world) delivers() error {
	var stats api.OutboxStats
	w.c.Must(harness.Request{Method: http.MethodGet, Path: "/v1/outbox/stats"}, &stats)
	if stats.Pending > 0 || stats.Prepared > 0 {
		return fmt.Errorf("%w: %+v", errBusy, stats)
	}
	for _, m := range stats.Mappings {
		if m.Doubt != nil && m.Doubt.Held {
			return &asks{m.Mapping, m.Doubt.Pass}
		}
		if m.Doubt != nil {
			return fmt.Errorf("%w: %s is in doubt: %+v", errBusy, m.Mapping, *m.Doubt)
		}
	}
	for _, relay := range stats.Relays {
		if relay.State != "running" {
			return fmt.Errorf("%w: %+v", errBusy, relay)
		}
	}
	return nil
}

// settled asks the coordinator for the last accepted event of each key. What it does not call done is lost.
func (r *run) settled() {
	r.t.Helper()
	caller := r.world.c.Caller()
	for _, e := range r.report.Verdict.last {
		wait := api.WaitEvent{Mapping: e.Mapping, Token: e.Token}
		if e.PK != "" {
			wait.PK = []json.RawMessage{json.RawMessage(strconv.Quote(e.PK))}
		} else {
			wait.Key = []json.RawMessage{json.RawMessage(strconv.Quote(e.Key))}
		}
		var state api.EventState
		answer, err := caller.Do(r.t.Context(), harness.Request{Method: http.MethodPost, Path: "/v1/outbox/wait", Body: wait})
		if err = errors.Join(err, answer.Into(&state)); err != nil || state.State != api.EventDone {
			r.report.Lost++
			r.complain("the accepted event %+v is %q: %v", e, state.State, err)
		}
	}
	var dead api.OutboxStats
	r.world.c.Must(harness.Request{Method: http.MethodGet, Path: "/v1/outbox/stats"}, &dead)
	r.report.Dead = dead.Dead
	n, err := r.world.count("SELECT COUNT(*) FROM quiesce_refused")
	if err != nil {
		r.t.Fatal(err)
	}
	r.report.Refused = n
}

// pass has the mappings of tier 1 compared and repaired, and keys without a row removed, and looks at the result.
func (r *run) pass() {
	r.t.Helper()
	for _, m := range mappings() {
		if m.tier == 1 {
			r.rewrite(m.name)
		}
	}
	harness.Eventually(r.t, passWithin, "the repairs to be delivered", r.world.delivers)
	after := r.look(r.evidence())
	r.report.UnequalAfterPass = after.Unequal + after.Explained
}

// rewrite runs a pass to its end. What it asks for, the word that extra keys may be removed, it is given.
func (r *run) rewrite(mapping string) {
	r.t.Helper()
	var started api.PassStarted
	r.world.c.Must(harness.Request{Method: http.MethodPost, Path: "/v1/passes",
		Body: map[string]any{"mapping": mapping, "mode": api.PassRewrite, "extras": true, "confirm_delay_ms": confirmMs}}, &started)
	path := "/v1/passes/" + strconv.FormatUint(started.ID, 10)
	harness.Eventually(r.t, passWithin, "the pass over "+mapping+" to end", func() error {
		var p api.Pass
		r.world.c.Must(harness.Request{Method: http.MethodGet, Path: path}, &p)
		switch p.State {
		case "done":
			r.t.Logf("the pass over %s found %+v, and %d extra keys were removed", mapping, p.Counts, p.Removals)
			return nil
		case "held":
			r.world.c.Must(harness.Request{Method: http.MethodPost, Path: path + "/approve", Body: map[string]any{}}, nil)
		}
		return fmt.Errorf("%w: %+v", errBusy, p)
	})
}
