package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client"
)

var update = flag.Bool("update", false, "write the golden files")

// TestMain runs the tests, or plays the program, or the guard that the program starts.
func TestMain(m *testing.M) {
	if os.Getenv(envPlay) != "" || len(os.Args) == 2 && os.Args[1] == guardArgument {
		main()
	}
	goleak.VerifyTestMain(m)
}

// server answers requests from a table, and notes those that change something.
type server struct {
	*httptest.Server
	mu      sync.Mutex
	heard   []string
	answers map[string]any // by method and path with query
}

func newServer(t *testing.T, answers map[string]any) *server {
	t.Helper()
	s := &server{answers: answers}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	ask := r.Method + " " + r.URL.RequestURI()
	s.mu.Lock()
	if r.Method != http.MethodGet {
		s.heard = append(s.heard, strings.TrimSpace(ask+" "+string(body)))
	}
	s.mu.Unlock()
	answer, known := s.answers[ask]
	status := http.StatusOK
	switch problem, refused := answer.(api.Problem); {
	case !known:
		status, answer = http.StatusNotFound, api.Problem{Code: api.CodeNotFound, Detail: "no such path: " + ask}
	case refused:
		status = api.Meanings[problem.Code].Status
	case answer == nil:
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", api.ContentJSON)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

// quiesce runs the program in this process and tells everything that it printed, with the requests that changed something before it.
func (s *server) quiesce(args ...string) (text string, code int) {
	var out, complaints bytes.Buffer
	addrs := "http://127.0.0.1:1"
	if s != nil {
		addrs = s.URL
	}
	env := map[string]string{client.EnvAddrs: addrs, "USER": "ada"}
	c := &cli{getenv: func(name string) string { return env[name] }, out: &out, err: &complaints}
	code = c.run(args)
	if s != nil {
		for _, ask := range s.heard {
			text += "> " + ask + "\n"
		}
		s.heard = nil
	}
	return text + out.String() + complaints.String(), code
}

var someLocks = api.Locks{Page: api.Page{Index: 41}, Locks: []api.Lock{
	{Name: "jobs/nightly", Mode: api.ModeExclusive, HoldersTotal: 1, Waiting: 2,
		Holders: []api.Holder{{Session: "s1", Token: 7, HeldMs: 125_400, LeaseRemainingMs: 8_240, Value: "ada@web-1 pid 77", RevokedInMs: 12_000, RevokeReason: "deploy"}},
		Queue: []api.Wait{{Ticket: 12, Session: "s2", Mode: api.ModeExclusive, RemainingMs: 4_000_000},
			{Ticket: 15, Session: "s3", Owner: "t\x1b[2Jrick", Mode: api.ModeExclusive, Names: []string{"a", "jobs/nightly"}, RemainingMs: 950}}},
	{Name: "render", Mode: api.ModePermits, Limit: 5, InUse: 3, HoldersTotal: 2,
		Holders: []api.Holder{{Session: "s4", Owner: "w1", Token: 8, HeldMs: 10, Permits: 2}, {Session: "s5", Token: 9, HeldMs: 0, Permits: 1, Count: 2, Unclaimed: true}}},
	{Name: "wounded", DelayRemainingMs: 15_000, Waiting: 1, Queue: []api.Wait{{Ticket: 16, Session: "s2", Mode: api.ModePermits, Permits: 4, RemainingMs: 59_999}}},
}}

func lockPage(i int) api.Locks {
	return api.Locks{Page: api.Page{Index: 41}, Locks: someLocks.Locks[i : i+1]}
}

var answers = map[string]any{
	"GET /v1/locks":                        someLocks,
	"GET /v1/locks?prefix=jobs%2F":         api.Locks{Page: api.Page{Index: 41, Cursor: "next"}, Locks: someLocks.Locks[:1]},
	"GET /v1/locks?limit=1000":             api.Locks{Page: api.Page{Index: 41, Cursor: "next"}, Locks: someLocks.Locks[:1]},
	"GET /v1/locks?cursor=next&limit=1000": api.Locks{Page: api.Page{Index: 42}, Locks: someLocks.Locks[1:]},
	"GET /v1/locks?name=jobs%2Fnightly":    lockPage(0),
	"GET /v1/locks?name=render":            lockPage(1),
	"GET /v1/locks?name=wounded":           lockPage(2),
	"GET /v1/locks?name=free":              api.Locks{},
	"POST /v1/locks/force-release":         api.Taken{Grants: []api.TakenGrant{{Session: "s4", Owner: "w1", Token: 8}, {Session: "s5", Token: 9}}},
	"POST /v1/locks/revoke":                api.Taken{Grants: []api.TakenGrant{{Session: "s1", Token: 7}}},
	"POST /v1/locks/handoff":               api.HandedOff{Session: "s2", Token: 10, Ticket: 12},
	"POST /v1/locks/cancel":                nil,
	"GET /v1/locks/deadlocks": api.Deadlocks{Index: 41, Cycles: []api.Deadlock{
		{Waits: []api.WaitFor{{Ticket: 12, Session: "s2", Name: "a", BlockedBy: "s3"}, {Ticket: 15, Session: "s3", Owner: "t", Name: "b", BlockedBy: "s2"}}},
		{Waits: []api.WaitFor{{Ticket: 15, Session: "s3", Name: "c", BlockedBy: "s4", BlockedByTurn: true}, {Ticket: 3, Session: "s4", Name: "b", BlockedBy: "s3"}}}}},
	"GET /v1/elections?name=scheduler": api.Election{Index: 9, Name: "scheduler", Candidates: 1,
		Leader: &api.Leader{Session: "s1", Token: 5, Value: "10.0.0.1:80", LeaseRemainingMs: 9_000}},
	"GET /v1/elections?name=vacant": api.Election{Index: 9, Name: "vacant"},
	"GET /v1/sessions": api.Sessions{Page: api.Page{Index: 41}, Sessions: []api.Session{
		{ID: "s1", TTLMs: 15_000, Name: "lock run jobs/nightly: sh", RemainingMs: 8_240, Locks: 1}, {ID: "s2", TTLMs: 10_000, Waits: 2, Instance: "i-1"}}},
	"GET /v1/sessions/s1":         api.Session{ID: "s1", TTLMs: 15_000, Name: "lock run jobs/nightly: sh", RemainingMs: 8_240, Locks: 1},
	"DELETE /v1/sessions/s9":      api.Problem{Code: api.CodeSessionNotFound, Detail: "there is no session s9"},
	"GET /v1/locks?prefix=nobody": api.Locks{Locks: []api.Lock{}},
	"GET /v1/sessions/s9":         api.Problem{Code: api.CodeSessionNotFound, Detail: "there is no session s9"},
	"DELETE /v1/sessions/s1":      nil,
	"GET /v1/audit": api.Audit{Page: api.Page{Index: 41}, Acts: []api.Act{{ID: 2, At: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC), Action: "locks.force-release",
		Subject: "render", By: "ada@ops", Reason: "stuck\nfor hours", Details: []string{"s4 8", "s5 9"}, Index: 40}}},
	"GET /v1/cluster": api.Cluster{ID: "c-1", Node: "n2", Leader: "n1", LeaderURL: "http://10.0.0.1:7400", Term: 3, Index: 41, AppliedIndex: 60,
		Digest: "ab12", FailureTolerance: 1, Nodes: []api.Node{
			{ID: "n1", Status: "alive", Suffrage: "voter", HTTPAddr: "10.0.0.1:7400", PeerAddr: "10.0.0.1:7401", AppliedIndex: 60, Version: "0.1.0"},
			{ID: "n2", Status: "alive", Suffrage: "voter", HTTPAddr: "10.0.0.2:7400", PeerAddr: "10.0.0.2:7401", AppliedIndex: 58, Version: "0.1.0"},
			{ID: "n3", Status: "failed", Suffrage: "voter", HTTPAddr: "10.0.0.3:7400", PeerAddr: "10.0.0.3:7401"}}},
	"GET /v1/cluster?consistency=stale": api.Cluster{ID: "c-1", Node: "n2", Nodes: []api.Node{{ID: "n2", Status: "alive", Suffrage: "voter"}}},
}

// A file is a command line; what it sent, printed and answered are the file's text. Run the test with -update to see what a change makes
// different.
func TestRendering_ReadsAsAPersonOrAProgramWantsIt(t *testing.T) {
	t.Parallel()
	for name, lines := range map[string][]string{
		"lock-ls":    {"lock ls", "lock ls jobs/", "lock ls --all", "lock ls -o json", "lock ls jobs/ -o yaml", "lock ls nobody"},
		"lock-show":  {"lock show jobs/nightly", "lock show render", "lock show wounded", "lock show free", "lock show wounded -o json"},
		"lock-acts":  {"lock release render", "lock release render --force", "lock release render --force --reason stuck --by ada@ops", "lock release render --force --reason stuck --by ada@ops --token 9 -o json", "lock revoke jobs/nightly --reason deploy --by ada@ops", "lock revoke jobs/nightly --within 0s --reason deploy", "lock handoff jobs/nightly", "lock handoff jobs/nightly --session s1 --to s2 --token 7", "lock handoff render", "lock handoff free", "lock cancel 12 --reason enough", "lock cancel twelve"},
		"deadlocks":  {"lock deadlocks", "lock deadlocks -o json", "lock deadlocks --break", "lock deadlocks --break --reason stuck"},
		"election":   {"election show scheduler", "election show vacant", "election show scheduler -o yaml"},
		"session":    {"session ls", "session show s1", "session show s9", "session close s1", "session close s9"},
		"audit":      {"audit", "audit -o yaml"},
		"status":     {"status", "status --stale"},
		"usage":      {"lok", "lock", "lock rn", "lock ls a b", "lock ls --more", "lock ls -o xml", "lock run -- true", "lock run a", "lock run a --", "lock run a --ttl 10s --grace 6s -- true", "lock run a --shared --permits 1 -- true", "lock run a --permits 3 --limit 2 -- true", "lock run a --ttl 1ms -- true", "lock run a --rest keep -- true", "lock run a -- no-such-command", "status --timeout 0s", "status --addrs ftp://x"},
		"exit-codes": {"help exit-codes"},
	} {
		s := newServer(t, answers)
		var got strings.Builder
		for _, line := range lines {
			text, code := s.quiesce(strings.Fields(line)...)
			fmt.Fprintf(&got, "$ quiesce %s\n%s[%d]\n\n", line, text, code)
		}
		golden(t, name, strings.ReplaceAll(got.String(), s.URL, "http://node"))
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is different:\n%s", path, firstDifference(string(want), got))
	}
}

func firstDifference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("line %d\nwant %s\ngot  %s", i+1, a[i], b[i])
		}
	}
	return fmt.Sprintf("%d lines, wanted %d", len(b), len(a))
}

