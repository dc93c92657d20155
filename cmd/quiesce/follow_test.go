package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client"
)

// story is a server that answers each question with the next of some answers, and with the last again and again.
type story struct {
	*httptest.Server
	mu      sync.Mutex
	answers map[string][]any
	asked   []string
	act     func(s *story, ask string) // under the lock
}

func newStory(t *testing.T, answers map[string][]any) *story {
	t.Helper()
	s := &story{answers: answers}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *story) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	ask := r.Method + " " + r.URL.Path
	if r.Method != http.MethodGet {
		s.asked = append(s.asked, strings.TrimSpace(strings.Join([]string{ask, r.Header.Get(api.HeaderIfMatch), string(body)}, " ")))
	}
	if s.act != nil {
		s.act(s, ask)
	}
	answers := s.answers[ask]
	if len(answers) == 0 {
		answers = []any{api.Problem{Code: api.CodeNotFound, Detail: "no such path: " + ask}}
	} else if len(answers) > 1 {
		s.answers[ask] = answers[1:]
	}
	status := http.StatusOK
	if problem, refused := answers[0].(api.Problem); refused {
		status = api.Meanings[problem.Code].Status
	}
	w.Header().Set("Content-Type", api.ContentJSON)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answers[0])
}

func (s *story) heard() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

