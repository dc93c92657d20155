package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client/quiescetest"
)

func TestLock_CallerThatTurnsAwayLeavesTheQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		coordinator := quiescetest.New()
		first, endFirst := openSession(t, coordinator)
		defer endFirst()
		second, endSecond := openSession(t, coordinator)
		defer endSecond()
		if _, err := first.Lock(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			_, err := second.Lock(ctx, "a")
			ended <- err
		}()
		alone(t, time.Second)
		if coordinator.Waiting("a") != 1 {
			t.Fatal("nobody waits, so the test shows nothing")
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		alone(t, time.Second)
		if coordinator.Waiting("a") != 0 {
			t.Error("the ticket stands in the queue: the lock will be granted to nobody")
		}
	})
}

func TestLock_GrantThatNobodyTakesIsGivenBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		coordinator := quiescetest.New()
		first, end := openSession(t, coordinator)
		defer end()
		held, err := first.Lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		second, endSecond := openSessionOver(t, turningAway(coordinator, "/v1/locks/acquire", cancel))
		defer endSecond()
		ended := make(chan error, 1)
		go func() {
			_, err := second.Lock(ctx, "a")
			ended <- err
		}()
		alone(t, time.Second)
		if err := held.Unlock(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		alone(t, time.Second)
		if holder, _ := coordinator.Holder("a"); holder != "" {
			t.Error("the lock is held by a caller that does not know it")
		}
	})
}

func TestLock_TicketThatNobodyHeardOfIsWithdrawn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		coordinator := quiescetest.New()
		first, end := openSession(t, coordinator)
		defer end()
		if _, err := first.Lock(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		second, endSecond := openSessionOver(t, turningAway(coordinator, api.OpAcquire, cancel))
		defer endSecond()
		if _, err := second.Lock(ctx, "a"); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		alone(t, time.Second)
		if len(opsOf(t, coordinator, api.OpAcquire)) != 3 || coordinator.Waiting("a") != 0 {
			t.Errorf("%d wait: the lock will be granted to nobody", coordinator.Waiting("a"))
		}
	})
}

// turningAway loses the first good answer to a request with something in its path or body, and cancels the caller in the same moment.
func turningAway(coordinator *quiescetest.Coordinator, something string, cancel func()) *http.Client {
	inner := coordinator.HTTPClient().Transport
	var lost atomic.Bool
	return &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		response, err := inner.RoundTrip(r)
		if err != nil || response.StatusCode != http.StatusOK || !contains(r, something) || !lost.CompareAndSwap(false, true) {
			return response, err
		}
		cancel()
		return nil, errors.Join(context.Canceled, response.Body.Close())
	})}
}

func contains(r *http.Request, something string) bool {
	body, err := r.GetBody()
	if err != nil {
		return false
	}
	text, err := io.ReadAll(body)
	return err == nil && (strings.Contains(r.URL.Path, something) || strings.Contains(string(text), something))
}

type roundTripper func(*http.Request) (*http.Response, error)

func (r roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return r(req) }

// The grant comes in the moment in which its caller turns away. What the two do must not meet: a write of the one lost the other's grants.
func TestLock_GrantThatMeetsItsCallerTurningAwayIsGivenBack(t *testing.T) {
	t.Parallel()
	coordinator, addr := quiescetest.Start(t)
	c, err := New(Config{Addrs: []string{addr}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := c.OpenSession(t.Context(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	turned := 0
	for i := range 300 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%60)*20*time.Microsecond)
		lock, err := s.Lock(ctx, "a")
		cancel()
		if err != nil {
			turned++
			continue
		}
		if err := lock.Unlock(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if turned == 0 {
		t.Fatal("nobody turned away, so the test shows nothing")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	last, err := s.Lock(ctx, "a") // stands behind whatever was not given back
	if err != nil {
		holder, _ := coordinator.Holder("a")
		t.Fatalf("after %d that turned away: %v; holder %q", turned, err, holder)
	}
	if err := last.Unlock(ctx); err != nil {
		t.Fatal(err)
	}
}
