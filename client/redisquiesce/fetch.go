package redisquiesce

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	mathrand "math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// roundsMax is how often a caller joins a load that turns out to be older than its call, before it loads for itself.
	roundsMax = 3
	// quietFor is how long a Redis that did not answer is done without. A client of a cluster is asked again at once: the other masters may be well.
	quietFor = time.Second

	pollMin     = 5 * time.Millisecond
	pollMax     = 100 * time.Millisecond
	releaseFor  = time.Second
	errorsEvery = time.Second
)

var (
	// ErrNotFound is what a load answers when there is nothing, and a Fetch then too.
	ErrNotFound = errors.New("not found")
	// ErrForeign says that a key or its guard is of a type that a Cache does not use.
	ErrForeign = errors.New("the key or its guard is of a foreign type")
	// ErrCacheClosed says that the Cache was closed.
	ErrCacheClosed = errors.New("the cache is closed")

	errPanic  = errors.New("load panicked")
	errQuiet  = errors.New("Redis did not answer a moment ago")
	errAnswer = errors.New("an answer that no script of this package gives")
)

// Load reads a value from where the truth is. ErrNotFound says that there is none. It may be that another call's value is used instead.
type Load func(ctx context.Context) ([]byte, error)

// Cache reads through Redis: what is there, and else what a Load gives, which it fills in. It is for mappings of mode invalidate or
// write_through_if_present: the coordinator removes or replaces what has changed, and readers bring values in.
//
// A load runs under a lease in the key's guard. Whatever changes the key clears it, so that a value that was read before a change is never
// filled in after it, however slow the reader is. One reader of the fleet loads; others wait for what it brings.
type Cache struct {
	client redis.UniversalClient
	o      cacheOptions
	direct chan struct{} // room for loads without a lease
	began  time.Time
	quiet  atomic.Int64 // until when Redis is not asked, since began
	told   atomic.Int64 // when an error was last logged, since began
	counts counts

	life   context.Context
	end    context.CancelCauseFunc
	joined sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	flights map[string]*flight
}

// CacheStats counts since the Cache was made.
type CacheStats struct {
	Hits    uint64 // values that Redis had
	Loads   uint64 // under a lease
	Direct  uint64 // loads without one
	Fills   uint64
	Refused uint64 // fills that came after a change, or too late
	Errors  uint64 // of Redis
}

type counts struct{ hits, loads, direct, fills, refused, errors atomic.Uint64 }

// NewCache makes a Cache of a client of any kind, but for one that reads from replicas: those may still have what was invalidated.
func NewCache(client redis.UniversalClient, options ...CacheOption) (*Cache, error) {
	o := cacheOptions{guardPrefix: guardPrefixDefault, lease: leaseDefault, wait: waitDefault, load: loadDefault, loads: loadsDefault,
		log: slog.New(slog.DiscardHandler)}
	for _, change := range options {
		change(&o)
	}
	if err := o.check(client); err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	c := &Cache{client: client, o: o, direct: make(chan struct{}, o.loads), began: time.Now(), flights: map[string]*flight{}}
	c.told.Store(math.MinInt64 / 2)
	c.life, c.end = context.WithCancelCause(context.Background())
	return c, nil
}

// Close ends the loads under way and waits for them. It leaves the client open.
func (c *Cache) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.end(ErrCacheClosed)
	c.joined.Wait()
}

// Stats gives the counts.
func (c *Cache) Stats() CacheStats {
	n := &c.counts
	return CacheStats{Hits: n.hits.Load(), Loads: n.loads.Load(), Direct: n.direct.Load(), Fills: n.fills.Load(), Refused: n.refused.Load(),
		Errors: n.errors.Load()}
}

// Fetch gives the value of a key, from Redis or else from load, which is then kept for ttl. Callers of one key share one load in this process,
// and one in all processes as long as it takes less than WaitFor. What it gives is never older than an Invalidate that returned before the call,
// in whatever process. If Redis does not answer, load does, with no more than DirectLoads at a time.
//
// load's context is none of the callers' and carries the values of the first one's; it ends when all callers have gone.
func (c *Cache) Fetch(ctx context.Context, key string, ttl time.Duration, load Load) ([]byte, error) {
	return c.FetchAfter(ctx, 0, key, ttl, load)
}

// FetchAfter is Fetch of a value that is not older than an event: its token says so, which may have come from another process. What Redis has is
// taken only once the coordinator has delivered the event, or a later one of the key; if that takes longer than WaitFor, load is asked.
func (c *Cache) FetchAfter(ctx context.Context, token uint64, key string, ttl time.Duration, load Load) ([]byte, error) {
	guard, err := guardOf(c.o.guardPrefix, key)
	if err == nil && ttl < time.Millisecond {
		err = fmt.Errorf("%w: a ttl of %s", ErrValue, ttl)
	}
	if err != nil {
		return nil, fmt.Errorf("fetch %q: %w", key, err)
	}
	w := want{key: key, guard: guard, after: token, ttl: ttl, load: load}
	value, err := c.fetch(ctx, w)
	if err != nil {
		return nil, fmt.Errorf("fetch %q: %w", key, err)
	}
	if c.nothing(value) {
		return nil, fmt.Errorf("fetch %q: %w", key, ErrNotFound)
	}
	return value, nil
}

