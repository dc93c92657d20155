package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/client/breaker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	_ client.Breaker = (*breaker.Breaker)(nil)

	errBroken = errors.New("on purpose")
)

// tell lets n requests through that end with err.
func tell(t *testing.T, b *breaker.Breaker, n int, err error) {
	t.Helper()
	for range n {
		done, refused := b.Allow()
		if refused != nil {
			t.Fatalf("refused: %v", refused)
		}
		done(err)
	}
}

func expect(t *testing.T, b *breaker.Breaker, state string) {
	t.Helper()
	if got := b.State(); got != state {
		t.Fatalf("%s, not %s", got, state)
	}
}

func TestBreaker_OpensAtHalfOfAtLeastTwenty(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		good, bad int
		want      string
	}{
		{0, 19, "closed"}, {0, 20, "open"}, {10, 9, "closed"}, {10, 10, "open"}, {100, 99, "closed"}, {100, 100, "open"},
	} {
		t.Run(fmt.Sprintf("%d of %d", tc.bad, tc.good+tc.bad), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := breaker.New("x")
				tell(t, b, tc.good, nil)
				tell(t, b, tc.bad, errBroken)
				expect(t, b, tc.want)
			})
		})
	}
}

func TestBreaker_ForgetsWhatIsOlderThanTheWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New("x")
		tell(t, b, 19, errBroken)
		after(t, breaker.WindowDefault+time.Second)
		tell(t, b, 1, errBroken)
		expect(t, b, "closed")
		after(t, breaker.WindowDefault/2)
		tell(t, b, 19, errBroken)
		expect(t, b, "open")
	})
}

// after lets the bubble's clock go on.
func after(t *testing.T, d time.Duration) {
	t.Helper()
	<-time.After(d)
}

func TestBreaker_ProbesAfterAWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New("x")
		tell(t, b, 20, errBroken)
		for range 2 {
			if _, err := b.Allow(); err == nil {
				t.Fatal("an open circuit lets through")
			}
			after(t, breaker.OpenDefault+time.Millisecond)
			expect(t, b, "half-open")
			var probes []func(error)
			for range breaker.ProbesDefault {
				done, err := b.Allow()
				if err != nil {
					t.Fatal(err)
				}
				probes = append(probes, done)
			}
			if _, err := b.Allow(); err == nil {
				t.Fatal("one probe too many")
			}
			for _, done := range probes[1:] {
				done(nil)
			}
			expect(t, b, "half-open")
			probes[0](errBroken)
			expect(t, b, "open")
		}
		after(t, breaker.OpenDefault+time.Millisecond)
		tell(t, b, breaker.ProbesDefault, nil)
		expect(t, b, "closed")
	})
}

func TestBreaker_WhatSaysNothingIsNotCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New("x")
		tell(t, b, 1_000, client.ErrNotCounted)
		tell(t, b, 20, errBroken)
		expect(t, b, "open")
		after(t, breaker.OpenDefault+time.Millisecond)
		tell(t, b, 1_000, client.ErrNotCounted) // a probe that says nothing makes room for another
		expect(t, b, "half-open")
		tell(t, b, breaker.ProbesDefault, nil)
		expect(t, b, "closed")
	})
}

func TestBreaker_OptionsHold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		b := breaker.New("pay", breaker.Percent(10), breaker.Requests(5), breaker.Window(time.Minute), breaker.Open(time.Hour),
			breaker.Probes(1), breaker.Logger(slog.New(slog.NewTextHandler(&log, nil))), breaker.Percent(0), breaker.Requests(-1))
		tell(t, b, 9, nil)
		tell(t, b, 1, errBroken)
		expect(t, b, "open")
		after(t, 59*time.Minute)
		expect(t, b, "open")
		after(t, 2*time.Minute)
		tell(t, b, 1, nil)
		expect(t, b, "closed")
		if n := strings.Count(log.String(), "name=pay"); n != 3 {
			t.Errorf("%d lines: %s", n, log.String())
		}
	})
}

func TestBreaker_OpensOnceUnderManyAtOnceAndGuardsAClass(t *testing.T) {
	t.Parallel()
	app, err := client.Join("orders", client.Addrs("127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	b := breaker.New("x", breaker.Open(time.Hour))
	class := app.Class(client.ClassExternal, 0, client.WithBreaker(b), client.Concurrent(1_000))
	var asked, refused sync.Map
	var all sync.WaitGroup
	for i := range 1_000 {
		all.Go(func() {
			err := class.Do(t.Context(), func(context.Context) error { asked.Store(i, true); return errBroken })
			if errors.Is(err, client.ErrCircuitOpen) {
				refused.Store(i, true)
			} else if !errors.Is(err, errBroken) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	expect(t, b, "open")
	for i := range 1_000 {
		_, was := asked.Load(i)
		_, no := refused.Load(i)
		if was == no {
			t.Errorf("call %d: asked %t, refused %t", i, was, no)
		}
	}
	if err := class.Do(t.Context(), func(context.Context) error { t.Error("asked"); return nil }); !errors.Is(err, client.ErrCircuitOpen) {
		t.Error(err)
	}
}
