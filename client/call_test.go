package client

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client/quiescetest"
)

func TestCall_RetriesCarryTheSameKey(t *testing.T) {
	t.Parallel()
	coordinator, addr := quiescetest.Start(t)
	coordinator.PutMapping("orders")
	c := newClient(t, addr)
	coordinator.FailNext(2, api.CodeNotApplied)
	coordinator.FailNext(1, api.CodeOutcomeUnknown)
	coordinator.CutNext(2)
	if _, err := c.Enqueue(within(t, 10*time.Second), "orders", 1); err != nil {
		t.Fatal(err)
	}
	requests := coordinator.Requests("/v1/outbox/events")
	if len(requests) < 6 {
		t.Fatalf("%d requests, want 5 failed ones and one answered", len(requests))
	}
	for _, r := range requests {
		if r.Key != requests[0].Key || r.Key == "" || r.Acked != "1" {
			t.Errorf("key %q, acked %q: all attempts must carry key %q, acked 1", r.Key, r.Acked, requests[0].Key)
		}
	}
	if events := coordinator.Events(); len(events) != 1 {
		t.Errorf("the event was accepted %d times", len(events))
	}
}

func TestCall_NextRequestAcknowledgesTheLast(t *testing.T) {
	t.Parallel()
	coordinator, addr := quiescetest.Start(t)
	coordinator.PutMapping("orders")
	c := newClient(t, addr)
	for range 3 {
		if _, err := c.Enqueue(within(t, 10*time.Second), "orders", 1); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range []string{"1", "2", "3"} {
		if got := coordinator.Requests("/v1/outbox/events")[i].Acked; got != want {
			t.Errorf("request %d acknowledges %s, want %s", i, got, want)
		}
	}
}

func TestCall_RefusalIsFinalAndTyped(t *testing.T) {
	t.Parallel()
	coordinator, addr := quiescetest.Start(t)
	c := newClient(t, addr)
	_, err := c.Enqueue(within(t, 10*time.Second), "nowhere", 1)
	var refused *Error
	if !errors.Is(err, ErrMappingNotFound) || !errors.As(err, &refused) || refused.Status != http.StatusNotFound {
		t.Errorf("got %v", err)
	}
	if errors.Is(err, ErrLockHeld) {
		t.Error("one refusal is taken for another")
	}
	if n := len(coordinator.Requests("/v1/outbox/events")); n != 1 {
		t.Errorf("a refusal was asked for %d times", n)
	}
}

func TestCall_UnknownOutcomeIsNotCalledUnavailable(t *testing.T) {
	t.Parallel()
	coordinator, addr := quiescetest.Start(t)
	coordinator.PutMapping("orders")
	c, err := New(Config{Addrs: []string{addr}, RetryFor: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	for _, tc := range []struct {
		name    string
		prepare func()
		want    error
	}{
		{"503", func() { coordinator.FailNext(50, api.CodeNoLeader) }, ErrUnavailable},
		{"504", func() { coordinator.FailNext(50, api.CodeOutcomeUnknown) }, ErrOutcomeUnknown},
		{"cut", func() { coordinator.CutNext(50) }, ErrOutcomeUnknown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.prepare()
			_, err := c.do(within(t, 10*time.Second), post("/v1/outbox/events", api.EnqueueEvents{}, nil))
			if !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			coordinator.ClearFaults()
		})
	}
}

func TestCall_NobodyListensIsUnavailable(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	c, err := New(Config{Addrs: []string{server.URL}, RetryFor: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Enqueue(within(t, 10*time.Second), "orders", 1); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("got %v", err)
	}
}

func TestCall_AnotherNodeIsAskedWhenOneIsDown(t *testing.T) {
	t.Parallel()
	down := httptest.NewServer(http.NotFoundHandler())
	down.Close()
	coordinator, addr := quiescetest.Start(t)
	coordinator.PutMapping("orders")
	c := newClient(t, down.URL, addr)
	if _, err := c.Enqueue(within(t, 10*time.Second), "orders", 1); err != nil {
		t.Error(err)
	}
}

func TestCall_LeaderIsAskedOnceAnAnswerNamesIt(t *testing.T) {
	t.Parallel()
	leader, leaderAddr := quiescetest.Start(t)
	leader.PutMapping("orders")
	follower := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(api.HeaderLeader, leaderAddr)
		leader.ServeHTTP(w, r)
	}))
	t.Cleanup(follower.Close)
	c := newClient(t, follower.URL)
	if _, err := c.Enqueue(within(t, 10*time.Second), "orders", 1); err != nil {
		t.Fatal(err)
	}
	if got := c.nodes.pick(); got != leaderAddr {
		t.Errorf("the next call goes to %s, want the leader %s", got, leaderAddr)
	}
}

func TestNodes_LeaderThatDoesNotAnswerIsNotBelievedAtOnce(t *testing.T) {
	t.Parallel()
	n, err := newNodes([]string{"a:1", "b:1"})
	if err != nil {
		t.Fatal(err)
	}
	n.learn("http://leader:1")
	if got := n.pick(); got != "http://leader:1" {
		t.Fatalf("picked %s", got)
	}
	n.failed("http://leader:1")
	n.learn("http://leader:1")
	if got := n.pick(); got != "http://a:1" {
		t.Errorf("picked %s, want a configured node", got)
	}
	n.learn("https://leader:1")
	if got := n.pick(); got != "http://a:1" {
		t.Errorf("another scheme was followed to %s", got)
	}
}

func TestKeys_SpanOfOutstandingNumbersIsBounded(t *testing.T) {
	t.Parallel()
	k := newKeys()
	for want := uint64(1); want <= outstandingMax; want++ {
		if seq, err := k.take(t.Context()); err != nil || seq != want {
			t.Fatalf("took %d, %v; want %d", seq, err, want)
		}
	}
	for seq := uint64(2); seq <= outstandingMax; seq++ {
		k.settle(seq)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.take(ended); err == nil {
		t.Fatal("a number was given although the lowest is outstanding: the coordinator would refuse it")
	}
	k.settle(1)
	if seq, err := k.take(t.Context()); err != nil || seq != outstandingMax+1 || k.acknowledged() != seq {
		t.Errorf("took %d, %v with %d acknowledged", seq, err, k.acknowledged())
	}
}

func TestCall_GivesUpWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	coordinator, addr := quiescetest.Start(t)
	coordinator.Hang()
	c := newClient(t, addr)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := c.do(ctx, post("/v1/sessions", api.OpenSession{TTLMs: 1000}, nil))
	if !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
