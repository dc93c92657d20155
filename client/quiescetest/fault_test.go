package quiescetest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client/quiescetest"
)

const (
	pathSessions = "/v1/sessions"
	pathEvents   = "/v1/outbox/events"
)

// Each fault meets one request that would enqueue an event; what counts is what the caller is told and whether the event is there.
func TestFaults_ChangeWhatIsToldAndOnlySomeWhatIsDone(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fault  func(*quiescetest.Coordinator)
		code   api.Code
		cut    bool
		events int
	}{
		"none":  {fault: func(*quiescetest.Coordinator) {}, events: 1},
		"fail":  {fault: func(c *quiescetest.Coordinator) { c.FailNext(1, api.CodeNotApplied) }, code: api.CodeNotApplied},
		"drop":  {fault: func(c *quiescetest.Coordinator) { c.DropNext(1) }, cut: true},
		"cut":   {fault: func(c *quiescetest.Coordinator) { c.CutNext(1) }, cut: true, events: 1},
		"hide":  {fault: func(c *quiescetest.Coordinator) { c.HideNext(1, api.CodeOutcomeUnknown) }, code: api.CodeOutcomeUnknown, events: 1},
		"delay": {fault: func(c *quiescetest.Coordinator) { c.DelayNext(1, 20*time.Millisecond) }, events: 1},
		"elsewhere": {fault: func(c *quiescetest.Coordinator) { c.FailNext(1, api.CodeNotApplied, pathSessions) },
			events: 1},
		"cleared": {fault: func(c *quiescetest.Coordinator) { c.FailNext(9, api.CodeNotApplied); c.ClearFaults() }, events: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, addr := quiescetest.Start(t)
			if err := c.PutMapping("orders"); err != nil {
				t.Fatal(err)
			}
			tc.fault(c)
			body := map[string]any{"events": []any{map[string]any{"mapping": "orders", "pk": []any{7}}}}
			for transport, ask := range map[string]caller{"direct": direct(t, c), "tcp": overTCP(t, addr)} {
				got, err := ask.try(t.Context(), pathEvents, body, api.HeaderIdempotencyKey, "once/1")
				if transport == "tcp" && !errors.Is(err, nil) && !tc.cut {
					t.Errorf("%s: %v", transport, err)
				}
				if (err != nil) != tc.cut || got.code != tc.code {
					t.Errorf("%s: %+v, %v", transport, got, err)
				}
				if events := c.Events(); len(events) != tc.events {
					t.Errorf("%s: the events are %v", transport, events)
				}
				tc.fault(c)
			}
			if n := len(c.Requests(pathEvents)); n != 2 {
				t.Errorf("%d requests are on record", n)
			}
		})
	}
}

func TestFaults_AreSpentOneByOneInTheOrderOfArrival(t *testing.T) {
	t.Parallel()
	c := quiescetest.New()
	ask := direct(t, c)
	c.FailNext(2, api.CodeNoLeader)
	c.FailNext(1, api.CodeDraining)
	for i, want := range []api.Code{api.CodeNoLeader, api.CodeNoLeader, api.CodeDraining, ""} {
		if got := ask.post(pathSessions, api.OpenSession{TTLMs: 1_000}); got.code != want {
			t.Errorf("request %d got %q, want %q", i, got.code, want)
		}
	}
}

func TestHang_AnswersNothingUntilResume(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := quiescetest.New()
		ask := direct(t, c)
		c.Hang()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := ask.try(ctx, pathSessions, api.OpenSession{TTLMs: 1_000}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		time.AfterFunc(time.Hour, c.Resume)
		if got := ask.post(pathSessions, api.OpenSession{TTLMs: 1_000}); got.status != http.StatusOK {
			t.Errorf("after the resume: %d %s", got.status, got.body)
		}
	})
}

func TestClose_EndsWhatWaits(t *testing.T) {
	t.Parallel()
	c := quiescetest.New()
	ask := overTCP(t, c.Listen())
	holder, waiter := ask.session(time.Minute), ask.session(time.Minute)
	ask.post("/v1/locks/acquire", acquire(holder, "a", 0))
	parked := ask.park(ask.ticket(waiter, "a", time.Minute))
	eventually(t, "the wait is parked", func() bool { return len(c.Requests("/v1/locks/acquire")) == 2 })
	began := time.Now()
	c.Close()
	if r := <-parked; r.status != http.StatusAccepted {
		t.Errorf("the parked request was told %d %s", r.status, r.body)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestHTTPClient_AnswerCanBeAStream(t *testing.T) {
	t.Parallel()
	c := quiescetest.New()
	ask := direct(t, c)
	leader := ask.session(time.Minute)
	ask.post("/v1/elections/campaign", api.Campaign{Session: leader, Name: "boss", Value: "here"})
	response, err := c.HTTPClient().Get(quiescetest.Addr + "/v1/elections/observe?name=boss")
	if err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 512)
	n, err := response.Body.Read(first)
	if err != nil || !strings.Contains(string(first[:n]), "event: leader") {
		t.Errorf("the stream began with %q, %v", first[:n], err)
	}
	if err := response.Body.Close(); err != nil { // the leak check of TestMain finds the handler if it goes on
		t.Error(err)
	}
	if _, err := io.ReadAll(response.Body); errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the end of a stream that was closed is %v", err)
	}
}

func TestRequests_AreBoundedAndKeepTheNewest(t *testing.T) {
	t.Parallel()
	c := quiescetest.New()
	ask := direct(t, c)
	c.FailNext(40, api.CodeNotApplied)
	big := strings.Repeat("x", 1_000_000)
	for i := range 40 {
		ask.post(pathSessions, map[string]any{"name": big, "ttl_ms": i})
	}
	kept := c.Requests("")
	if len(kept) < 15 || len(kept) > 17 || !strings.Contains(string(kept[len(kept)-1].Body), `"ttl_ms":39`) {
		t.Errorf("%d requests of 1 MB are kept", len(kept))
	}
}

// A body that is too large must be refused as the edge refuses it, though the record has read it first.
func TestRequests_RecordLeavesTheBodyToTheEdge(t *testing.T) {
	t.Parallel()
	c := quiescetest.New()
	got := direct(t, c).post(pathSessions, map[string]any{"name": strings.Repeat("x", 2*api.BodyBytesMax)})
	if got.code != api.CodeBodyTooLarge {
		t.Errorf("%d %s", got.status, got.body)
	}
}
