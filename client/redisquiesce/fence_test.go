package redisquiesce_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/quiescehq/quiesce/client/fence"
	"github.com/quiescehq/quiesce/client/redisquiesce"
	"github.com/quiescehq/quiesce/cluster_test/harness"
)

func TestFence_LowerTokenChangesNothing(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	key := s.prefix + "a"
	for name, write := range operations(s.fence, key) {
		for _, kind := range []string{"string", "hash", "none"} {
			s.do("DEL", key, s.guard(key))
			switch kind {
			case "string":
				s.do("SET", key, "before", "PX", 3_600_000)
			case "hash":
				s.do("HSET", key, "a", "before")
			}
			if err := s.fence.Advance(t.Context(), 8, key); err != nil {
				t.Fatal(err)
			}
			before := s.do("DUMP", key)
			err := write(t.Context(), 7)
			var refused *fence.FencedError
			if !errors.Is(err, fence.ErrFenced) || !errors.As(err, &refused) || refused.Token != 7 || refused.Seen != 8 {
				t.Errorf("%s: %v", name, err)
			}
			if s.do("DUMP", key) != before || s.do("GET", s.guard(key)) != "8" {
				t.Errorf("%s with a lower token changed a key of kind %s or its guard", name, kind)
			}
			if ttl := s.do("PTTL", key).(int64); kind == "string" && ttl <= 0 {
				t.Errorf("%s with a lower token took the expiry away", name)
			}
		}
	}
}

func TestFence_SameAndHigherTokensWrite(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	want := map[string]string{"Advance": "none", "Set": "string", "HSet": "hash", "Del": "none"}
	for name, write := range operations(s.fence, s.prefix+"a") {
		s.do("DEL", s.prefix+"a", s.guard(s.prefix+"a"))
		for _, token := range []uint64{7, 7, 7, 9, 9, 10, fence.TokenMax - 1, fence.TokenMax, fence.TokenMax} {
			if err := write(t.Context(), token); err != nil {
				t.Errorf("%s %d: %v", name, token, err)
			}
			if got := s.do("GET", s.guard(s.prefix+"a")); got != fmt.Sprint(token) {
				t.Errorf("%s %d: the guard holds %v", name, token, got)
			}
		}
		if err := write(t.Context(), fence.TokenMax-1); !errors.Is(err, fence.ErrFenced) {
			t.Errorf("%s: the largest tokens are not told apart: %v", name, err)
		}
		if got := s.do("TYPE", s.prefix+"a"); got != want[name] {
			t.Errorf("%s left a %v", name, got)
		}
	}
}

