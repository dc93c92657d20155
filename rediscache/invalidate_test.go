package rediscache

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

func invalidate(t testing.TB, target *Target, keys ...string) {
	t.Helper()
	batch := begin(t, target)
	defer batch.Close()
	var pairs []KeyPair
	for _, key := range keys {
		pairs = append(pairs, pair(key)...)
	}
	if err := batch.Invalidate(t.Context(), pairs); err != nil {
		t.Fatal(err)
	}
}

func TestInvalidate_RefusesWriteThatBeganBefore(t *testing.T) {
	t.Parallel()
	target := openTarget(t, shared, nil)
	key := keyOf(t, "k")
	early := begin(t, target)
	invalidate(t, target, key)
	expectOutcome(t, apply(t, early, set(key, 9, "stale")), OutcomeBeganBeforeInvalidate)
	if shared.exists(t, key) {
		t.Fatal("a row that was read before the change reached the cache")
	}
	expectOutcome(t, apply(t, afterFence(t, target), set(key, 9, "fresh")), OutcomeApplied)
	expectOutcome(t, apply(t, early, set(key, 10, "stale")), OutcomeBeganBeforeInvalidate)
}

func TestInvalidate_RemovesAnyTypeClearsLeaseAndKeepsToken(t *testing.T) {
	t.Parallel()
	target := openTarget(t, shared, nil)
	key, list := keyOf(t, "k"), keyOf(t, "list")
	expectOutcome(t, apply(t, begin(t, target), set(key, 5, "v")), OutcomeApplied)
	shared.do(t, "HSET", guardOf(key), "l", "reader", "x", "1")
	shared.do(t, "RPUSH", list, "1")
	invalidate(t, target, key, list)
	if shared.exists(t, key) || shared.exists(t, list) {
		t.Fatal("a key is left")
	}
	guard := shared.fields(t, guardOf(key))
	if guard["t"] != "5" || guard["l"] != "" || guard["x"] != "" || guard["b"] == "" {
		t.Fatalf("guard is %v", guard)
	}
	if ttl := shared.do(t, "PTTL", guardOf(key)).(int64); ttl <= 0 || ttl > defaultGuardTTL.Milliseconds() {
		t.Fatalf("guard's TTL is %d", ttl)
	}
	expectOutcome(t, apply(t, afterFence(t, target), set(key, 4, "old")), OutcomeSuperseded)
}

func TestInvalidate_FenceNeverMovesBack(t *testing.T) {
	t.Parallel()
	target := openTarget(t, shared, nil)
	key := keyOf(t, "k")
	future := strconv.FormatInt(time.Now().Add(time.Hour).UnixMilli(), 10)
	shared.do(t, "HSET", guardOf(key), "b", future)
	invalidate(t, target, key)
	if fence := shared.fields(t, guardOf(key))["b"]; fence != future {
		t.Fatalf("fence moved from %s to %s", future, fence)
	}
}

func TestInvalidate_ForeignGuardIsLeftAloneAndStillRefuses(t *testing.T) {
	t.Parallel()
	target := openTarget(t, shared, nil)
	key := keyOf(t, "k")
	shared.do(t, "SET", key, "v")
	shared.do(t, "SET", guardOf(key), "foreign")
	invalidate(t, target, key)
	if shared.exists(t, key) || shared.get(t, guardOf(key)) != "foreign" {
		t.Fatal("the data key must go and the foreign guard stay")
	}
	expectOutcome(t, apply(t, begin(t, target), set(key, 1, "v")), OutcomeWrongType)
}

func TestInvalidate_ManyKeysAtOnce(t *testing.T) {
	t.Parallel()
	target := openTarget(t, shared, nil)
	var keys []string
	var writes []Guarded
	for i := range batchKeysMax {
		keys = append(keys, keyOf(t, strconv.Itoa(i)))
		writes = append(writes, set(keys[i], 1, "v"))
	}
	apply(t, begin(t, target), writes...)
	invalidate(t, target, keys...)
	for _, key := range keys {
		if shared.exists(t, key) {
			t.Fatalf("%s is left", key)
		}
	}
}

// The protocol as a whole, with a map for the database: each worker draws a token after its change is visible, begins, reads, applies.
// Whatever the interleaving with other workers and with invalidates, a key holds the last change or nothing.
func TestApply_ConcurrentWorkersNeverLeaveAStaleValue(t *testing.T) {
	t.Parallel()
	target := openTarget(t, shared, nil)
	const keys, workers, rounds = 4, 6, 120
	var mu sync.Mutex
	var rows [keys]uint64
	var token uint64

	var group errgroup.Group
	for worker := range workers {
		group.Go(func() error {
			random := rand.New(rand.NewPCG(uint64(worker), 1))
			for range rounds {
				row := random.IntN(keys)
				mu.Lock()
				rows[row]++
				token++
				mine := token
				mu.Unlock()
				if err := deliver(t.Context(), target, keyOf(t, strconv.Itoa(row)), mine, random.IntN(5) == 0, func() string {
					mu.Lock()
					defer mu.Unlock()
					return strconv.FormatUint(rows[row], 10)
				}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for row := range rows {
		key := keyOf(t, strconv.Itoa(row))
		if !shared.exists(t, key) {
			continue // an invalidate was the last to come
		}
		if got, want := shared.get(t, key), strconv.FormatUint(rows[row], 10); got != want {
			t.Errorf("row %d: cache %s, database %s", row, got, want)
		}
	}
}

// deliver repeats until the event is settled, as the outbox does. With alsoInvalidate it removes the key between its read and its apply,
// which refuses every write under way, its own included.
func deliver(ctx context.Context, target *Target, key string, token uint64, alsoInvalidate bool, read func() string) error {
	for {
		batch, err := target.Begin(ctx, []string{key})
		if err != nil {
			return err
		}
		value := read()
		if alsoInvalidate {
			alsoInvalidate = false
			err = batch.Invalidate(ctx, pair(key))
		}
		var outcomes []Outcome
		if err == nil {
			outcomes, err = batch.Apply(ctx, []Guarded{set(key, token, value)})
		}
		batch.Close()
		if err != nil || outcomes[0].Settled() {
			return err
		}
	}
}
