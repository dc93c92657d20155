package cluster_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/cluster_test/services"
)

const (
	codeDivergent = 65
	codeCancelled = 78
	slotMax       = 90 * time.Second // a minute's slot, and the pass
)

// An operator's day with a cache that is wrong: the schedule finds it, the pass shows it, repairs as much as it may, asks, and is steered.
func TestCLI_ReconcileFromTheFirstDifferenceToTheLast(t *testing.T) {
	t.Parallel() // it waits for a minute to begin
	place := services.Require(t)
	w := newOwned(t, harness.Options{MySQL: place.MySQLDSN, Redis: place.RedisAddr}, place, 2_000)
	q := newCLI(t, w.c)
	says := func(out string, wants ...string) {
		t.Helper()
		for _, want := range wants {
			if !strings.Contains(out, want) {
				t.Errorf("no %q in\n%s", want, out)
			}
		}
	}
	newest := func() api.Pass {
		t.Helper()
		var list struct{ Passes []api.Pass }
		w.c.Must(harness.Request{Method: http.MethodGet, Path: "/v1/passes?mapping=" + ownedMapping}, &list)
		if len(list.Passes) == 0 {
			t.Fatal("there is no pass")
		}
		return list.Passes[len(list.Passes)-1]
	}
	run := []string{"reconcile", "run", ownedMapping, "--confirm", fmt.Sprint(confirmMs, "ms")}

	q.must(t, 0, "reconcile", "schedule", "set", ownedMapping, "--cron", "* * * * *", "--repair", "--cap", "1")
	says(q.must(t, 0, "reconcile", "schedule", "ls"), ownedMapping, "* * * * *")
	says(q.must(t, 0, run...), "2,000", "equal")
	w.redisDo("DEL", w.key(11))
	w.redisDo("SET", w.key(12), `{"id":12,"name":"row 12","n":85}`)

	var due api.Pass // of the schedule: it repairs one and asks about the other
	harness.Eventually(t, slotMax, "the schedule's pass to ask", func() error {
		if due = newest(); due.State != api.PassHeld {
			return fmt.Errorf("%+v", due)
		}
		return nil
	})
	id := strconv.FormatUint(due.ID, 10)
	if due.Slot == "" || due.Counts.Repaired != 1 {
		t.Errorf("%+v", due)
	}
	q.must(t, 0, "reconcile", "schedule", "rm", ownedMapping)
	says(q.must(t, codeDivergent, "reconcile", "watch", id), "is held", `more differ; next: ["12"]`, w.key(11))
	q.must(t, 0, "reconcile", "approve", id)
	says(q.must(t, codeDivergent, "reconcile", "watch", id), "done", "2 repairs") // a repaired pass is no clean one
	says(q.must(t, 0, "reconcile", "differences", id), w.key(11), w.key(12), `"n":85`, `"n":84`)
	w.drained()
	w.agree()
	q.must(t, 0, run...)
	says(q.must(t, 0, "reconcile", "ls", ownedMapping), id, "done")

	// A stray key is shown, and removed after a word.
	w.redisDo("SET", w.key(7_000), "left behind")
	out := q.must(t, codeDivergent, append(run, "--extras", "--json")...)
	var shown struct{ Pass api.Pass }
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&shown); err != nil || shown.Pass.Keys == nil || shown.Pass.Keys.Extra != 1 {
		t.Errorf("%v in\n%s", err, out)
	}
	says(q.must(t, codeDivergent, append(run, "--extras", "--repair")...), w.key(7_000), "held")
	q.must(t, 0, "reconcile", "approve", strconv.FormatUint(newest().ID, 10))
	w.ended(newest().ID)
	w.drained()
	w.agree()

	// A slow pass is paused, resumed and cancelled.
	slow := q.start(t, append(run, "--rate", "100")...)
	harness.Eventually(t, settleMax, "the slow pass to run", func() error {
		if p := newest(); p.State != api.PassRunning {
			return fmt.Errorf("%+v", p)
		}
		return nil
	})
	id = strconv.FormatUint(newest().ID, 10)
	for _, step := range []struct{ verb, state string }{{"pause", api.PassPaused}, {"resume", api.PassRunning}, {"cancel", api.PassCancelled}} {
		q.must(t, 0, "reconcile", step.verb, id)
		if p := newest(); p.State != step.state {
			t.Errorf("%s: %+v", step.verb, p)
		}
	}
	slow.wantCode(t, codeCancelled)
}
