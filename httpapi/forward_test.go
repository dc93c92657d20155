package httpapi

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/replica"
)

// pair is a leader and a follower on the network. The follower's own state stays as it was.
func pair(t *testing.T) (leader, follower *edge, url string) {
	t.Helper()
	leader, follower = newEdge(t), newEdge(t)
	follower.cfg.Node = "n2"
	addr, _ := served(t, leader)
	leader.rep.leader.Store(&Leader{ID: "n1", HTTPAddr: addr, Self: true})
	follower.rep.leader.Store(&Leader{ID: "n1", HTTPAddr: addr})
	own, _ := served(t, follower)
	return leader, follower, "http://" + own
}

func TestForward_AnyNodeTakesAnyRequest(t *testing.T) {
	leader, follower, url := pair(t)
	c := client(t)
	open := send(t, c, post, url+"/v1/sessions", `{"ttl_ms":5000}`, api.HeaderIdempotencyKey, "c/1")
	session := into[api.Session](t, open)
	if got := open.header.Values(api.HeaderLeader); len(got) != 1 || got[0] != "http://"+leader.rep.Leader().HTTPAddr {
		t.Errorf("leader headers %v", got)
	}
	if got := open.header.Values(api.HeaderFeatureLevel); len(got) != 1 {
		t.Errorf("feature levels %v", got)
	}
	if again := into[api.Session](t, send(t, c, post, url+"/v1/sessions", `{"ttl_ms":5000}`, api.HeaderIdempotencyKey, "c/1")); again != session {
		t.Errorf("the key did not travel: %+v, then %+v", session, again)
	}
	into[api.Acquired](t, send(t, c, post, url+"/v1/locks/acquire", leader.acquireBody(session.ID, "l/ü", 0)))
	if page := into[api.Locks](t, send(t, c, get, url+"/v1/locks?name=l/%C3%BC", "")); len(page.Locks) != 1 {
		t.Errorf("%+v", page)
	}
	if page := into[api.Locks](t, send(t, c, get, url+"/v1/locks?consistency=stale", "")); len(page.Locks) != 0 {
		t.Errorf("a stale read was not answered here: %+v", page)
	}
	if p := send(t, c, post, url+"/v1/locks/acquire", leader.acquireBody(session.ID, "l/ü", 0)).problem(t); p.Code != api.CodeLockHeld {
		t.Errorf("%+v", p)
	}
	if follower.rep.entries.Load() != 0 {
		t.Error("the follower proposed")
	}
	follower.SetReady(false, "x")
	if r := send(t, c, get, url+"/readyz", ""); r.status != 503 {
		t.Errorf("health was forwarded: %d", r.status)
	}
}

func TestForward_WaitsAndLongPollsTravelToo(t *testing.T) {
	leader, _, url := pair(t)
	c := client(t)
	holder, waiter := leader.session(), leader.session()
	token := into[api.Acquired](t, leader.do(post, "/v1/locks/acquire", leader.acquireBody(holder, "l", 0))).Grants[0].Token
	wait, poll := make(chan reply, 1), make(chan reply, 1)
	go func() { wait <- send(t, c, post, url+"/v1/locks/acquire", leader.acquireBody(waiter, "l", 30_000)) }()
	eventually(t, "the wait parks", func() bool { return leader.rep.watching() == 1 })
	go func() { poll <- send(t, c, get, url+"/v1/services?index=1&wait_ms=60000", "") }()
	eventually(t, "the poll parks", func() bool { return leader.rep.watching() == 2 })
	leader.release(holder, token)
	if a := into[api.Acquired](t, <-wait); len(a.Grants) != 1 {
		t.Errorf("%+v", a)
	}
	leader.do(put, "/v1/services/a", `{"max_unavailable":1}`)
	if s := into[api.Services](t, <-poll); len(s.Services) != 1 {
		t.Errorf("%+v", s)
	}
}

