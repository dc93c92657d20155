package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client/quiescetest"
)

func TestReconcile_CommandsAreThoseOfTheAPI(t *testing.T) {
	t.Parallel()
	_, addr := quiescetest.Start(t)
	file := filepath.Join(t.TempDir(), "orders.yaml")
	if err := os.WriteFile(file, []byte("source: main\ntable: orders\nprimary_key: [id]\ntarget: cache\nkey: \"order:{id}\"\nmode: write_through\nencoding: json\ncolumns: [{name: id}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	id := ""
	for _, step := range []struct {
		line string
		code int
		want string
	}{
		{"mapping apply orders -f " + file, 0, "orders has revision"},
		{"reconcile run orders --repair --mode invalidate", exitUsage, "give one of them"},
		{"reconcile run orders --mode repair", exitUsage, "(invalid)"},
		{"reconcile run orders --sample 2", exitUsage, "body.sample"},
		{"reconcile run orders --fill-missing", exitUsage, "needs mode rewrite"},
		{"reconcile run orders --confirm 0s", exitUsage, "--confirm"},
		{"reconcile run nothing", exitRefused, "mapping_not_found"},
		{"reconcile run orders --repair --from 3 --to [\"9\"] --sample 0.5 --cap 7 --rate 100 --fill-missing --confirm 2s --no-wait", 0, "has begun"},
		{"reconcile run orders", exitRefused, "pass_running"},
		{"reconcile ls", 0, "rows from 3 to 9, 50% of them"},
		{"reconcile ls orders -o json", 0, `"cap": 7`},
		{"reconcile show $", 0, "may repair"},
		{"reconcile differences $", 0, ""},
		{"reconcile approve $", exitRefused, "pass_not_held"},
		{"reconcile pause $", 0, "stands still"},
		{"reconcile ls orders", 0, "paused"},
		{"reconcile resume $", 0, "goes on"},
		{"reconcile cancel $", 0, "is cancelled"},
		{"reconcile cancel $", exitRefused, "pass_ended"},
		{"reconcile watch $", exitUndone, "was cancelled"},
		{"reconcile show x", exitUsage, "is not a number"},
		{"reconcile schedule set orders", exitUsage, "needs --cron"},
		{"reconcile schedule set orders --cron @never", exitUsage, "body.cron"},
		{"reconcile schedule set orders --cron @daily --window 22:00", exitUsage, "two times of the day"},
		{"reconcile schedule set orders --cron @hourly --zone Europe/Berlin --window 22:00-06:00 --jitter 5m --sample 0.01 --repair", 0, "22:00-06:00"},
		{"reconcile schedule ls", 0, "Europe/Berlin"},
		{"reconcile schedule show orders", 0, "1% of them"},
		{"reconcile schedule rm orders", 0, "no schedule any more"},
		{"reconcile schedule show orders", exitRefused, "schedule_not_found"},
	} {
		var out strings.Builder
		c := &cli{getenv: func(string) string { return addr }, out: &out, err: &out}
		if code := c.run(append(strings.Fields(strings.ReplaceAll(step.line, "$", id)), "--timeout", "2s")); code != step.code || !strings.Contains(out.String(), step.want) {
			t.Errorf("quiesce %s: %d, not %d with %q:\n%s", step.line, code, step.code, step.want, out.String())
		}
		if _, after, begun := strings.Cut(out.String(), "reconcile watch "); begun && id == "" {
			id, _, _ = strings.Cut(after, " ")
		}
	}
}

// ends gives a cluster in which one pass ends as it is told.
func ends(t *testing.T, p api.Pass, found ...api.Difference) *server {
	return newServer(t, map[string]any{"POST /v1/passes": api.PassStarted{ID: 7}, "GET /v1/passes/7": p, "GET /v1/passes/7/differences": api.Differences{Differences: found, Total: uint64(len(found))}})
}

func TestReconcile_ExitCodeTellsHowAPassEnded(t *testing.T) {
	t.Parallel()
	stale := api.PassCounts{Rows: 10, Stale: 2, Differences: 2}
	for name, c := range map[string]struct {
		pass api.Pass
		code int
		say  string
	}{
		"clean":     {api.Pass{State: api.PassDone, Mode: api.PassDryRun, Counts: api.PassCounts{Rows: 10, Equal: 10}}, 0, "all rows"},
		"differs":   {api.Pass{State: api.PassDone, Mode: api.PassDryRun, Counts: stale}, exitDivergent, "quiesce reconcile run orders --repair"},
		"repaired":  {api.Pass{State: api.PassDone, Mode: api.PassRewrite, Counts: stale}, exitDivergent, "another pass tells"},
		"extras":    {api.Pass{State: api.PassDone, Mode: api.PassDryRun, Extras: true, Keys: &api.PassKeys{Extra: 1}}, exitDivergent, "1 differences"},
		"held":      {api.Pass{State: api.PassHeld, Mode: api.PassRewrite, Hold: api.HoldCap, Reason: "2 rows were repaired", Counts: stale}, exitDivergent, "quiesce reconcile approve 7"},
		"filled":    {api.Pass{State: api.PassDone, Mode: api.PassRewrite, FillMissing: true, Filled: 3, Counts: api.PassCounts{Rows: 10, Missing: 3, Differences: 3, Repaired: 3}}, 0, "3 that were absent"},
		"doubt":     {api.Pass{State: api.PassDone, Mode: api.PassRewrite, Allowance: noLimit, Cause: "the server was restarted"}, 0, "any number without another word\nbecause     the server was restarted"},
		"failed":    {api.Pass{State: api.PassFailed, Reason: "mapping_changed: x"}, exitFailed, "mapping_changed"},
		"cancelled": {api.Pass{State: api.PassCancelled}, exitUndone, "cancelled"},
	} {
		c.pass.ID, c.pass.Mapping = 7, "orders"
		text, code := ends(t, c.pass).quiesce("reconcile", "run", "orders")
		if code != c.code || !strings.Contains(text, c.say) {
			t.Errorf("%s: %d, not %d with %q:\n%s", name, code, c.code, c.say, text)
		}
	}
}

// A program gets one document, at the end.
func TestReconcile_ProgramsGetTheEnd(t *testing.T) {
	t.Parallel()
	s := ends(t, api.Pass{ID: 7, Mapping: "orders", Mode: api.PassDryRun, State: api.PassDone, Counts: api.PassCounts{Stale: 1, Differences: 1}}, api.Difference{PK: []string{"4"}, Key: "order:4", Class: "stale"})
	text, code := s.quiesce("reconcile", "run", "orders", "--json")
	_, text, _ = strings.Cut(text, "\n") // what was sent
	document, _, _ := strings.Cut(text, "quiesce: ")
	var got passReport
	if err := json.Unmarshal([]byte(document), &got); err != nil || code != exitDivergent || got.Pass.ID != 7 || len(got.Differences) != 1 {
		t.Errorf("%d %v\n%s", code, err, text)
	}
}

func TestReconcile_SidesStandBelowEachOtherWithAMarkAtTheFirstDifference(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 200)
	for _, c := range []struct {
		d    api.Difference
		want string
	}{
		{api.Difference{Class: "stale", Key: "order:4", Expected: `{"id":4,"total":1}`, Actual: `{"id":4,"total":2}`},
			"stale  order:4\n  table  {\"id\":4,\"total\":1}\n  cache  {\"id\":4,\"total\":2}\n                         ^\n"},
		{api.Difference{Class: "missing", Key: "k", Expected: "a"}, "missing  k\n  table  a\n  cache  (nothing)\n"},
		{api.Difference{Class: "extra", Key: "k", Actual: "a\x1b[2J"}, "extra  k\n  table  (no row)\n  cache  a\\x1b[2J\n"},
		{api.Difference{Class: "no_ttl", Key: "k", Expected: "a", Actual: "a"}, "no ttl  k\n  table  a\n  cache  (the same, without an expiry)\n"},
		{api.Difference{Class: "stale", Key: "k", Expected: long + "é1", Actual: long + "é2"},
			"stale  k\n  table  …" + strings.Repeat("x", 39) + "é1\n  cache  …" + strings.Repeat("x", 39) + "é2\n         " + strings.Repeat(" ", 41) + "^\n"},
	} {
		var out strings.Builder
		writeDifference(&out, c.d)
		if out.String() != c.want {
			t.Errorf("%+v:\n%q, want\n%q", c.d, out.String(), c.want)
		}
	}
}

func TestReconcile_HistoryTellsWhetherDifferencesGrow(t *testing.T) {
	t.Parallel()
	pass := func(id uint64, mapping, state string, n uint64, sample float64) api.Pass {
		return api.Pass{ID: id, Mapping: mapping, State: state, Sample: sample, Counts: api.PassCounts{Differences: n}}
	}
	rows := passTable([]api.Pass{pass(1, "a", "done", 5, 0), pass(2, "b", "done", 1, 0), pass(3, "a", "done", 2, 0.1), pass(4, "a", "failed", 1, 0), pass(5, "a", "done", 8, 0), pass(6, "a", "done", 8, 0), pass(7, "a", "done", 0, 0)}).rows
	for i, want := range []string{"", "", "", "", "grew by 3", "as before", "shrank by 8"} {
		if rows[i][7] != want {
			t.Errorf("pass %d: %q, want %q", i+1, rows[i][7], want)
		}
	}
}

func TestReconcile_PictureTellsHowFarItIsAndWhatHoldsItUp(t *testing.T) {
	t.Parallel()
	got := strings.Join(passPicture(api.Pass{ID: 7, Mapping: "orders", Mode: api.PassDryRun, State: api.PassRunning, Estimate: 1_000_000, Percent: 41.2,
		Counts:   api.PassCounts{Rows: 412_000, Stale: 12, Differences: 12, Hot: 3},
		Progress: &api.PassProgress{RowsPerSecond: 52_300.4, ETAMs: 11_000, Throttled: "threads_running 31 > 25", Open: 2}}), "\n")
	want := "pass 7 over orders (dry run) is running, throttled: threads_running 31 > 25\n" +
		"  [########............]  41.2%  412,000 rows of about 1,000,000, 52,300 a second, 11s left\n" +
		"  12 stale, 3 hot, without a verdict, 2 being confirmed"
	if got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}
