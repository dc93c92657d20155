package redisquiesce_test

import (
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/quiescehq/quiesce/client/redisquiesce"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/rediscache"
)

// The guards are the coordinator's: what it and a Cache do to one key is seen by both.

func (s store) target() *rediscache.Target {
	s.Helper()
	target, err := rediscache.Open(rediscache.Config{Name: "cache", Addr: s.client.(*redis.Client).Options().Addr})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = target.Close() })
	return target
}

func (s store) begin(target *rediscache.Target, key string) *rediscache.Batch {
	s.Helper()
	batch, err := target.Begin(s.Context(), []string{key})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(batch.Close)
	return batch
}

func (s store) apply(batch *rediscache.Batch, token uint64, write mapping.Write) rediscache.Outcome {
	s.Helper()
	write.Guard = mapping.GuardKey("qg:", write.Key)
	outcomes, err := batch.Apply(s.Context(), []rediscache.Guarded{{Token: token, Write: write}})
	if err != nil {
		s.Fatal(err)
	}
	return outcomes[0]
}

func TestFetch_ADeliveryEndsTheLeaseOfWhoReadBefore(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	target := s.target()
	for name, op := range map[string]mapping.Op{"removal": mapping.OpDel, "write if present": mapping.OpSetIfPresent, "write": mapping.OpSet} {
		key := s.prefix + name
		row, reader := newTruth("old"), s.process()
		read, goOn := make(chan struct{}), make(chan struct{})
		late := begin(t.Context(), reader, key, row.slowly(read, goOn))
		s.wait("the reader reads the old row", read)
		row.value.Store("new")
		if got := s.apply(s.begin(target, key), 7, mapping.Write{Key: key, Op: op, Value: []byte("new")}); got != rediscache.OutcomeApplied {
			t.Fatalf("%s: %v", name, got)
		}
		close(goOn)
		s.await(late)
		if s.do("GET", key) == "old" || reader.Stats().Refused != 1 {
			t.Errorf("%s: the cache holds %v, %+v", name, s.do("GET", key), reader.Stats())
		}
		value, err := reader.FetchAfter(t.Context(), 7, key, time.Minute, row.load)
		if err != nil || string(value) != "new" {
			t.Errorf("%s: %q, %v", name, value, err)
		}
	}
}

func TestCache_AnInvalidateRefusesADeliveryThatBeganBefore(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	key := s.prefix + "order"
	target, c := s.target(), s.process()
	before := s.begin(target, key)
	if err := c.Invalidate(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	write := mapping.Write{Key: key, Op: mapping.OpSet, Value: []byte("read before")}
	if got := s.apply(before, 7, write); got != rediscache.OutcomeBeganBeforeInvalidate {
		t.Errorf("a delivery that had begun: %v", got)
	}
	write.Value = []byte("read after")
	for got := rediscache.OutcomeBeganBeforeInvalidate; got != rediscache.OutcomeApplied; { // once the clock has moved on
		if got = s.apply(s.begin(target, key), 7, write); got != rediscache.OutcomeApplied && got != rediscache.OutcomeBeganBeforeInvalidate {
			t.Fatalf("a delivery that begins now: %v", got)
		}
	}
	if s.do("GET", key) != "read after" {
		t.Errorf("it holds %v", s.do("GET", key))
	}
}

func TestCache_GuardsAreThoseOfTheCoordinator(t *testing.T) {
	t.Parallel()
	for _, prefix := range []string{"qg:", "shop:"} {
		taken := 0
		for _, key := range keys {
			guard, err := redisquiesce.CacheGuard(prefix, key)
			if errors.Is(err, redisquiesce.ErrKey) {
				continue
			}
			taken++
			if want := mapping.GuardKey(prefix, key); err != nil || guard != want {
				t.Errorf("%q: the guard is %q, the coordinator's %q, %v", key, guard, want, err)
			}
		}
		if taken < 10 {
			t.Errorf("only %d keys were looked at", taken)
		}
	}
}