func TestForward_OneHopAtMost(t *testing.T) {
	_, follower, url := pair(t)
	r := send(t, client(t), post, url+"/v1/sessions", `{"ttl_ms":5000}`, api.HeaderForwarded, "n3")
	if p := r.problem(t); p.Code != api.CodeNotApplied || r.header.Get(api.HeaderLeader) != "http://"+follower.rep.Leader().HTTPAddr {
		t.Fatalf("%+v %v", p, r.header)
	}
}

func TestForward_LeaderThatCannotBeDialledIsNotApplied(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	e := newEdge(t)
	e.rep.leader.Store(&Leader{ID: "n1", HTTPAddr: addr})
	for method, path := range map[string]string{post: "/v1/sessions", get: "/v1/locks"} {
		body := map[string]string{post: `{"ttl_ms":5000}`}[method]
		if p := e.do(method, path, body).problem(t); p.Code != api.CodeNotApplied || p.RetryAfterMs == 0 {
			t.Errorf("%s: %+v", method, p)
		}
	}
}

// TestForward_LeaderThatFallsSilentIsUnknown: bytes were written, so the command may be in its log.
func TestForward_LeaderThatFallsSilentIsUnknown(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	cut := make(chan struct{})
	go func() {
		defer close(cut)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 16))
			c.Close()
		}
	}()
	e := newEdge(t)
	e.rep.leader.Store(&Leader{ID: "n1", HTTPAddr: ln.Addr().String()})
	if p := e.do(post, "/v1/sessions", `{"ttl_ms":5000}`).problem(t); p.Code != api.CodeOutcomeUnknown {
		t.Errorf("%+v", p)
	}
	if p := e.do(get, "/v1/locks", "").problem(t); p.Code != api.CodeNotApplied {
		t.Errorf("a read is never unknown: %+v", p)
	}
	ln.Close()
	<-cut
}

// silentLeader takes requests and never answers. It tells of each that has arrived.
func silentLeader(t *testing.T) (arrived <-chan struct{}, addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	began := make(chan struct{}, 2)
	var taken sync.WaitGroup
	taken.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			taken.Go(func() {
				defer c.Close()
				if _, err := c.Read(make([]byte, 16)); err == nil {
					began <- struct{}{}
				}
				_, _ = io.Copy(io.Discard, c)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		taken.Wait()
	})
	return began, ln.Addr().String()
}

// TestForward_LeaderThatWasSucceededIsNotWaitedFor: the old leader takes the request and never answers, as a stopped process does.
func TestForward_LeaderThatWasSucceededIsNotWaitedFor(t *testing.T) {
	_, follower, url := pair(t)
	successor := follower.rep.Leader()
	arrived, silent := silentLeader(t)
	follower.rep.leader.Store(&Leader{ID: "n3", HTTPAddr: silent})
	c := client(t)
	written, read := make(chan reply, 1), make(chan reply, 1)
	go func() { written <- send(t, c, post, url+"/v1/sessions", `{"ttl_ms":5000}`) }()
	go func() { read <- send(t, c, get, url+"/v1/locks", "") }()
	<-arrived
	<-arrived
	began := time.Now()
	follower.rep.leader.Store(&successor)
	if p := (<-written).problem(t); p.Code != api.CodeOutcomeUnknown {
		t.Errorf("%+v", p)
	}
	if p := (<-read).problem(t); p.Code != api.CodeNotApplied {
		t.Errorf("%+v", p)
	}
	if took := time.Since(began); took < succeededLingerMax || took > 5*time.Second {
		t.Errorf("given up after %s", took)
	}
}

func TestForward_WaitsAMomentForALeader(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	self := e.rep.leader.Swap(&Leader{})
	begun := time.Now()
	if p := e.do(post, "/v1/sessions", `{"ttl_ms":5000}`).problem(t); p.Code != api.CodeNoLeader || p.RetryAfterMs == 0 {
		t.Fatalf("%+v", p)
	}
	if took := time.Since(begun); took < leaderWaitMax || took > 5*leaderWaitMax {
		t.Fatalf("after %s", took)
	}
	got := later(e, post, "/v1/sessions", `{"ttl_ms":5000}`)
	eventually(t, "the request waits", func() bool { return e.inFlight.Load() == 1 })
	e.rep.leader.Store(self)
	into[api.Session](t, <-got)
	e.rep.leader.Store(&Leader{})
	if r := e.do(get, "/v1/locks?consistency=stale", ""); r.status != 200 {
		t.Fatalf("a stale read needs no leader: %d", r.status)
	}
}

