package redisquiesce

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// FetchKeysMax bounds one FetchMany.
const FetchKeysMax = 1_000

// LoadMany reads the values of keys from where the truth is. What has none is left out.
type LoadMany func(ctx context.Context, keys []string) (map[string][]byte, error)

// FetchMany is Fetch of many keys, of any slots. Its load is called with those that this call has a lease of, and perhaps again with those that
// others load at present and take too long over. What has no value is missing in the answer. An error of load ends it.
//
// Calls that ask for the same keys at the same time share by leases, also in one process. load's context is the caller's.
func (c *Cache) FetchMany(ctx context.Context, keys []string, ttl time.Duration, load LoadMany) (map[string][]byte, error) {
	m := &many{cache: c, ttl: ttl, load: load, id: newLeaseID(), values: make(map[string][]byte, len(keys))}
	keys = slices.Clone(keys)
	slices.Sort(keys)
	keys = slices.Compact(keys)
	err := m.check(keys)
	if err == nil {
		err = m.fetch(ctx, keys)
	}
	if err != nil {
		return nil, fmt.Errorf("fetch %d keys: %w", len(keys), err)
	}
	return m.values, nil
}

// many is one FetchMany.
type many struct {
	cache  *Cache
	ttl    time.Duration
	load   LoadMany
	id     string
	values map[string][]byte
}

func (m *many) check(keys []string) error {
	switch {
	case len(keys) > FetchKeysMax:
		return fmt.Errorf("%w: at most %d", ErrValue, FetchKeysMax)
	case m.ttl < time.Millisecond:
		return fmt.Errorf("%w: a ttl of %s", ErrValue, m.ttl)
	}
	_, err := m.cache.calls(keys)
	return err
}

func (m *many) fetch(ctx context.Context, keys []string) error {
	until := time.Now().Add(m.cache.o.wait)
	keys = m.get(ctx, keys)
	for attempt := 1; len(keys) > 0; attempt++ {
		granted, changed, waiting, failed := m.lease(ctx, keys)
		if err := m.loadAndFill(ctx, granted, changed); err != nil {
			return err
		}
		if time.Now().After(until) {
			waiting, failed = nil, append(failed, waiting...)
		}
		if err := m.loadDirectly(ctx, failed); err != nil {
			return err
		}
		if keys = waiting; len(keys) == 0 {
			return nil
		}
		if err := pause(ctx, pollAfter(attempt)); err != nil {
			return err
		}
	}
	return nil
}

// get takes what is there in the cheapest way, and gives the keys of the rest.
func (m *many) get(ctx context.Context, keys []string) (missing []string) {
	c := m.cache
	if c.isQuiet() || len(keys) == 0 {
		return keys
	}
	for part := range slices.Chunk(keys, pipelineMax) {
		commands := make([]*redis.StringCmd, len(part))
		_, _ = c.client.Pipelined(ctx, func(p redis.Pipeliner) error { // each command has its own error
			for i, key := range part {
				commands[i] = p.Get(ctx, key)
			}
			return nil
		})
		for i, key := range part {
			value, err := commands[i].Bytes()
			if err != nil {
				if !errors.Is(err, redis.Nil) && ctx.Err() == nil {
					c.fault(key, err)
				}
				missing = append(missing, key)
				continue
			}
			m.hit(key, value)
		}
	}
	return missing
}

func (m *many) hit(key string, value []byte) {
	m.cache.counts.hits.Add(1)
	m.keep(key, value)
}

func (m *many) keep(key string, value []byte) {
	if !m.cache.nothing(value) {
		m.values[key] = value
	}
}

// lease asks for each key once. failed are those that Redis is of no use for.
func (m *many) lease(ctx context.Context, keys []string) (granted []string, changed bool, waiting, failed []string) {
	c := m.cache
	if c.isQuiet() {
		return nil, false, nil, keys
	}
	calls, err := c.calls(keys, m.id, c.o.lease.Milliseconds(), strconv.Itoa(0))
	if err != nil {
		return nil, false, nil, keys
	}
	for i, a := range c.runMany(ctx, lease, calls) {
		switch {
		case a.err != nil:
			failed = append(failed, keys[i])
			if ctx.Err() == nil {
				c.fault(keys[i], a.err)
			}
		case a.word == wordHit:
			m.hit(keys[i], []byte(a.text))
		case a.word == wordLease:
			granted, changed = append(granted, keys[i]), changed || a.n == 1
		default:
			waiting = append(waiting, keys[i])
		}
	}
	return granted, changed, waiting, failed
}

// loadAndFill loads what this call has leases of. Each fill is judged by itself: one that is refused leaves the others alone.
func (m *many) loadAndFill(ctx context.Context, keys []string, changed bool) error {
	if len(keys) == 0 {
		return nil
	}
	c := m.cache
	c.counts.loads.Add(1)
	loaded, err := m.call(ctx, keys, changed)
	if err != nil {
		m.giveBack(ctx, keys)
		return err
	}
	var calls []scriptCall
	var filled, left []string
	for _, key := range keys {
		value, found := loaded[key]
		ttl := m.ttl
		switch {
		case !found && c.o.negativeTTL == 0:
			left = append(left, key)
			continue
		case !found:
			value = c.o.negative
		default:
			m.keep(key, value)
		}
		if c.nothing(value) {
			ttl = c.o.negativeTTL
		}
		guard, _ := guardOf(c.o.guardPrefix, key) // was checked
		filled = append(filled, key)
		calls = append(calls, scriptCall{keys: []string{key, guard}, args: []any{m.id, value, ttl.Milliseconds()}})
	}
	for i, a := range c.runMany(ctx, fill, calls) {
		c.filled(filled[i], a)
	}
	m.giveBack(ctx, left)
	return nil
}

// loadDirectly loads without leases, as Fetch does.
func (m *many) loadDirectly(ctx context.Context, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	c := m.cache
	select {
	case c.direct <- struct{}{}:
		defer func() { <-c.direct }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	c.counts.direct.Add(1)
	loaded, err := m.call(ctx, keys, true)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if value, found := loaded[key]; found {
			m.keep(key, value)
		}
	}
	return nil
}

func (m *many) call(ctx context.Context, keys []string, primary bool) (loaded map[string][]byte, err error) {
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, primaryKey{}, primary), m.cache.o.load)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errPanic, p)
		}
	}()
	return m.load(ctx, slices.Clone(keys))
}

func (m *many) giveBack(ctx context.Context, keys []string) {
	if len(keys) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseFor)
	defer cancel()
	calls, err := m.cache.calls(keys, m.id)
	if err != nil {
		return
	}
	for i, a := range m.cache.runMany(ctx, release, calls) {
		if a.err != nil {
			m.cache.fault(keys[i], a.err)
		}
	}
}
