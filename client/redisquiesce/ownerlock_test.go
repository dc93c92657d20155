package redisquiesce_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/client/redisquiesce"
)

// A Cache is what a client.Sync invalidates by.
var _ client.Invalidator = (*redisquiesce.Cache)(nil)

const ownerTTL = 10 * time.Second

func (s store) own(key string, ttl time.Duration) *redisquiesce.OwnerLock {
	s.Helper()
	l, err := redisquiesce.TryOwnerLock(s.Context(), s.client, key, ttl)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = l.Release(context.Background()) })
	return l
}

func TestOwnerLock_ExcludesSetNXAndIsExcludedByIt(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	key := s.prefix + "lock"
	l := s.own(key, ownerTTL)
	if s.do("SET", key, "somebody", "NX", "PX", 1_000) != nil {
		t.Error("SET NX took what is held")
	}
	if _, err := redisquiesce.TryOwnerLock(t.Context(), s.client, key, ownerTTL); !errors.Is(err, redisquiesce.ErrLocked) {
		t.Errorf("a second holder: %v", err)
	}
	if err := l.Release(t.Context()); err != nil || s.do("EXISTS", key) != int64(0) {
		t.Errorf("release: %v", err)
	}
	s.do("SET", key, "somebody", "NX", "PX", 60_000)
	if _, err := redisquiesce.TryOwnerLock(t.Context(), s.client, key, ownerTTL); !errors.Is(err, redisquiesce.ErrLocked) {
		t.Errorf("what somebody else took by SET NX: %v", err)
	}
	s.do("DEL", key)
	s.do("HSET", key, "a", 1)
	if _, err := redisquiesce.TryOwnerLock(t.Context(), s.client, key, ownerTTL); !errors.Is(err, redisquiesce.ErrLocked) {
		t.Errorf("a key of another type: %v", err)
	}
}

// The story that ends badly with a plain DEL: the holder's lock ran out, another has it, and the first releases.
func TestOwnerLock_NobodyEndsAnothersLock(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for name, end := range map[string]func(l *redisquiesce.OwnerLock) error{
		"release": func(l *redisquiesce.OwnerLock) error { return l.Release(t.Context()) },
		"renewal": func(l *redisquiesce.OwnerLock) error {
			select {
			case <-l.Done():
				return l.Err()
			case <-time.After(patience):
				return nil
			}
		},
	} {
		key := s.prefix + name
		l := s.own(key, time.Second)
		s.do("SET", key, "another", "PX", 60_000)
		if err := end(l); !errors.Is(err, redisquiesce.ErrNotOwner) {
			t.Errorf("%s: %v", name, err)
		}
		if ttl := s.do("PTTL", key).(int64); s.do("GET", key) != "another" || ttl < 30_000 {
			t.Errorf("%s: the key holds %v for %d ms", name, s.do("GET", key), ttl)
		}
	}
}

// The negative control: what SET NX and DEL do.
func TestOwnerLock_APlainDelEndsAnothersLock(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	key := s.prefix + "lock"
	s.do("SET", key, "first", "NX", "PX", 60_000)
	s.do("DEL", key) // it ran out
	s.do("SET", key, "second", "NX", "PX", 60_000)
	s.do("DEL", key) // of the first, which does not know
	if s.do("SET", key, "third", "NX") != "OK" {
		t.Error("DEL has learnt to compare; what is OwnerLock for?")
	}
}

func TestOwnerLock_IsRenewedWhileItIsHeld(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	key := s.prefix + "lock"
	l := s.own(key, 6*time.Second)
	for range 2 {
		s.do("PEXPIRE", key, 5_000)
		for deadline := time.Now().Add(patience); s.do("PTTL", key).(int64) <= 5_000; {
			if time.Now().After(deadline) {
				t.Fatal("it is not renewed")
			}
		}
	}
	if l.Err() != nil {
		t.Error(l.Err())
	}
}

func TestOwnerLock_IsLostBeforeRedisGivesItToAnother(t *testing.T) {
	t.Parallel()
	addr := ownServer(t)
	s := connect(t, addr)
	const ttl = time.Second
	client := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, DialTimeout: 100 * time.Millisecond})
	t.Cleanup(func() { _ = client.Close() })
	began := time.Now()
	l, err := redisquiesce.TryOwnerLock(t.Context(), client, "lock", ttl)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.client.(*redis.Client).ShutdownNoSave(t.Context())
	working := l.Context(t.Context())
	select {
	case <-working.Done():
	case <-time.After(patience):
		t.Fatal("the loss is not seen")
	}
	if took := time.Since(began); !errors.Is(l.Err(), redisquiesce.ErrNotOwner) || context.Cause(working) != l.Err() || took < ttl/2 {
		t.Errorf("lost after %s: %v", took, l.Err())
	}
	if err := l.Release(t.Context()); err == nil {
		t.Error("a release without Redis succeeded")
	}
}

func TestOwnerLock_OneHolderAtATime(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	key := s.prefix + "lock"
	var holders, most atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 5 {
				l, err := redisquiesce.TakeOwnerLock(t.Context(), s.client, key, ownerTTL)
				if err != nil {
					t.Error(err)
					return
				}
				if n := holders.Add(1); n > most.Load() {
					most.Store(n)
				}
				holders.Add(-1)
				if err := l.Release(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if most.Load() != 1 {
		t.Errorf("%d holders at once", most.Load())
	}
	held := s.own(key, ownerTTL)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := redisquiesce.TakeOwnerLock(ctx, s.client, key, ownerTTL); !errors.Is(err, context.DeadlineExceeded) || held.Err() != nil {
		t.Errorf("a wait that ends: %v", err)
	}
}

// go-redis asks again when an answer was lost: the second attempt finds the lock that the first has taken.
func TestOwnerLock_AnAnswerThatWasLostDoesNotLockItsOwnerOut(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	hook := &losesAnswers{}
	client := redis.NewClient(s.client.(*redis.Client).Options())
	t.Cleanup(func() { _ = client.Close() })
	client.AddHook(hook)
	l, err := redisquiesce.TryOwnerLock(t.Context(), client, s.prefix+"lock", ownerTTL)
	if err != nil || hook.sent < 2 {
		t.Fatalf("%v, after %d sends", err, hook.sent)
	}
	hook.over = true
	if err := l.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

// losesAnswers sends every script twice and shows the second answer.
type losesAnswers struct {
	sent int
	over bool
}

func (h *losesAnswers) DialHook(next redis.DialHook) redis.DialHook { return next }
func (h *losesAnswers) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if name := cmd.Name(); !h.over && (name == "evalsha" || name == "eval") {
			h.sent++
			if err := next(ctx, cmd); err != nil {
				return err
			}
		}
		h.sent++
		return next(ctx, cmd)
	}
}
func (h *losesAnswers) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func TestOwnerLock_RefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	if _, err := redisquiesce.TryOwnerLock(t.Context(), s.client, "", ownerTTL); !errors.Is(err, redisquiesce.ErrKey) {
		t.Errorf("no key: %v", err)
	}
	if _, err := redisquiesce.TryOwnerLock(t.Context(), s.client, s.prefix, time.Millisecond); !errors.Is(err, redisquiesce.ErrValue) {
		t.Errorf("a short ttl: %v", err)
	}
}
