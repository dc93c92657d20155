package httpapi

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quiescehq/quiesce/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// served runs an edge on a real listener until the test ends, or until stop is called.
func served(t *testing.T, e *edge) (addr string, stop func() error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Serve(ctx, ln) }()
	var result error
	stopped := false
	stop = func() error {
		if !stopped {
			stopped = true
			cancel()
			result = <-done
		}
		return result
	}
	t.Cleanup(func() { _ = stop() })
	return ln.Addr().String(), stop
}

// client keeps connections of its own and gives them up with the test.
func client(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

func send(t *testing.T, c *http.Client, method, url, body string, header ...string) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", api.ContentJSON)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, b}
}

func TestServe_EndsWithParkedRequestsAnsweredAndNothingLeft(t *testing.T) {
	e, _, waiter, _ := contended(t)
	addr, stop := served(t, e)
	c := client(t)
	got := make(chan reply, 1)
	go func() {
		got <- send(t, c, post, "http://"+addr+"/v1/locks/acquire", e.acquireBody(waiter, "l", 60_000))
	}()
	eventually(t, "the request parks", func() bool { return e.rep.watching() == 1 })
	silent, err := net.Dial("tcp", addr) // a connection that was opened ahead of need
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	begun := time.Now()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("took %s", took)
	}
	if r := <-got; r.status != http.StatusAccepted {
		t.Errorf("%d %s", r.status, r.body)
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("the listener is still open")
	}
}

// TestServe_ParkedRequestOutlivesTheDeadlineOfItsBody: a deadline that stayed on the connection would pass for a client that went away.
func TestServe_ParkedRequestOutlivesTheDeadlineOfItsBody(t *testing.T) {
	e, holder, waiter, token := contended(t)
	e.bodyMax = 50 * time.Millisecond
	addr, _ := served(t, e)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := e.acquireBody(waiter, "l", 30_000)
	fmt.Fprintf(conn, "POST /v1/locks/acquire HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	eventually(t, "the request parks", func() bool { return e.rep.watching() == 1 })
	past := time.NewTimer(4 * e.bodyMax)
	defer past.Stop()
	<-past.C
	e.release(holder, token)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
}

func TestServe_BodyOfUnknownLengthIsBounded(t *testing.T) {
	e := newEdge(t)
	addr, _ := served(t, e)
	c := client(t)
	r, _ := http.NewRequestWithContext(t.Context(), post, "http://"+addr+"/v1/sessions", io.LimitReader(zeros{}, api.BodyBytesMax+1))
	r.Header.Set("Content-Type", api.ContentJSON)
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge || resp.Header.Get("Content-Type") != api.ContentProblem {
		t.Fatal(resp.Status, resp.Header)
	}
}

func TestServe_BodyThatNeverComesIsGivenUp(t *testing.T) {
	e := newEdge(t)
	e.bodyMax = 50 * time.Millisecond
	addr, _ := served(t, e)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Fatal(resp.Status)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestServe_LivenessOutlastsReadiness(t *testing.T) {
	e := newEdge(t)
	for _, step := range []struct {
		do          func()
		live, ready int
	}{
		{func() {}, 200, 200},
		{func() { e.SetReady(false, "not a voter yet") }, 200, 503},
		{func() { e.SetReady(true, "") }, 200, 200},
		{func() { _ = e.Drain(t.Context()) }, 200, 503},
	} {
		step.do()
		if r := e.do(get, "/healthz", ""); r.status != step.live {
			t.Errorf("live %d", r.status)
		}
		if r := e.do(get, "/readyz", ""); r.status != step.ready {
			t.Errorf("ready %d", r.status)
		}
	}
}

func TestMetrics_LabelsAreRoutesAndNotWhatClientsSend(t *testing.T) {
	e := newEdge(t)
	session := e.session()
	e.do(remove, "/v1/sessions/"+session, "")
	e.do("BREW", "/v1/coffee/"+session, "")
	e.do(get, "/v1/locks?name=secret", "")
	text := string(e.do(get, "/metrics", "").body)
	for _, want := range []string{
		`quiesce_http_requests_total{class="2xx",method="DELETE",route="/v1/sessions/:id"} 1`,
		`quiesce_http_requests_total{class="4xx",method="any",route="none"} 1`,
		`quiesce_state_index `, `quiesce_raft_term 1`, `quiesce_leader 1`, `quiesce_breaker_open{name="main"} 0`, `quiesce_state_rows{table="sessions"} 0`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	for _, unwanted := range []string{session, "BREW", "coffee", "secret"} {
		if strings.Contains(text, unwanted) {
			t.Errorf("%s is a label", unwanted)
		}
	}
}

func TestHeaders_OnEveryAnswer(t *testing.T) {
	e := newEdge(t)
	for _, r := range []reply{e.do(get, "/healthz", ""), e.do(get, "/nowhere", ""), e.do(post, "/v1/sessions", `{`), e.do(get, "/v1/locks", "")} {
		if r.header.Get(api.HeaderFeatureLevel) != "1" || r.header.Get(api.HeaderLeader) != "http://127.0.0.1:1" {
			t.Errorf("%v", r.header)
		}
	}
}
