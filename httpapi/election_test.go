package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// events reads a stream of server-sent events.
type eventReader struct {
	lines *bufio.Scanner
	body  func() error
}

func observeElection(t *testing.T, base, query string) *eventReader {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), get, base+"/v1/elections/observe?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Body.Close() })
	if r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%d %s", r.StatusCode, r.Header.Get("Content-Type"))
	}
	return &eventReader{lines: bufio.NewScanner(r.Body), body: r.Body.Close}
}

// next gives the next leader, with the id of its event; ok is false at the end of the stream.
func (r *eventReader) next(t *testing.T) (e api.Election, id string, ok bool) {
	t.Helper()
	for r.lines.Scan() {
		line := r.lines.Text()
		if v, found := strings.CutPrefix(line, "id: "); found {
			id = v
		}
		if data, found := strings.CutPrefix(line, "data: "); found {
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				t.Fatal(err)
			}
			return e, id, true
		}
	}
	return e, "", false
}

func TestObserve_TellsTheLeaderAndEveryChangeUntilTheNodeStops(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	srv := httptest.NewServer(e.Handler())
	t.Cleanup(srv.Close) // after the streams
	first, second := e.session(), e.session()
	stream := observeElection(t, srv.URL, "name=primary")
	expect := func(session, value string) {
		t.Helper()
		got, id, ok := stream.next(t)
		if !ok || id != fmt.Sprint(got.Index) || (got.Leader == nil) != (session == "") {
			t.Fatalf("%+v, id %q, want %s", got, id, session)
		}
		if got.Leader != nil && (got.Leader.Session != session || got.Leader.Value != value) {
			t.Fatalf("%+v leads with %q, want %s with %q", got.Leader, got.Leader.Value, session, value)
		}
	}
	expect("", "")
	won := into[api.Acquired](t, e.do(post, "/v1/elections/campaign", fmt.Sprintf(`{"session":%q,"name":"primary","value":"a"}`, first)))
	expect(first, "a")
	e.do(post, "/v1/locks/acquire", e.acquireBody(second, "another lock", 0)) // nobody hears of it
	proclaimed := fmt.Sprintf(`{"session":%q,"name":"primary","token":%d,"value":"b"}`, first, won.Grants[0].Token)
	e.do(post, "/v1/elections/proclaim", proclaimed)
	expect(first, "b")
	e.do(post, "/v1/elections/proclaim", proclaimed) // the same value is no change
	e.do(remove, "/v1/sessions/"+first, "")
	expect("", "")
	_ = e.Drain(t.Context())
	if got, _, ok := stream.next(t); ok {
		t.Fatalf("the node stops, and the stream goes on with %+v", got)
	}
}

func TestObserve_EndsWhenTheNodeLeadsNoMore(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	srv := httptest.NewServer(e.Handler())
	t.Cleanup(srv.Close) // after the streams
	ours, stale := observeElection(t, srv.URL, "name=primary"), observeElection(t, srv.URL, "name=primary&consistency=stale")
	ours.next(t)
	stale.next(t)
	e.rep.leader.Store(&Leader{ID: "n2", HTTPAddr: "127.0.0.1:9"})
	if got, _, ok := ours.next(t); ok {
		t.Fatalf("%+v", got)
	}
	e.rep.apply(fsm.Op{Command: fsm.OpenSession{ID: "s", TTLMs: 9_000}}, fsm.Op{Command: fsm.AcquireLock{Session: "s", Wants: []fsm.LockWant{{Name: "primary"}}}})
	if got, _, ok := stale.next(t); !ok || got.Leader == nil {
		t.Fatalf("who takes what this node knows is told: %+v", got)
	}
}

func TestElection_LongPollWakesForItsOwnNameOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEdge(t)
		session := e.session()
		now := into[api.Election](t, e.do(get, "/v1/elections?name=primary", ""))
		begun := time.Now()
		got := later(e, get, fmt.Sprintf("/v1/elections?name=primary&index=%d&wait_ms=5000", now.Index), "")
		synctest.Wait()
		e.do(post, "/v1/elections/campaign", fmt.Sprintf(`{"session":%q,"name":"primary","value":"a"}`, session))
		won := into[api.Election](t, <-got)
		if won.Leader == nil || won.Leader.Value != "a" || time.Since(begun) > time.Second {
			t.Fatalf("%+v after %s", won, time.Since(begun))
		}
		if r := e.do(get, fmt.Sprintf("/v1/elections?name=primary&index=%d&wait_ms=5000", won.Index), ""); r.status != 200 || time.Since(begun) != 5*time.Second {
			t.Fatalf("%d after %s", r.status, time.Since(begun))
		}
	})
}

// A hand-over that is waited for costs one entry: the claim goes with the release.
func TestWait_ReleaseClaimsForTheParkedSuccessor(t *testing.T) {
	t.Parallel()
	for what, request := range map[string]string{
		"release":  `{"session":%q,"locks":[{"name":"l","token":%d}]}`,
		"handoff":  `{"session":%q,"name":"l","token":%d}`,
		"batch":    `{"ops":[{"op":"locks.release","body":{"session":%q,"locks":[{"name":"l","token":%d}]}}]}`,
		"no claim": "", // the session ends: the grant is claimed when the request wakes
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				e, holder, waiter, token := contended(t)
				got := later(e, post, "/v1/locks/acquire", e.acquireBody(waiter, "l", 30_000))
				synctest.Wait()
				before := e.rep.entries.Load()
				entries := int64(1)
				switch what {
				case "no claim":
					entries = 2
					e.do(remove, "/v1/sessions/"+holder, "")
				case "batch":
					e.do(post, "/v1/batch", fmt.Sprintf(request, holder, token))
				default:
					e.do(post, "/v1/locks/"+what, fmt.Sprintf(request, holder, token))
				}
				if a := into[api.Acquired](t, <-got); len(a.Grants) != 1 || a.Grants[0].Token <= token {
					t.Fatalf("%+v", a)
				}
				if n := e.rep.entries.Load() - before; n != entries {
					t.Errorf("the hand-over cost %d entries, want %d", n, entries)
				}
			})
		})
	}
}

// A release does not claim for a wait whose request is not here: its owner has not been told.
func TestWait_ReleaseClaimsForNobodyElse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, holder, waiter, token := contended(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		e.doCtx(ctx, post, "/v1/locks/acquire", e.acquireBody(waiter, "l", 30_000))
		e.release(holder, token)
		l := into[api.Locks](t, e.do(get, "/v1/locks?name=l", "")).Locks[0]
		if len(l.Holders) != 1 || !l.Holders[0].Unclaimed {
			t.Fatalf("%+v", l)
		}
	})
}
