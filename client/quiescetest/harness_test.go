package quiescetest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client/quiescetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	ttl  = 10 * time.Second
	tick = time.Millisecond
)

// caller asks a coordinator as any client does.
type caller struct {
	t    testing.TB
	http *http.Client
	base string
}

// direct calls without a socket.
func direct(t testing.TB, c *quiescetest.Coordinator) caller {
	return caller{t, c.HTTPClient(), quiescetest.Addr}
}

// overTCP calls a coordinator that listens.
func overTCP(t testing.TB, addr string) caller {
	transport := &http.Transport{DisableKeepAlives: true}
	return caller{t, &http.Client{Transport: transport, Timeout: 20 * time.Second}, addr}
}

type reply struct {
	status int
	code   api.Code
	body   []byte
}

func (c caller) try(ctx context.Context, path string, body any, header ...string) (reply, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return reply{}, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(encoded))
	if err != nil {
		return reply{}, err
	}
	r.Header.Set("Content-Type", api.ContentJSON)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := c.http.Do(r)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	out := reply{status: response.StatusCode, body: text}
	if out.status >= 300 {
		var p api.Problem
		if err := json.Unmarshal(text, &p); err != nil {
			return out, fmt.Errorf("%d %s: %w", out.status, text, err)
		}
		out.code = p.Code
	}
	return out, err
}

// post sends a request that must be answered, whatever the answer is.
func (c caller) post(path string, body any, header ...string) reply {
	c.t.Helper()
	out, err := c.try(c.t.Context(), path, body, header...)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// must reads the answer of a request that must not be refused.
func must[A any](c caller, path string, body any) (answer A) {
	c.t.Helper()
	out := c.post(path, body)
	if out.status >= 300 {
		c.t.Fatalf("%s: %d %s", path, out.status, out.body)
	}
	if len(out.body) > 0 {
		if err := json.Unmarshal(out.body, &answer); err != nil {
			c.t.Fatal(err)
		}
	}
	return answer
}

func (c caller) session(ttl time.Duration) string {
	c.t.Helper()
	return must[api.Session](c, "/v1/sessions", api.OpenSession{TTLMs: uint64(ttl.Milliseconds())}).ID
}

func (c caller) keepalive(id string) reply {
	c.t.Helper()
	return c.post("/v1/sessions/keepalive", api.KeepaliveSessions{IDs: []string{id}})
}

func acquire(session, name string, wait time.Duration) api.AcquireLocks {
	return api.AcquireLocks{Session: session, Locks: []api.LockWanted{{Name: name}}, WaitMs: uint64(wait.Milliseconds())}
}

// ticket queues for a lock that is held, without parking.
func (c caller) ticket(session, name string, wait time.Duration) uint64 {
	c.t.Helper()
	ask, err := json.Marshal(acquire(session, name, wait))
	if err != nil {
		c.t.Fatal(err)
	}
	answer := must[api.BatchAnswer](c, "/v1/batch", api.Batch{Ops: []api.BatchOp{{Op: api.OpAcquire, Body: ask}}})
	var got api.Acquired
	if err := json.Unmarshal(answer.Results[0].Body, &got); err != nil || got.Ticket == 0 {
		c.t.Fatalf("no ticket in %s, %v", answer.Results[0].Body, err)
	}
	return got.Ticket
}

// park takes up a wait in the background.
func (c caller) park(ticket uint64) <-chan reply {
	answered := make(chan reply, 1)
	go func() {
		out, err := c.try(context.WithoutCancel(c.t.Context()), "/v1/locks/acquire", api.AcquireLocks{Ticket: ticket})
		if err != nil {
			c.t.Error(err)
		}
		answered <- out
	}()
	return answered
}

// eventually polls a condition.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		}
	}
}