var clockTimes = regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d  `)

// tell runs the program against the story, and gives what it printed without the times.
func (s *story) tell(args ...string) (out, complaints string, code int) {
	var printed, said bytes.Buffer
	c := &cli{getenv: func(name string) string { return map[string]string{client.EnvAddrs: s.URL}[name] }, out: &printed, err: &said}
	code = c.run(args)
	return clockTimes.ReplaceAllString(printed.String(), ""), said.String(), code
}

func TestServiceSet_ChangesWhatItHasSeenOrLooksAgain(t *testing.T) {
	t.Parallel()
	seen := ordersService
	newer := seen
	newer.Version, newer.DependsOn = 4, []string{"stock", "payments"}
	stale := api.Problem{Code: api.CodeVersionMismatch, Detail: "it has version 4"}
	s := newStory(t, map[string][]any{"GET /v1/services/orders": {seen, newer}, "PUT /v1/services/orders": {stale, api.ServiceVersion{Version: 5}}})
	if _, said, code := s.tell("service", "freeze", "orders"); code != 0 {
		t.Fatalf("%d: %s", code, said)
	}
	asked := s.heard()
	if len(asked) != 2 || !strings.HasPrefix(asked[0], `PUT /v1/services/orders "3" `) || !strings.HasPrefix(asked[1], `PUT /v1/services/orders "4" `) {
		t.Fatalf("%q", asked)
	}
	if !strings.Contains(asked[1], `"depends_on":["stock","payments"]`) {
		t.Errorf("what the other has changed is gone: %s", asked[1])
	}

	s = newStory(t, map[string][]any{"GET /v1/services/orders": {seen}, "PUT /v1/services/orders": {stale}})
	if _, said, code := s.tell("service", "freeze", "orders"); code != exitRefused || len(s.heard()) != changeTries {
		t.Errorf("%d after %d tries: %s", code, len(s.heard()), said)
	}
}

func instanceIs(index uint64, state, phase string, change ...func(*api.Instance)) api.Instance {
	i := api.Instance{ID: "i-1", Service: "orders", Name: "web-1", Phase: phase, Index: index, InstanceStatus: api.InstanceStatus{State: state}}
	for _, c := range change {
		c(&i)
	}
	return i
}

func TestDrain_WaitTellsEachStepAndHowItEnded(t *testing.T) {
	t.Parallel()
	behind := func(i *api.Instance) {
		i.Position, i.Waiting, i.Blockers = 1, "budget", []api.Blocker{{Name: "web-2", Why: "settling"}}
	}
	busy := func(i *api.Instance) { i.Counters = map[string]uint64{"in_flight": 2} }
	queued := instanceIs(1, "queued", "", behind)
	for name, told := range map[string]struct {
		args []string
		then []any
		code int
		last string
	}{
		"left":    {nil, []any{instanceIs(2, "draining", "lameduck"), instanceIs(3, "draining", "reject", busy), instanceIs(4, "drained", "close"), instanceIs(5, "left", "leave")}, 0, "orders/web-1 is left in leave"},
		"forced":  {nil, []any{instanceIs(3, "draining", "reject"), instanceIs(5, "forced", "reject")}, exitLost, "orders/web-1 is forced in reject"},
		"lost":    {nil, []any{instanceIs(5, "lost", "")}, exitLost, "orders/web-1 is lost"},
		"undone":  {nil, []any{instanceIs(5, "ready", "")}, exitUndone, "orders/web-1 is ready"},
		"granted": {[]string{"--wait=granted"}, []any{instanceIs(3, "draining", "lameduck"), instanceIs(5, "lost", "")}, 0, "orders/web-1 is draining in lameduck"},
		"late":    {[]string{"--within", "1200ms"}, nil, exitNotInTime, "orders/web-1 is queued, position 1, waits for room in the budget, web-2 is settling"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStory(t, map[string][]any{"POST /v1/instances/i-1/drain": {queued.InstanceStatus}, "GET /v1/instances/i-1": append([]any{queued, queued}, told.then...)})
			out, said, code := s.tell(append([]string{"drain", "i-1", "--wait", "--within", "20s"}, told.args...)...)
			lines := strings.Split(strings.TrimSpace(out), "\n")
			if code != told.code || lines[len(lines)-1] != told.last {
				t.Errorf("%d\n%s%s", code, out, said)
			}
			if strings.Count(out, "is queued") != 1 {
				t.Errorf("what had not changed was told again:\n%s", out)
			}
			if (code != 0) != (strings.Count(said, "quiesce: ") == 1) {
				t.Errorf("%q", said)
			}
		})
	}
}

func TestFollow_SilentClusterIsWaitedForOnceItHasAnswered(t *testing.T) {
	t.Parallel()
	away := api.Problem{Code: api.CodeNoLeader, Detail: "there is no leader"}
	status := api.InstanceStatus{State: "draining"}
	// More refusals than one round of attempts can take within the timeout.
	s := newStory(t, map[string][]any{"POST /v1/instances/i-1/drain": {status}, "GET /v1/instances/i-1": {instanceIs(1, "draining", ""), away, away, away, away, away, instanceIs(2, "left", "")}})
	out, said, code := s.tell("drain", "i-1", "--wait", "--timeout", "10ms")
	if code != 0 || !strings.Contains(out, "left") || !strings.Contains(said, "is asked again") || !strings.Contains(said, "answers again") {
		t.Errorf("%d\n%s%s", code, out, said)
	}
	s = newStory(t, map[string][]any{"POST /v1/instances/i-1/drain": {status}, "GET /v1/instances/i-1": {away}})
	if out, said, code = s.tell("drain", "i-1", "--wait", "--timeout", "10ms"); code != exitUnavailable {
		t.Errorf("%d\n%s%s", code, out, said)
	}
}

func planIs(index uint64, state, stage string, done int, targets ...string) api.Plan {
	p := api.Plan{ID: 7, State: state, Stage: stage, Done: done, Total: 2, Index: index, PlanRules: api.PlanRules{Intent: "restart", Services: []string{"orders"}},
		Steps: []api.PlanStep{{Service: "orders", State: "running", Canary: 1}}}
	for i, target := range targets {
		p.Steps[0].Targets = append(p.Steps[0].Targets, api.PlanTarget{ID: fmt.Sprint("i-", i), Name: fmt.Sprint("web-", i), State: target})
	}
	return p
}

func TestPlanWatch_TellsEachStepAndHowItEnded(t *testing.T) {
	t.Parallel()
	failed := planIs(9, "failed", "", 1, "done", "failed")
	failed.Why, failed.Failures, failed.Steps[0].Targets[1].Why = "web-1 was lost", 1, "lost in flush"
	for name, told := range map[string]struct {
		plans  []any
		code   int
		out    string
		within string
	}{
		"succeeded": {[]any{planIs(1, "running", "canary", 0, "queued", "pending"), planIs(2, "running", "canary", 0, "draining", "pending"), planIs(3, "running", "waves", 1, "done", "draining"), planIs(4, "succeeded", "", 2, "done", "done")}, 0,
			`orders/web-0 is queued