func TestExitCodes_TellWhatHappened(t *testing.T) {
	t.Parallel()
	s := newServer(t, map[string]any{
		"POST /v1/locks/cancel":  api.Problem{Code: api.CodeTicketNotFound, Detail: "there is no ticket 1"},
		"POST /v1/locks/handoff": api.Problem{Code: api.CodeOutcomeUnknown, Detail: "who knows"},
		"POST /v1/locks/revoke":  api.Problem{Code: api.CodeInvalid, Detail: "too long"},
		"GET /v1/cluster":        api.Problem{Code: api.CodeNoLeader, Detail: "there is no leader"},
	})
	for line, want := range map[string]int{
		"version":                  0,
		"lock cancel 1":            exitRefused,
		"lock cancel":              exitUsage,
		"lock revoke a --reason b": exitUsage,
		"status --timeout 50ms":    exitUnavailable,
		"lock handoff a --session b --timeout 50ms": exitUnknown,
		"lock run a -- no-such-command":             127,
		"lock run a -- /etc":                        126,
		"status --timeout 50ms --addrs 127.0.0.1:1": exitUnavailable,
	} {
		text, code := s.quiesce(strings.Fields(line)...)
		if code != want {
			t.Errorf("%s: %d, not %d: %s", line, code, want, text)
		}
		if complaints := strings.Count(text, "quiesce: "); code != 0 && complaints != 1 {
			t.Errorf("%s: %d sentences: %s", line, complaints, text)
		}
	}
}

