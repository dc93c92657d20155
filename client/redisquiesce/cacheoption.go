package redisquiesce

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// What a Cache does unless it is told otherwise.
const (
	guardPrefixDefault = "qg:"
	leaseDefault       = 10 * time.Second
	waitDefault        = 3 * time.Second
	loadDefault        = 10 * time.Second
	loadsDefault       = 32

	// guardLife is how long an invalidate is remembered: as long as the coordinator remembers its own.
	guardLife = time.Minute

	guardPrefixBytesMax = 16
)

// CacheOption changes how a Cache works.
type CacheOption func(*cacheOptions)

type cacheOptions struct {
	guardPrefix string
	lease       time.Duration
	wait        time.Duration
	load        time.Duration
	loads       int
	negative    []byte
	negativeTTL time.Duration // 0: what is not there is not kept
	log         *slog.Logger
}

// GuardPrefix is the guard_prefix of the mapping, if that has one of its own. The guards of a Cache are the coordinator's; it refuses keys with
// a brace that belongs to no hash tag, of which the coordinator has a form of its own.
func GuardPrefix(prefix string) CacheOption { return func(o *cacheOptions) { o.guardPrefix = prefix } }

// LeaseFor is how long a reader has to load a value before another may, 10 s by default. A load that takes longer fills nothing: choose more
// than loads take, and less than callers can wait when a process dies in one.
func LeaseFor(d time.Duration) CacheOption { return func(o *cacheOptions) { o.lease = d } }

// WaitFor is how long callers wait for another process's load, or for a token, before they load for themselves: 3 s by default.
func WaitFor(d time.Duration) CacheOption { return func(o *cacheOptions) { o.wait = d } }

// LoadFor bounds one load, which no caller's context does: others may wait for it. 10 s by default.
func LoadFor(d time.Duration) CacheOption { return func(o *cacheOptions) { o.load = d } }

// DirectLoads is how many loads at a time this process makes without a lease, because Redis does not answer or somebody else's load takes too
// long: 32 by default. More wait for their turn.
func DirectLoads(n int) CacheOption { return func(o *cacheOptions) { o.loads = n } }

// Negative keeps for a time that there is nothing: a load that gives ErrNotFound is filled in as marker, and whoever finds that gets
// ErrNotFound. The marker is what the mapping's negative_ttl_ms writes: null for JSON, nothing for others.
func Negative(marker string, ttl time.Duration) CacheOption {
	return func(o *cacheOptions) { o.negative, o.negativeTTL = []byte(marker), ttl }
}

// CacheLog tells, at most once a second, why Redis was done without.
func CacheLog(log *slog.Logger) CacheOption { return func(o *cacheOptions) { o.log = log } }

func (o *cacheOptions) check(client redis.UniversalClient) error {
	for _, d := range []struct {
		name string
		time.Duration
	}{{"LeaseFor", o.lease}, {"WaitFor", o.wait}, {"LoadFor", o.load}} {
		if d.Duration < time.Millisecond {
			return fmt.Errorf("%w: %s(%s)", ErrValue, d.name, d.Duration)
		}
	}
	switch n := len(o.guardPrefix); {
	case n == 0 || n > guardPrefixBytesMax || strings.ContainsAny(o.guardPrefix, "{}"):
		return fmt.Errorf("%w: a guard prefix of 1 to %d bytes without braces, not %q", ErrValue, guardPrefixBytesMax, o.guardPrefix)
	case o.loads < 1:
		return fmt.Errorf("%w: DirectLoads(%d)", ErrValue, o.loads)
	case o.negativeTTL < 0 || o.negativeTTL > 0 && o.negativeTTL < time.Millisecond:
		return fmt.Errorf("%w: a negative ttl of %s", ErrValue, o.negativeTTL)
	}
	if c, ok := client.(*redis.ClusterClient); ok {
		if r := c.Options(); r.ReadOnly || r.RouteByLatency || r.RouteRandomly {
			return errReplicas
		}
	}
	return nil
}

// errReplicas: a replica may still have what was invalidated at its master.
var errReplicas = errors.New("a cache needs a client that reads from masters")