plan 7 is running, canary of orders, 0 of 2 done
orders/web-0 is draining
plan 7 is running, canary of orders, 0 of 2 done
orders/web-0 is done
orders/web-1 is draining
plan 7 is running, waves of orders, 1 of 2 done
orders/web-1 is done
plan 7 is succeeded, 2 of 2 done
`, "20s"},
		"failed":    {[]any{failed}, exitFailed, "orders/web-0 is done\norders/web-1 is failed: lost in flush\nplan 7 is failed, 1 of 2 done, 1 failed: web-1 was lost\n", "20s"},
		"cancelled": {[]any{planIs(9, "cancelled", "", 1, "done", "undone")}, exitUndone, "orders/web-0 is done\norders/web-1 is undone\nplan 7 is cancelled, 1 of 2 done\n", "20s"},
		"endless":   {[]any{planIs(9, "paused", "waves", 1)}, exitNotInTime, "plan 7 is paused, waves of orders, 1 of 2 done\n", "1s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStory(t, map[string][]any{"GET /v1/plans/7": told.plans})
			out, said, code := s.tell("plan", "watch", "7", "--within", told.within)
			if out != told.out || code != told.code {
				t.Errorf("%d\n%s%s", code, out, said)
			}
			if code != 0 && !strings.Contains(said, "quiesce: plan 7 ") {
				t.Errorf("%q", said)
			}
		})
	}
}

// observedPlan is a plan that observes its canary until somebody says what is to become of it.
func observedPlan(t *testing.T, over bool) *story {
	now := planIs(5, "running", "observing", 1, "done", "pending")
	now.ObserveRemainingMs = 60_000
	s := newStory(t, map[string][]any{"POST /v1/plans": {api.PlanStatus{ID: 7}}, "GET /v1/plans/7": {now}, "POST /v1/plans/7/cancel": {nil}, "POST /v1/plans/7/resume": {nil}})
	questions := 0
	s.act = func(s *story, ask string) {
		switch ask {
		case "GET /v1/plans/7":
			if questions++; questions == 5 && over {
				s.answers[ask] = []any{planIs(6, "paused", "waves", 1, "done", "pending")}
			}
		case "POST /v1/plans/7/cancel":
			s.answers["GET /v1/plans/7"] = []any{planIs(7, "failed", "", 1)}
		case "POST /v1/plans/7/resume":
			s.answers["GET /v1/plans/7"] = []any{planIs(7, "succeeded", "", 2)}
		}
	}
	return s
}

func newChecked(s *story, check string, more ...string) (out, said string, code int) {
	return s.tell(append([]string{"plan", "new", "--service", "orders", "--canary", "1", "--observe", "1m", "--check", check, "--check-every", "1s"}, more...)...)
}

func TestPlanCheck_FailureEndsThePlan(t *testing.T) {
	t.Parallel()
	s := observedPlan(t, false)
	out, said, code := newChecked(s, `echo "$QUIESCE_PLAN $QUIESCE_PLAN_SERVICE is bad"; exit 3`, "--within", "20s")
	if code != exitFailed || !strings.Contains(said, "  | 7 orders is bad\n") || !strings.Contains(said, "exit status 3") {
		t.Errorf("%d\n%s%s", code, out, said)
	}
	asked := s.heard()
	if len(asked) != 2 || !strings.Contains(asked[0], `"pause_after_canary":true`) || !strings.Contains(asked[0], `"start":true`) ||
		!strings.Contains(asked[1], "cancel") || !strings.Contains(asked[1], `"failed":true`) {
		t.Errorf("%q", asked)
	}
}

func TestPlanCheck_ThatHangsHasFailedAndIsKilledWithWhatItStarted(t *testing.T) {
	t.Parallel()
	s := observedPlan(t, false)
	started := filepath.Join(t.TempDir(), "started")
	_, said, code := newChecked(s, "sleep 600 & echo $! >"+started+"; sleep 600", "--check-timeout", "1s", "--within", "20s")
	if code != exitFailed || !strings.Contains(said, "it took longer than 1s") {
		t.Errorf("%d: %s", code, said)
	}
	text, err := os.ReadFile(started)
	if err != nil {
		t.Fatal(err)
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	eventually(t, "its end", func() bool { return !alive(pid) })
}

func TestPlanCheck_PlanGoesOnWhenObservedAndChecked(t *testing.T) {
	t.Parallel()
	s := observedPlan(t, true)
	ran := filepath.Join(t.TempDir(), "ran")
	_, said, code := newChecked(s, "echo >>"+ran, "--within", "20s")
	asked := s.heard()
	if code != 0 || len(asked) != 2 || !strings.Contains(asked[1], "POST /v1/plans/7/resume") {
		t.Errorf("%d: %s: %q", code, said, asked)
	}
	text, err := os.ReadFile(ran)
	if err != nil || len(text) < 2 { // one while it was observed, one at its end
		t.Errorf("%d checks: %v", len(text), err)
	}
}

func TestPlanCheck_PersonDecidesWhoAskedForThePause(t *testing.T) {
	t.Parallel()
	s := observedPlan(t, true)
	_, said, code := newChecked(s, "true", "--pause-after-canary", "--within", "6s")
	if asked := s.heard(); code != exitNotInTime || len(asked) != 1 {
		t.Errorf("%d: %s: %q", code, said, asked)
	}
}

// Somebody pauses the plan while its canary is observed, or in a later wave: passing checks do not overrule that.
func TestPlanCheck_DoesNotEndThePauseOfAPerson(t *testing.T) {
	t.Parallel()
	for _, paused := range []api.Plan{planIs(6, "paused", "observing", 1, "done", "pending"), planIs(6, "paused", "waves", 1, "done", "draining", "pending")} {
		s := observedPlan(t, false)
		s.answers["GET /v1/plans/7"] = append(s.answers["GET /v1/plans/7"], paused)
		_, said, code := newChecked(s, "true", "--within", "3s")
		if asked := s.heard(); code != exitNotInTime || len(asked) != 1 || !strings.Contains(said, "not further than its canary") {
			t.Errorf("%d: %s: %q", code, said, asked)
		}
	}
}

func TestPlanPicture_FitsTheScreenAndShowsWhatMoves(t *testing.T) {
	t.Parallel()
	var states []string
	for i := range 100 {
		states = append(states, []string{"done", "draining", "pending", "waiting"}[i%4])
	}
	p := planIs(1, "running", "waves", 25, states...)
	for _, height := range []int{4, 10, 24} {
		lines := planPicture(p, 60, height)
		if len(lines) > height {
			t.Errorf("%d lines of %d", len(lines), height)
		}
	}
	lines := planPicture(p, 60, 10)
	if want := "  1. [#####>>>>>>>>>>.....] 25/100  orders  running"; lines[2] != want {
		t.Errorf("%q", lines[2])
	}
	if want := "    orders/web-1 is draining"; lines[3] != want {
		t.Errorf("%q", lines[3])
	}
	if want := "    and 44 more"; lines[9] != want {
		t.Errorf("%q", lines[9])
	}
}

func TestScreen_DrawsInPlaceWithinItsSize(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	s := &screen{out: &out, size: func() (int, int) { return 21, 4 }}
	for _, lines := range [][]string{{"one", "two"}, {strings.Repeat("x", 50), "b", "c", "d", "e"}, {"last"}} {
		if err := s.draw(lines); err != nil {
			t.Fatal(err)
		}
	}
	s.above("said\n")
	want := "\r\x1b[Jone\ntwo\n" + "\x1b[2A\r\x1b[J" + strings.Repeat("x", 19) + "…\nb\nc\n" + "\x1b[3A\r\x1b[Jlast\n" + "\x1b[1A\r\x1b[Jsaid\nlast\n"
	if out.String() != want {
		t.Errorf("%q", out.String())
	}
}

func TestTail_KeepsTheEnd(t *testing.T) {
	t.Parallel()
	end := &tail{max: 5}
	for _, text := range []string{"ab", "cde", "f", "0123456789", "x"} {
		if n, err := end.Write([]byte(text)); n != len(text) || err != nil {
			t.Errorf("%d %v", n, err)
		}
	}
	if end.String() != "6789x" {
		t.Errorf("%q", end.String())
	}
}
