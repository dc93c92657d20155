package redisquiesce_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/quiescehq/quiesce/client/redisquiesce"
	"github.com/quiescehq/quiesce/cluster_test/harness"
)

const patience = 20 * time.Second

func newCache(t *testing.T, client redis.UniversalClient, options ...redisquiesce.CacheOption) *redisquiesce.Cache {
	t.Helper()
	cache, err := redisquiesce.NewCache(client, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cache.Close)
	return cache
}

// process is a cache with a client of its own, as another process would have.
func (s store) process(options ...redisquiesce.CacheOption) *redisquiesce.Cache {
	s.Helper()
	client := redis.NewClient(s.client.(*redis.Client).Options())
	s.Cleanup(func() { _ = client.Close() })
	return newCache(s.T, client, options...)
}

// truth is a row that loads read.
type truth struct {
	value atomic.Value
	loads atomic.Int64
}

func newTruth(value string) *truth {
	row := &truth{}
	row.value.Store(value)
	return row
}

func (row *truth) load(context.Context) ([]byte, error) {
	row.loads.Add(1)
	return []byte(row.value.Load().(string)), nil
}

// slowly reads the row, says so, and is then held up until it is let go.
func (row *truth) slowly(read chan<- struct{}, goOn <-chan struct{}) redisquiesce.Load {
	return func(ctx context.Context) ([]byte, error) {
		value, err := row.load(ctx)
		close(read)
		select {
		case <-goOn:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return value, err
	}
}

func (s store) fetch(c *redisquiesce.Cache, key string, load redisquiesce.Load) string {
	s.Helper()
	value, err := c.Fetch(s.Context(), key, time.Minute, load)
	if err != nil {
		s.Fatalf("fetch %s: %v", key, err)
	}
	return string(value)
}

type fetched struct {
	value string
	err   error
}

func begin(ctx context.Context, c *redisquiesce.Cache, key string, load redisquiesce.Load) <-chan fetched {
	out := make(chan fetched, 1)
	go func() {
		value, err := c.Fetch(ctx, key, time.Minute, load)
		out <- fetched{string(value), err}
	}()
	return out
}

func (s store) await(out <-chan fetched) string {
	s.Helper()
	select {
	case got := <-out:
		if got.err != nil {
			s.Fatal(got.err)
		}
		return got.value
	case <-time.After(patience):
		s.Fatal("the fetch does not end")
		return ""
	}
}

func (s store) wait(what string, happened <-chan struct{}) {
	s.Helper()
	select {
	case <-happened:
	case <-time.After(patience):
		s.Fatal("never happened: " + what)
	}
}

// joined waits until so many wait for a load.
func (s store) joined(c *redisquiesce.Cache, key string, want int) {
	s.Helper()
	harness.Eventually(s.T, patience, "all have joined", func() error {
		if n := c.Waiters(key); n != want {
			return fmt.Errorf("%d wait", n)
		}
		return nil
	})
}

func cacheGuardOf(key string) string { return "qg:{" + key + "}" }

// A reader misses and reads the old row; the writer commits and invalidates; then the reader's fill arrives.
func TestFetch_FillOfWhatWasReadBeforeAChangeIsRefused(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	key := s.prefix + "order"
	changes := map[string]func(writer *redisquiesce.Cache){
		"invalidate": func(writer *redisquiesce.Cache) {
			if err := writer.Invalidate(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		},
		"the coordinator's removal": func(*redisquiesce.Cache) { // as rediscache does it
			s.do("UNLINK", key)
			s.do("HSET", cacheGuardOf(key), "t", 7)
			s.do("HDEL", cacheGuardOf(key), "l", "x")
		},
		"eviction of the guard": func(*redisquiesce.Cache) { s.do("DEL", cacheGuardOf(key)) },
	}
	for name, change := range changes {
		s.do("DEL", key, cacheGuardOf(key))
		row, reader, writer := newTruth("old"), s.process(), s.process()
		read, goOn := make(chan struct{}), make(chan struct{})
		late := begin(t.Context(), reader, key, row.slowly(read, goOn))
		s.wait("the reader reads the old row", read)
		row.value.Store("new")
		change(writer)
		close(goOn)
		if got := s.await(late); got != "old" {
			t.Errorf("%s: the reader that called before the change got %q", name, got)
		}
		if s.do("EXISTS", key) != int64(0) || reader.Stats().Refused != 1 {
			t.Errorf("%s: the old value was filled in: %v, %+v", name, s.do("GET", key), reader.Stats())
		}
		for _, c := range []*redisquiesce.Cache{reader, writer} {
			if got := s.fetch(c, key, row.load); got != "new" {
				t.Errorf("%s: after the change a reader got %q", name, got)
			}
		}
		if s.do("GET", key) != "new" {
			t.Errorf("%s: the cache ends with %v", name, s.do("GET", key))
		}
	}
}

// The negative control: the same story with GET, SET and DEL ends with the old value.
func TestFetch_WithoutALeaseTheOldValueStays(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	key := s.prefix + "order"
	row := newTruth("old")
	value, _ := row.load(t.Context())
	row.value.Store("new")
	s.do("DEL", key)
	s.do("SET", key, value, "PX", 60_000)
	if s.do("GET", key) != "old" {
		t.Error("cache-aside has become safe; what is Fetch for?")
	}
}

func TestFetch_ALeaseThatIsOverFillsNothing(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	key := s.prefix + "order"
	row, slow, quick := newTruth("old"), s.process(redisquiesce.LeaseFor(20*time.Millisecond)), s.process()
	read, goOn := make(chan struct{}), make(chan struct{})
	late := begin(t.Context(), slow, key, row.slowly(read, goOn))
	s.wait("the slow reader reads", read)
	row.value.Store("new")
	if got := s.fetch(quick, key, row.load); got != "new" { // once the lease is over
		t.Errorf("got %q", got)
	}
	close(goOn)
	s.await(late)
	if s.do("GET", key) != "new" || slow.Stats().Refused != 1 {
		t.Errorf("the cache holds %v, %+v", s.do("GET", key), slow.Stats())
	}
	if s.do("HEXISTS", cacheGuardOf(key), "l") != int64(0) {
		t.Error("a lease is left behind")
	}
}

func TestFetch_AnotherReadersLeaseOrOneThatIsJustOverFillsNothing(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for name, change := range map[string][]any{
		"another's": {"l", "another's", "x", "99999999999999"},
		"over":      {"x", "1"},
	} {
		key := s.prefix + name
		row, c := newTruth("old"), s.process()
		read, goOn := make(chan struct{}), make(chan struct{})
		late := begin(t.Context(), c, key, row.slowly(read, goOn))
		s.wait("it reads", read)
		s.do(append([]any{"HSET", cacheGuardOf(key)}, change...)...)
		close(goOn)
		s.await(late)
		if s.do("EXISTS", key) != int64(0) || c.Stats().Refused != 1 {
			t.Errorf("%s: the key holds %v, %+v", name, s.do("GET", key), c.Stats())
		}
	}
}

func TestFetch_AStampedeOfThreeProcessesLoadsOnce(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	key := s.prefix + "order"
	const callers = 200
	row := newTruth("value")
	called, goOn := make(chan struct{}, callers), make(chan struct{})
	load := func(ctx context.Context) ([]byte, error) {
		select {
		case <-goOn:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return row.load(ctx)
	}
	var processes []*redisquiesce.Cache
	for range 3 {
		processes = append(processes, s.process(redisquiesce.LeaseFor(time.Minute), redisquiesce.WaitFor(time.Minute), redisquiesce.LoadFor(time.Minute)))
	}
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			called <- struct{}{}
			value, err := processes[i%3].Fetch(t.Context(), key, time.Minute, load)
			if err != nil || string(value) != "value" {
				t.Errorf("got %q, %v", value, err)
			}
		})
	}
	for range callers {
		<-called
	}
	close(goOn)
	all.Wait()
	if n := row.loads.Load(); n != 1 {
		t.Errorf("%d loads for %d callers in 3 processes", n, callers)
	}
}