// TestForward_WaitersShareOneLook: with a look for each, these would have asked some 15 times each.
func TestForward_WaitersShareOneLook(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	self := e.rep.leader.Swap(&Leader{})
	const waiters = 100
	answers := make([]<-chan reply, waiters)
	for i := range answers {
		answers[i] = later(e, post, "/v1/sessions", `{"ttl_ms":5000}`)
	}
	eventually(t, "all wait", func() bool { return e.inFlight.Load() == waiters })
	waiting := time.Now()
	eventually(t, "many looks' time has passed", func() bool { return time.Since(waiting) > 15*leaderPoll })
	e.rep.leader.Store(self)
	for _, answer := range answers {
		if r := <-answer; r.status != 200 && r.status != 503 { // 503: a machine so slow that its second was over
			t.Errorf("status %d", r.status)
		}
	}
	if asked := e.rep.asked.Load(); asked > 8*waiters {
		t.Errorf("asked %d times who leads, for %d requests", asked, waiters)
	}
}

func TestForward_DrainCutsWhatTheLeaderKeepsParked(t *testing.T) {
	leader, follower, url := pair(t)
	c := client(t)
	poll := make(chan reply, 1)
	go func() { poll <- send(t, c, get, url+"/v1/services?index=1&wait_ms=60000", "") }()
	eventually(t, "the poll parks", func() bool { return leader.rep.watching() == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := follower.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	if p := (<-poll).problem(t); p.Code != api.CodeDraining {
		t.Fatalf("%+v", p)
	}
}

// TestForward_AnswerCutShortCutsTheConnection: half an answer must not look like one.
func TestForward_AnswerCutShortCutsTheConnection(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = c.Read(make([]byte, 4096))
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"id\":")
	}()
	e := newEdge(t)
	e.rep.leader.Store(&Leader{ID: "n1", HTTPAddr: ln.Addr().String()})
	own, _ := served(t, e)
	resp, err := client(t).Post("http://"+own+"/v1/sessions", api.ContentJSON, strings.NewReader(`{"ttl_ms":5000}`))
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("the client saw a whole answer")
	}
	ln.Close()
	<-done
}

// TestOver_OutcomesKeepTheirMeaning pins what the edge makes of every error of a replica.
func TestOver_OutcomesKeepTheirMeaning(t *testing.T) {
	t.Parallel()
	for err, want := range replicaErrors() {
		if got := outcomeOf(translated(err)).Code; got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
	if translated(nil) != nil {
		t.Error("nil became an error")
	}
}

func replicaErrors() map[error]api.Code {
	return map[error]api.Code{
		replica.ErrNotApplied:                                 api.CodeNotApplied,
		replica.ErrNotLeader:                                  api.CodeNotApplied,
		replica.ErrNoLeader:                                   api.CodeNoLeader,
		replica.ErrBusy:                                       api.CodeNotApplied,
		replica.ErrOutcomeUnknown:                             api.CodeOutcomeUnknown,
		errors.New("anything else"):                           api.CodeOutcomeUnknown,
		context.Canceled:                                      api.CodeOutcomeUnknown,
		&replica.RefusedError{Code: replica.CodeUnsafe}:       api.CodeUnsafe,
		&replica.RefusedError{Code: replica.CodeNotLeader}:    api.CodeNotApplied,
		&replica.RefusedError{Code: replica.CodeNodeNotFound}: api.CodeNodeNotFound,
		&replica.RefusedError{Code: "something new"}:          api.CodeUnsafe,
	}
}