// want is what a Fetch asks for.
type want struct {
	key, guard string
	after      uint64
	ttl        time.Duration
	load       Load
}

func (c *Cache) fetch(ctx context.Context, w want) ([]byte, error) {
	for range roundsMax {
		if w.after == 0 {
			if value, ok := c.get(ctx, w.key); ok {
				return value, nil
			}
		}
		value, ok, err := c.share(ctx, w)
		if ok || err != nil {
			return value, err
		}
	}
	return c.loadDirectly(ctx, w, func() {})
}

// get asks for what is there in the cheapest way. An error is told by the lease that is asked for next.
func (c *Cache) get(ctx context.Context, key string) ([]byte, bool) {
	if c.isQuiet() {
		return nil, false
	}
	value, err := c.client.Get(ctx, key).Bytes()
	if err != nil {
		if !errors.Is(err, redis.Nil) && ctx.Err() == nil {
			c.fault(key, err)
		}
		return nil, false
	}
	c.counts.hits.Add(1)
	return value, true
}

func (c *Cache) nothing(value []byte) bool {
	return c.o.negativeTTL > 0 && bytes.Equal(value, c.o.negative)
}

// Invalidate removes keys and keeps loads that began before from filling them in. Call it after the commit and before the event is enqueued: then
// who reads next, in whatever process, reads what was committed. It is safe at any time, by anyone. After an error some of the keys may be as
// they were: enqueue the event all the same, which does it again.
func (c *Cache) Invalidate(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		c.forget(key, nil) // who comes from now on does not join a load that began before
	}
	calls, err := c.calls(keys, guardLife.Milliseconds())
	if err != nil {
		return fmt.Errorf("invalidate: %w", err)
	}
	var failed []error
	for i, a := range c.runMany(ctx, invalidate, calls) {
		c.forget(keys[i], nil) // a load that began in between
		if a.err == nil && a.word != wordInvalidated {
			a.err = ErrForeign
		}
		if a.err != nil {
			failed = append(failed, fmt.Errorf("invalidate %q: %w", keys[i], a.err))
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("%d of %d keys: %w", len(failed), len(keys), failed[0])
	}
	return nil
}

// lease asks once for the value or the right to load it.
func (c *Cache) lease(ctx context.Context, w want, id string) answer {
	if c.isQuiet() {
		return answer{err: errQuiet}
	}
	a := c.run(ctx, lease, scriptCall{keys: []string{w.key, w.guard}, args: []any{id, c.o.lease.Milliseconds(), strconv.FormatUint(w.after, 10)}})
	if a.err != nil && ctx.Err() == nil {
		c.fault(w.key, a.err)
	}
	return a
}

// fillIn keeps a value, and tells whether nothing has changed since the lease was given.
func (c *Cache) fillIn(ctx context.Context, w want, id string, value []byte) bool {
	ttl := w.ttl
	if c.nothing(value) {
		ttl = c.o.negativeTTL
	}
	a := c.run(ctx, fill, scriptCall{keys: []string{w.key, w.guard}, args: []any{id, value, ttl.Milliseconds()}})
	return c.filled(w.key, a)
}

func (c *Cache) filled(key string, a answer) bool {
	switch {
	case a.err == nil && a.word == wordFilled:
		c.counts.fills.Add(1)
		return true
	case a.err == nil && a.word == wordRefused:
		c.counts.refused.Add(1)
	case a.err == nil:
		c.fault(key, ErrForeign)
	default:
		c.fault(key, a.err)
	}
	return false
}

// giveBack ends a lease that brings nothing, so that nobody waits for it. It is best effort: a lease ends of itself.
func (c *Cache) giveBack(ctx context.Context, key, guard, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseFor)
	defer cancel()
	if a := c.run(ctx, release, scriptCall{keys: []string{key, guard}, args: []any{id}}); a.err != nil {
		c.fault(key, a.err)
	}
}

// fault notes that Redis was of no use for a key.
func (c *Cache) fault(key string, err error) {
	c.counts.errors.Add(1)
	var told redis.Error
	if _, many := c.client.(*redis.ClusterClient); !many && !errors.As(err, &told) && !errors.Is(err, ErrForeign) {
		c.quiet.Store(int64(time.Since(c.began) + quietFor))
	}
	now, last := int64(time.Since(c.began)), c.told.Load()
	if now-last >= int64(errorsEvery) && c.told.CompareAndSwap(last, now) {
		c.o.log.Warn("a cache is done without", "key", key, "error", err)
	}
}

func (c *Cache) isQuiet() bool { return int64(time.Since(c.began)) < c.quiet.Load() }

func newLeaseID() string { return rand.Text() }

// pollAfter is the wait before the next look: it grows, and is spread.
func pollAfter(attempt int) time.Duration {
	bound := pollMax
	if attempt < 5 {
		bound = min(pollMax, pollMin<<attempt)
	}
	return pollMin + mathrand.N(bound)
}

// primaryKey marks the contexts of loads.
type primaryKey struct{}

// FromPrimary tells a load whether it is to read from the primary: the guard remembers a change, which a replica may not have yet, or it is not
// known. A load that reads from replicas must ask, or what it brings may be older than the change.
func FromPrimary(ctx context.Context) bool {
	primary, given := ctx.Value(primaryKey{}).(bool)
	return primary || !given
}