// With leases that others do not wait for, each process loads for itself, and no more often.
func TestFetch_WhoHasWaitedLongEnoughLoadsAndFillsNothing(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	key := s.prefix + "order"
	row, holder, other := newTruth("value"), s.process(), s.process(redisquiesce.WaitFor(10*time.Millisecond))
	read, goOn := make(chan struct{}), make(chan struct{})
	held := begin(t.Context(), holder, key, row.slowly(read, goOn))
	s.wait("one reads", read)
	if got := s.fetch(other, key, row.load); got != "value" {
		t.Errorf("got %q", got)
	}
	if stats := other.Stats(); stats.Direct != 1 || stats.Fills != 0 || s.do("EXISTS", key) != int64(0) {
		t.Errorf("%+v, and the key: %v", stats, s.do("EXISTS", key))
	}
	close(goOn)
	s.await(held)
	if s.do("GET", key) != "value" {
		t.Errorf("the holder's fill: %v", s.do("GET", key))
	}
}

func TestFetch_WhoComesAfterAnInvalidateDoesNotJoinAnOlderLoad(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for name, invalidator := range map[string]int{"of this process": 0, "of another": 1} {
		key := s.prefix + name
		row, processes := newTruth("old"), []*redisquiesce.Cache{s.process(), s.process()}
		read, goOn := make(chan struct{}), make(chan struct{})
		older := begin(t.Context(), processes[0], key, row.slowly(read, goOn))
		s.wait("an older load reads", read)
		row.value.Store("new")
		if err := processes[invalidator].Invalidate(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		newer := begin(t.Context(), processes[0], key, row.load)
		if invalidator == 0 { // it does not even wait for it
			if got := s.await(newer); got != "new" {
				t.Errorf("%s: got %q", name, got)
			}
		} else { // it waits for it, and then knows better
			s.joined(processes[0], key, 2)
		}
		close(goOn)
		if invalidator == 1 {
			if got := s.await(newer); got != "new" {
				t.Errorf("%s: got %q", name, got)
			}
		}
		s.await(older)
		if s.do("GET", key) != "new" {
			t.Errorf("%s: the cache holds %v", name, s.do("GET", key))
		}
	}
}

func TestFetch_ACallerThatGoesLeavesTheLoadToTheOthers(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	key := s.prefix + "order"
	row, c := newTruth("value"), s.process()
	read, goOn := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	first := begin(ctx, c, key, row.slowly(read, goOn))
	s.wait("it reads", read)
	second := begin(t.Context(), c, key, row.load)
	s.joined(c, key, 2)
	cancel()
	if got := <-first; !errors.Is(got.err, context.Canceled) {
		t.Errorf("the first: %+v", got)
	}
	close(goOn)
	if got := s.await(second); got != "value" || row.loads.Load() != 1 {
		t.Errorf("the second got %q, after %d loads", got, row.loads.Load())
	}
}

func TestFetch_WhatNobodyWaitsForIsGivenUp(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	key := s.prefix + "order"
	row, c := newTruth("value"), s.process(redisquiesce.LeaseFor(time.Minute), redisquiesce.LoadFor(time.Minute))
	read, ended := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	only := begin(ctx, c, key, func(ctx context.Context) ([]byte, error) {
		defer close(ended)
		return row.slowly(read, nil)(ctx)
	})
	s.wait("it reads", read)
	cancel()
	<-only
	s.wait("the load ends", ended)
	if got := s.fetch(c, key, row.load); got != "value" { // far sooner than the lease would end
		t.Errorf("got %q", got)
	}
	if stats := c.Stats(); stats.Direct != 0 {
		t.Errorf("the lease was left behind: %+v", stats)
	}
}

func TestFetch_AFailedLoadGivesTheLeaseBack(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	key := s.prefix + "order"
	errLoad := errors.New("no database")
	c, other := s.process(redisquiesce.LeaseFor(time.Minute)), s.process()
	for name, load := range map[string]redisquiesce.Load{
		"error":   func(context.Context) ([]byte, error) { return nil, errLoad },
		"panic":   func(context.Context) ([]byte, error) { panic("bug") },
		"nothing": func(context.Context) ([]byte, error) { return nil, redisquiesce.ErrNotFound },
	} {
		_, err := c.Fetch(t.Context(), key, time.Minute, load)
		if err == nil || name == "error" && !errors.Is(err, errLoad) || name == "nothing" && !errors.Is(err, redisquiesce.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
		if s.do("HEXISTS", cacheGuardOf(key), "l") != int64(0) || s.do("EXISTS", key) != int64(0) {
			t.Errorf("%s: a lease or a value is left", name)
		}
	}
	s.fetch(other, key, newTruth("value").load)
	if stats := other.Stats(); stats.Direct != 0 {
		t.Errorf("%+v", stats)
	}
}

func TestFetch_ThatThereIsNothingIsKeptForItsOwnTime(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	key := s.prefix + "order"
	c := s.process(redisquiesce.Negative("null", 30*time.Second))
	loads := 0
	nothing := func(context.Context) ([]byte, error) {
		loads++
		return nil, redisquiesce.ErrNotFound
	}
	for range 3 {
		if _, err := c.Fetch(t.Context(), key, time.Hour, nothing); !errors.Is(err, redisquiesce.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	}
	if ttl := s.do("PTTL", key).(int64); loads != 1 || s.do("GET", key) != "null" || ttl <= 0 || ttl > 30_000 {
		t.Errorf("%d loads; it holds %v for %d ms", loads, s.do("GET", key), ttl)
	}
	if err := c.Invalidate(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if got := s.fetch(c, key, newTruth("value").load); got != "value" {
		t.Errorf("after the row came: %q", got)
	}
}

func TestFetchAfter_TakesWhatTheEventHasReachedAndLoadsElse(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	key, guard := s.prefix+"order", cacheGuardOf(s.prefix+"order")
	const token = 9007199254740993 // no double holds it
	row := newTruth("new")
	c := s.process(redisquiesce.WaitFor(50 * time.Millisecond))
	for _, tc := range []struct {
		seen  any
		loads int64
	}{{nil, 1}, {"9", 1}, {"9007199254740992", 1}, {"9007199254740993", 0}, {"9007199254740994", 0}, {"10000000000000000", 0}} {
		row.loads.Store(0)
		s.do("DEL", guard)
		s.do("SET", key, "cached")
		if tc.seen != nil {
			s.do("HSET", guard, "t", tc.seen)
		}
		want := map[int64]string{0: "cached", 1: "new"}[tc.loads]
		value, err := c.FetchAfter(t.Context(), token, key, time.Minute, row.load)
		if err != nil || string(value) != want || row.loads.Load() != tc.loads {
			t.Errorf("the guard says %v: %q after %d loads, %v", tc.seen, value, row.loads.Load(), err)
		}
		if s.do("GET", key) != "cached" {
			t.Errorf("the guard says %v: it was filled", tc.seen)
		}
	}
}

func TestFetchAfter_WaitsForTheDelivery(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	key, guard := s.prefix+"order", cacheGuardOf(s.prefix+"order")
	s.do("SET", key, "old")
	c := s.process(redisquiesce.WaitFor(time.Minute))
	out := make(chan fetched, 1)
	go func() {
		value, err := c.FetchAfter(t.Context(), 7, key, time.Minute, newTruth("loaded").load)
		out <- fetched{string(value), err}
	}()
	s.joined(c, key, 1)
	s.do("SET", key, "delivered")
	s.do("HSET", guard, "t", 7)
	if got := s.await(out); got != "delivered" {
		t.Errorf("got %q", got)
	}
}

func TestFetch_LoadsAreToldToReadFromThePrimaryAfterAChange(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	c := s.process()
	var primary []bool
	load := func(ctx context.Context) ([]byte, error) {
		primary = append(primary, redisquiesce.FromPrimary(ctx))
		return []byte("value"), nil
	}
	key := s.prefix + "order"
	s.fetch(c, key, load)
	if err := c.Invalidate(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	s.fetch(c, key, load)
	s.do("DEL", key, cacheGuardOf(key))
	s.do("HSET", cacheGuardOf(key), "t", 5)
	s.fetch(c, key, load)
	if !slices.Equal(primary, []bool{false, true, true}) || !redisquiesce.FromPrimary(t.Context()) {
		t.Errorf("told %v", primary)
	}
}

func TestCache_AGuardNeverLivesShorterBecauseOfAReader(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	key, guard := s.prefix+"order", cacheGuardOf(s.prefix+"order")
	c := s.process(redisquiesce.LeaseFor(10 * time.Millisecond))
	s.do("HSET", guard, "t", 5)
	s.do("PEXPIRE", guard, 600_000)
	s.fetch(c, key, newTruth("value").load)
	if ttl := s.do("PTTL", guard).(int64); ttl < 500_000 {
		t.Errorf("after a fetch the guard lives for %d ms", ttl)
	}
	before := s.do("HGET", guard, "b")
	if err := c.Invalidate(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if ttl := s.do("PTTL", guard).(int64); ttl < 500_000 || s.do("HGET", guard, "t") != "5" || s.do("HGET", guard, "b") == before {
		t.Errorf("after an invalidate the guard lives for %d ms and holds %v", ttl, s.do("HGETALL", guard))
	}
	s.do("HSET", guard, "b", "99999999999999")
	if err := c.Invalidate(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if s.do("HGET", guard, "b") != "99999999999999" {
		t.Errorf("the moment of the invalidate moved back to %v", s.do("HGET", guard, "b"))
	}
	s.do("DEL", guard)
	s.do("HSET", guard, "l", "left", "x", "0") // a lease that never ended in order
	s.fetch(c, key, newTruth("value").load)
	if ttl := s.do("PTTL", guard).(int64); ttl == -1 {
		t.Error("a guard without an end")
	}
}

func TestFetch_WithoutRedisLoadsGoOnAFewAtATime(t *testing.T) {
	t.Parallel()
	addr := ownServer(t)
	s := connect(t, addr)
	client := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, DialTimeout: time.Second})
	t.Cleanup(func() { _ = client.Close() })
	const atATime = 3
	c := newCache(t, client, redisquiesce.DirectLoads(atATime))
	s.do("SET", "before", "value")
	if got := s.fetch(c, "before", newTruth("other").load); got != "value" {
		t.Fatalf("got %q", got)
	}
	_ = s.client.(*redis.Client).ShutdownNoSave(t.Context())
	harness.Eventually(t, patience, "Redis is gone", func() error {
		if client.Ping(t.Context()).Err() == nil {
			return errors.New("it answers")
		}
		return nil
	})
	var running, most atomic.Int64
	load := func(context.Context) ([]byte, error) {
		n := running.Add(1)
		defer running.Add(-1)
		for {
			seen := most.Load()
			if n <= seen || most.CompareAndSwap(seen, n) {
				break
			}
		}
		_ = client.Ping(t.Context()) // takes a moment
		return []byte("value"), nil
	}
	var all sync.WaitGroup
	for i := range 60 {
		all.Go(func() {
			if value, err := c.Fetch(t.Context(), fmt.Sprint("key", i), time.Minute, load); err != nil || string(value) != "value" {
				t.Errorf("got %q, %v", value, err)
			}
		})
	}
	all.Wait()
	if n := most.Load(); n > atATime {
		t.Errorf("%d loads at a time, want at most %d", n, atATime)
	}
	if stats := c.Stats(); stats.Direct != 60 || stats.Errors == 0 {
		t.Errorf("%+v", stats)
	}
	many, err := c.FetchMany(t.Context(), []string{"a", "b"}, time.Minute, loadsAll(map[string]string{"a": "1"}, nil))
	if err != nil || len(many) != 1 || string(many["a"]) != "1" {
		t.Errorf("many: %q, %v", many, err)
	}
	if err := c.Invalidate(t.Context(), "a"); err == nil {
		t.Error("an invalidate without Redis succeeded")
	}
}

func TestFetch_ForeignTypesAreLeftAlone(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	key := s.prefix + "order"
	c := s.process()
	s.do("HSET", key, "id", "7")
	if got := s.fetch(c, key, newTruth("loaded").load); got != "loaded" || s.do("HGET", key, "id") != "7" {
		t.Errorf("a hash: got %q, and it holds %v", got, s.do("HGET", key, "id"))
	}
	s.do("DEL", key)
	s.do("SET", cacheGuardOf(key), "mine")
	if got := s.fetch(c, key, newTruth("loaded").load); got != "loaded" || s.do("EXISTS", key) != int64(0) {
		t.Errorf("a foreign guard: got %q, and the key: %v", got, s.do("EXISTS", key))
	}
	if err := c.Invalidate(t.Context(), key); !errors.Is(err, redisquiesce.ErrForeign) || s.do("GET", cacheGuardOf(key)) != "mine" {
		t.Errorf("an invalidate under a foreign guard: %v", err)
	}
}

func TestCache_RefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for name, option := range map[string]redisquiesce.CacheOption{
		"brace": redisquiesce.GuardPrefix("q{"), "long": redisquiesce.GuardPrefix(strings.Repeat("q", 17)), "lease": redisquiesce.LeaseFor(0),
		"wait": redisquiesce.WaitFor(-1), "load": redisquiesce.LoadFor(0), "loads": redisquiesce.DirectLoads(0), "negative": redisquiesce.Negative("", 1),
	} {
		if _, err := redisquiesce.NewCache(s.client, option); !errors.Is(err, redisquiesce.ErrValue) {
			t.Errorf("%s: %v", name, err)
		}
	}
	replicas := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}, RouteByLatency: true})
	defer func() { _ = replicas.Close() }()
	if _, err := redisquiesce.NewCache(replicas); err == nil {
		t.Error("a client that reads from replicas was taken")
	}
	c := s.process()
	if _, err := c.Fetch(t.Context(), s.prefix, 0, newTruth("").load); !errors.Is(err, redisquiesce.ErrValue) {
		t.Errorf("no ttl: %v", err)
	}
	if _, err := c.Fetch(t.Context(), "", time.Minute, newTruth("").load); !errors.Is(err, redisquiesce.ErrKey) {
		t.Errorf("no key: %v", err)
	}
	c.Close()
	if _, err := c.Fetch(t.Context(), s.prefix+"x", time.Minute, newTruth("").load); !errors.Is(err, redisquiesce.ErrCacheClosed) {
		t.Errorf("closed: %v", err)
	}
}
