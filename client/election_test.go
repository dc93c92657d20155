package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client/quiescetest"
)

func TestElection_OneLeadsAndOthersFollowInTurn(t *testing.T) {
	bubble(t, func(t *testing.T, _ *quiescetest.Coordinator, first, second *Session) {
		leading, err := first.Election("e").Campaign(t.Context(), "one")
		if err != nil {
			t.Fatal(err)
		}
		won := make(chan *Leadership, 1)
		go func() {
			l, err := second.Election("e").Campaign(t.Context(), "two")
			if err != nil {
				t.Error(err)
			}
			won <- l
		}()
		alone(t, time.Second)
		if err := leading.Proclaim(t.Context(), "one, again"); err != nil {
			t.Error(err)
		}
		l, err := second.Election("e").Leader(t.Context())
		if err != nil || l.Session != first.ID() || l.Value != "one, again" || l.Token != leading.Token() || l.Candidates != 1 {
			t.Errorf("%+v, %v", l, err)
		}
		if err := leading.ResignTo(t.Context(), second.ID()); err != nil {
			t.Fatal(err)
		}
		next := <-won
		if next.Token() <= leading.Token() || !errors.Is(leading.Err(), ErrUnlocked) {
			t.Errorf("token %d after %d; the old leader says %v", next.Token(), leading.Token(), leading.Err())
		}
		if err := next.Resign(t.Context()); err != nil {
			t.Error(err)
		}
		if l, err := first.Election("e").Leader(t.Context()); err != nil || l.Session != "" {
			t.Errorf("%+v, %v", l, err)
		}
	})
}

func TestObserve_TellsThePresentLeaderAndEachChange(t *testing.T) {
	t.Parallel()
	coordinator, addr := quiescetest.Start(t)
	c := newClient(t, addr)
	s, err := c.OpenSession(within(t, 10*time.Second), "test", 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx := within(t, 20*time.Second)
	var leading *Leadership
	steps := []struct {
		want string
		next func() error
	}{
		{"", func() (err error) {
			leading, err = s.Election("e").Campaign(ctx, "one")
			return err
		}},
		{"one", func() error { return leading.Proclaim(ctx, "two") }},
		{"two", func() error {
			coordinator.LoseLeader()
			coordinator.ElectLeader()
			return leading.Proclaim(ctx, "three")
		}},
		{"three", func() error { return leading.Resign(ctx) }},
		{"", nil},
	}
	at := 0
	for l, err := range c.Observe(ctx, "e") {
		if err != nil {
			t.Fatal(err)
		}
		if l.Value != steps[at].want || (l.Session == "") != (l.Value == "") {
			t.Fatalf("step %d tells %+v", at, l)
		}
		if steps[at].next == nil {
			break
		}
		if err := steps[at].next(); err != nil {
			t.Fatal(err)
		}
		at++
	}
	if at != len(steps)-1 {
		t.Errorf("ended after step %d", at)
	}
}

// leaderEvent is what a node writes.
func leaderEvent(id int, value string) string {
	return fmt.Sprintf(": alive\n\nevent: leader\nid: %d\ndata: {\"index\":%d,\"name\":\"e\",\"leader\":{\"session\":\"s\",\"token\":7,\"value\":%q}}\n\n", id, id, value)
}

func TestObserve_GoesOnAfterABreakWithoutRepeatingItself(t *testing.T) {
	t.Parallel()
	var connections atomic.Int64
	lastIDs := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		lastIDs <- r.Header.Get("Last-Event-ID")
		switch connections.Add(1) {
		case 1:
			_, _ = w.Write([]byte(leaderEvent(3, "one")))
		case 2:
			http.Error(w, "", http.StatusServiceUnavailable)
		case 3:
			_, _ = w.Write([]byte(leaderEvent(5, "one") + leaderEvent(6, "two")))
		}
	}))
	t.Cleanup(server.Close)
	c := newClient(t, server.URL)
	var told []string
	for l, err := range c.Observe(within(t, 20*time.Second), "e") {
		if err != nil {
			t.Fatal(err)
		}
		if told = append(told, fmt.Sprintf("%d %s", l.Index, l.Value)); len(told) == 2 {
			break
		}
	}
	if fmt.Sprint(told) != "[3 one 6 two]" {
		t.Errorf("told %v", told)
	}
	for i, want := range []string{"", "3", "3"} {
		if got := <-lastIDs; got != want {
			t.Errorf("connection %d went on from %q, want %q", i, got, want)
		}
	}
}

func TestObserve_EndsWithItsContextOrARefusal(t *testing.T) {
	t.Parallel()
	_, addr := quiescetest.Start(t)
	c := newClient(t, addr)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var ended error
	for _, err := range c.Observe(ctx, "e") {
		cancel()
		ended = err
	}
	if !errors.Is(ended, context.Canceled) {
		t.Errorf("got %v", ended)
	}
	var refused *Error
	for _, err := range c.Observe(within(t, 10*time.Second), "") {
		ended = err
	}
	if !errors.As(ended, &refused) || refused.Code != api.CodeInvalid {
		t.Errorf("got %v", ended)
	}
}

func TestObserve_StreamThatFellSilentIsLeft(t *testing.T) {
	bubble(t, func(t *testing.T, coordinator *quiescetest.Coordinator, s, _ *Session) {
		began := time.Now()
		var told []string
		coordinator.Hang() // no byte comes
		time.AfterFunc(silenceMax+time.Second, coordinator.Resume)
		for l, err := range s.Election("e").Observe(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			told = append(told, l.Session)
			break
		}
		if took := time.Since(began); took < silenceMax || took > silenceMax+10*time.Second || len(told) != 1 {
			t.Errorf("told %v after %v", told, took)
		}
	})
}