// Writers with different tokens write at once. A reader never sees a lower one after a higher one, and the highest stays.
func TestFence_HighestTokenStays(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	key := s.prefix + "a"
	const writers, writes = 10, 60
	var refused, descents atomic.Int64
	var writing, reading sync.WaitGroup
	over := make(chan struct{})
	reading.Go(func() {
		for last := 0; ; {
			n, err := s.client.Get(t.Context(), key).Int()
			if err != nil && !errors.Is(err, redis.Nil) {
				t.Error(err)
			}
			if n < last {
				descents.Add(1)
			}
			last = max(n, last)
			select {
			case <-over:
				return
			default:
			}
		}
	})
	for token := uint64(1); token <= writers; token++ {
		writing.Go(func() {
			for range writes {
				switch err := s.fence.Set(t.Context(), token, key, token, 0); {
				case errors.Is(err, fence.ErrFenced):
					refused.Add(1)
				case err != nil:
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	close(over)
	reading.Wait()
	if descents.Load() != 0 || s.do("GET", key) != fmt.Sprint(writers) {
		t.Errorf("%d descents were seen, the key holds %v", descents.Load(), s.do("GET", key))
	}
	if refused.Load() == 0 {
		t.Error("nobody was refused, so the test has shown nothing")
	}
}

func TestFence_GuardOutlivesItsKey(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	key := s.prefix + "a"
	if err := s.fence.Set(t.Context(), 5, key, "v", 20*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, startWithin, "the key to expire", func() error {
		if s.do("EXISTS", key) != int64(0) {
			return errors.New("it is there")
		}
		return nil
	})
	if err := s.fence.Set(t.Context(), 4, key, "late", 0); !errors.Is(err, fence.ErrFenced) {
		t.Errorf("after the expiry: %v", err)
	}
	if removed, err := s.fence.Del(t.Context(), 6, key); removed || err != nil {
		t.Errorf("the removal of nothing: %v %v", removed, err)
	}
	if err := s.fence.Set(t.Context(), 5, key, "late", 0); !errors.Is(err, fence.ErrFenced) {
		t.Errorf("after the removal: %v", err)
	}
	if ttl := s.do("PTTL", s.guard(key)); ttl != int64(-1) {
		t.Errorf("the guard ends in %v ms", ttl)
	}
}

func TestFence_GuardTTLCountsFromTheLastUse(t *testing.T) {
	t.Parallel()
	s := newStore(t, redisquiesce.GuardTTL(time.Hour))
	key := s.prefix + "a"
	for name, write := range operations(s.fence, key) {
		s.do("DEL", key, s.guard(key))
		s.do("SET", s.guard(key), "1", "PX", 60_000)
		if err := write(t.Context(), 2); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if ttl := s.do("PTTL", s.guard(key)).(int64); ttl < 3_500_000 || ttl > 3_600_000 {
			t.Errorf("%s: the guard ends in %d ms", name, ttl)
		}
	}
}

func TestFence_SetAndHSetMindTheKeysExpiry(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	key := s.prefix + "a"
	expiry := func(want bool) {
		t.Helper()
		if ttl := s.do("PTTL", key).(int64); ttl > 0 != want {
			t.Errorf("the key ends in %d ms", ttl)
		}
	}
	steps := []error{s.fence.Set(t.Context(), 1, key, []byte("v"), time.Minute)}
	expiry(true)
	steps = append(steps, s.fence.Set(t.Context(), 1, key, 1.5, 0))
	expiry(false)
	s.do("DEL", key)
	s.do("HSET", key, "a", "1", "kept", "1")
	s.do("PEXPIRE", key, 60_000)
	steps = append(steps, s.fence.HSet(t.Context(), 1, key, map[string]any{"a": "2", "b": 3}))
	expiry(true)
	if err := errors.Join(steps...); err != nil {
		t.Fatal(err)
	}
	if got := s.client.HGetAll(t.Context(), key).Val(); len(got) != 3 || got["a"] != "2" || got["b"] != "3" || got["kept"] != "1" {
		t.Errorf("the hash holds %v", got)
	}
}

func TestFence_WhatCannotBeIsRefusedBeforeTheServerIsAsked(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"}) // asking it would be another error
	t.Cleanup(func() { _ = client.Close() })
	f := redisquiesce.NewFence(client)
	many := map[string]any{}
	for i := range redisquiesce.HashFieldsMax + 1 {
		many[fmt.Sprint(i)] = i
	}
	for name, write := range operations(f, "a") {
		for _, token := range []uint64{0, fence.TokenMax + 1} {
			if err := write(t.Context(), token); !errors.Is(err, fence.ErrToken) {
				t.Errorf("%s %d: %v", name, token, err)
			}
		}
	}
	for _, key := range []string{"", "a{", "a}b", "{}", "{}{a}", strings.Repeat("x", redisquiesce.KeyBytesMax+1)} {
		for name, write := range operations(f, key) {
			if err := write(t.Context(), 1); !errors.Is(err, redisquiesce.ErrKey) {
				t.Errorf("%s %q: %v", name, key, err)
			}
		}
	}
	for what, err := range map[string]error{
		"no field":        f.HSet(t.Context(), 1, "a", nil),
		"too many fields": f.HSet(t.Context(), 1, "a", many),
		"KeepTTL":         f.Set(t.Context(), 1, "a", "v", redis.KeepTTL),
		"short ttl":       f.Set(t.Context(), 1, "a", "v", time.Microsecond),
	} {
		if !errors.Is(err, redisquiesce.ErrValue) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestFence_MostFieldsPass(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	fields := map[string]any{}
	for i := range redisquiesce.HashFieldsMax {
		fields[fmt.Sprint(i)] = i
	}
	if err := s.fence.HSet(t.Context(), 1, s.prefix+"a", fields); err != nil {
		t.Fatal(err)
	}
	if n := s.do("HLEN", s.prefix+"a"); n != int64(redisquiesce.HashFieldsMax) {
		t.Errorf("%v fields were written", n)
	}
}

func TestFence_ForeignGuardIsLeftAlone(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	key := s.prefix + "a"
	for _, plant := range [][]any{{"SET", "abc"}, {"SET", "0x10"}, {"SET", " 5"}, {"SET", ""}, {"SET", "-1"}, {"SET", "99999999999999999"}, {"RPUSH", "1"}} {
		for name, write := range operations(s.fence, key) {
			s.do("DEL", s.guard(key))
			s.do(plant[0], s.guard(key), plant[1])
			s.do("SET", key, "before")
			if err := write(t.Context(), 5); !errors.Is(err, redisquiesce.ErrGuard) {
				t.Errorf("%s over %v: %v", name, plant, err)
			}
			if s.do("GET", key) != "before" {
				t.Errorf("%s over %v wrote", name, plant)
			}
		}
	}
}

func TestFence_UnreachableServerIsTheDriversError(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: harness.FreeAddr(t), MaxRetries: -1, DialerRetries: 1})
	t.Cleanup(func() { _ = client.Close() })
	for name, write := range operations(redisquiesce.NewFence(client), "a") {
		var refused *net.OpError
		if err := write(t.Context(), 1); !errors.As(err, &refused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