func TestExitCodes_EveryOneIsExplained(t *testing.T) {
	t.Parallel()
	for _, code := range []int{exitRefused, exitUsage, exitDivergent, exitUnavailable, exitUnknown, exitNotInTime, exitLost, exitFailed, exitUndone, 126, 127} {
		if !slices.ContainsFunc(exitCodes, func(e struct{ code, meaning string }) bool { return e.code == fmt.Sprint(code) }) {
			t.Errorf("%d is not in the table", code)
		}
	}
}

func TestObserve_PrintsOneLinePerChange(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	led, vacant := client.Leader{Session: "s1", Token: 5, Value: "10.0.0.1:80\r\nGET", Candidates: 2, Index: 9}, client.Leader{Index: 10}
	for format, want := range map[string]string{
		formatTable: "04:05:06  s1 leads with token 5: 10.0.0.1:80\\r\\nGET\n04:05:06  nobody leads\n",
		formatJSON: `{"index":9,"name":"e","leader":{"session":"s1","token":5,"value":"10.0.0.1:80\r\nGET"},"candidates":2}` + "\n" +
			`{"index":10,"name":"e","candidates":0}` + "\n",
		formatYAML: "---\nindex: 9\nname: e\nleader:\n  session: s1\n  token: 5\n  value: \"10.0.0.1:80\\r\\nGET\"\ncandidates: 2\n" +
			"---\nindex: 10\nname: e\ncandidates: 0\n",
	} {
		var out bytes.Buffer
		c := &cli{out: &out, format: format}
		for _, l := range []client.Leader{led, vacant} {
			if err := c.showChange("e", l, at); err != nil {
				t.Fatal(err)
			}
		}
		if out.String() != want {
			t.Errorf("%s:\n%s, not\n%s", format, out.String(), want)
		}
	}
}

func TestCompletion_ShellsAreServed(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if text, code := (*server)(nil).quiesce("completion", shell); code != 0 || len(text) < 1000 {
			t.Errorf("%s: %d %s", shell, code, text)
		}
	}
	if text, code := (*server)(nil).quiesce("__complete", "status", "-o", ""); code != 0 || !strings.HasPrefix(text, "table\njson\nyaml\n") {
		t.Errorf("%d %s", code, text)
	}
}
