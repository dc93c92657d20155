package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/cluster_test/traffic"
)

func TestTraffic_TellsBrokenConnectionsFromAnswers(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(answerByPath))
	t.Cleanup(server.Close)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	cases := []struct {
		base, path, method string
		want               traffic.Class
	}{
		{server.URL, "/200", http.MethodPost, traffic.OK},
		{server.URL, "/gate", http.MethodPost, traffic.Gated},
		{server.URL, "/503", http.MethodPost, traffic.Busy},
		{server.URL, "/409", http.MethodPost, traffic.Busy},
		{server.URL, "/400", http.MethodPost, traffic.Wrong},
		{server.URL, "/other", http.MethodPost, traffic.Wrong},
		{server.URL, "/cut", http.MethodPost, traffic.Cut},
		{server.URL, "/half", http.MethodPost, traffic.Cut},
		{gone.URL, "/200", http.MethodPost, traffic.Refused},
	}
	for _, c := range cases {
		tr := newLoad(nil)
		if _, got := tr.attempt(t.Context(), c.base, request{method: c.method, path: c.path, body: 1, order: 7}); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.method, c.path, got, c.want)
		}
		tr.http.CloseIdleConnections()
	}
}

// answerByPath answers with the status that the path names, for order 7, or breaks the connection.
func answerByPath(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/cut":
		panic(http.ErrAbortHandler)
	case "/half":
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, `{"id":7`)
		panic(http.ErrAbortHandler)
	case "/other":
		_, _ = io.WriteString(w, `{"id":8}`)
	case "/gate":
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"code":"draining"}`)
	default:
		status, _ := strconv.Atoi(r.URL.Path[1:])
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"id":7}`)
	}
}

func TestTally_TimedOutIsNotCut(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(server.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	tr := newLoad(nil)
	if _, got := tr.attempt(ctx, server.URL, request{method: http.MethodGet, path: "/"}); got != traffic.TimedOut {
		t.Errorf("%s, want %s", got, traffic.TimedOut)
	}
}

func TestDigest_SeesSwappedMissingAndMovedValues(t *testing.T) {
	t.Parallel()
	rows := func(a, b string) map[int64]fields { return map[int64]fields{1: {"status": a}, 2: {"status": b}} }
	base := sumRows(rows("x", "y"))
	if sumRows(rows("x", "y")) != base {
		t.Error("equal rows differ")
	}
	for name, other := range map[string]map[int64]fields{
		"swapped": rows("y", "x"), "missing": {1: {"status": "x"}}, "another id": {1: {"status": "x"}, 3: {"status": "y"}},
		"one more field": {1: {"status": "x", "note": ""}, 2: {"status": "y"}},
	} {
		if sumRows(other) == base {
			t.Errorf("%s: same digest", name)
		}
	}
	if decode([]byte(`{"id":1}`))["id"] == decode([]byte(`{"id":"1"}`))["id"] {
		t.Error("a number and a text look the same")
	}
	if len(decode([]byte(`{"id":1}{}`))) != 1 || decode([]byte(`{"id":1}{}`))["id"] != "" {
		t.Error("two objects look like one")
	}
}

func TestAudit_IsExactOnlyWhenNothingIsLostDoubledOrUnasked(t *testing.T) {
	t.Parallel()
	exact := audit{acked: 3, committed: 3}
	if !exact.exact() {
		t.Error("an exact audit is refused")
	}
	for _, a := range []audit{{}, {acked: 3, committed: 2}, {acked: 3, committed: 3, lost: 1}, {acked: 3, committed: 3, unasked: 1}, {acked: 3, committed: 3, uneven: 1}} {
		if a.exact() {
			t.Errorf("%v counts as exact", a)
		}
	}
}

func TestReport_IsOKOnlyWhenCompleteAndNothingFailed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ pass, finish, want bool }{{true, true, true}, {true, false, false}, {false, true, false}} {
		r := newReport(io.Discard)
		r.check("one", true, "")
		r.check("two", c.pass, "%d", 7)
		if c.finish {
			r.finish()
		}
		var out bytes.Buffer
		if err := r.print(&out, true); err != nil {
			t.Fatal(err)
		}
		var got struct {
			OK     bool
			Checks []check
		}
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if got.OK != c.want || len(got.Checks) != 2 || got.Checks[1].Pass != c.pass {
			t.Errorf("%+v: %s", c, out.String())
		}
	}
}

func TestRecorder_FindsTheAddressWhereverTheTextIsCut(t *testing.T) {
	t.Parallel()
	r, err := newRecorder(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.file.Close()
	for _, b := range []byte("not JSON\n{\"msg\":\"listening\",\"addr\":\"127.0.0.1:7\"}\n{\"msg\":\"listening\",\"addr\":\"other\"}\n") {
		if _, err := r.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case addr := <-r.listening:
		if addr != "127.0.0.1:7" {
			t.Errorf("address %q", addr)
		}
	default:
		t.Error("no address")
	}
}

func TestDirect_SeesTwoHoldersAndATokenThatDoesNotRise(t *testing.T) {
	t.Parallel()
	d, err := newDirect(&cluster{nodes: []node{{Addr: "127.0.0.1:1"}}}, newBook())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.client.Close)
	for _, step := range []struct {
		name  string
		token uint64
		leave bool
		want  uint64
	}{{"a", 1, true, 0}, {"a", 2, false, 0}, {"b", 2, true, 0}, {"a", 3, true, 1}, {"b", 2, true, 2}} {
		d.enter(step.name, step.token)
		if step.leave {
			d.leave(step.name)
		}
		if got := d.broken.Load(); got != step.want {
			t.Errorf("%+v: %d violations", step, got)
		}
	}
}

func TestProbe_GapIsTheLongestTimeBetweenNeighbours(t *testing.T) {
	t.Parallel()
	base := time.Now()
	at := func(ms time.Duration) time.Time { return base.Add(ms * time.Millisecond) }
	if got := longestGap([]time.Time{at(0), at(900), at(10), at(905), at(20)}); got != 880*time.Millisecond {
		t.Errorf("gap %v", got)
	}
}

func TestUntil_TellsWhatWasMissing(t *testing.T) {
	t.Parallel()
	err := until(t.Context(), 2*pollEvery, func(context.Context) string { return "the key" })
	if !errors.Is(err, errWaited) || !strings.Contains(err.Error(), "the key") {
		t.Errorf("%v", err)
	}
}

// What keeps table and cache equal must not be what finds them equal.
func TestDemo_ImportsNothingThatItJudges(t *testing.T) {
	t.Parallel()
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if filepath.Ext(file.Name()) != ".go" {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file.Name(), nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range parsed.Imports {
			path, _ := strconv.Unquote(i.Path.Value)
			part, ours := strings.CutPrefix(path, "github.com/quiescehq/quiesce/")
			if ours && part != "api" && part != "client" && part != "cluster_test/traffic" {
				t.Errorf("%s imports %s", file.Name(), path)
			}
		}
	}
}
