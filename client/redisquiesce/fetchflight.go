package redisquiesce

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// flight is one load for all of this process who want a key. Its goroutine belongs to the Cache.
type flight struct {
	after   uint64
	waiters int  // belongs to Cache.mu
	sealed  bool // it is reading, so that what it brings may be older than the call of who joins now; belongs to Cache.mu
	cancel  context.CancelFunc

	done   chan struct{}
	value  []byte
	err    error
	filled bool // nothing has changed between the lease and the fill, so it is good for all who joined before the fill
}

// share joins a flight of the key or begins one. It answers false if what the flight brought may be older than the call.
func (c *Cache) share(ctx context.Context, w want) (value []byte, ok bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, context.Cause(ctx)
	}
	f, first, early, err := c.join(ctx, w)
	if err != nil {
		return nil, false, err
	}
	defer c.leave(w.key, f)
	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, false, context.Cause(ctx)
	}
	if !early && !f.filled {
		return nil, false, nil
	}
	if !first {
		return bytes.Clone(f.value), f.err == nil, f.err
	}
	return f.value, f.err == nil, f.err
}

func (c *Cache) join(ctx context.Context, w want) (f *flight, first, early bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, false, false, ErrCacheClosed
	}
	if f := c.flights[w.key]; f != nil && f.after >= w.after {
		f.waiters++
		return f, false, !f.sealed, nil
	}
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.o.wait+c.o.load)
	f = &flight{after: w.after, waiters: 1, cancel: cancel, done: make(chan struct{})}
	c.flights[w.key] = f
	c.joined.Go(func() {
		defer cancel()
		stop := context.AfterFunc(c.life, cancel)
		defer stop()
		defer close(f.done)
		f.value, f.filled, f.err = c.fly(own, f, w)
		c.forget(w.key, f)
	})
	return f, true, true, nil
}

// leave counts a caller out. Nobody waits for what nobody wants.
func (c *Cache) leave(key string, f *flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.waiters--; f.waiters > 0 {
		return
	}
	if c.flights[key] == f {
		delete(c.flights, key)
	}
	f.cancel()
}

// forget lets nobody join a flight any more; nil stands for whichever there is.
func (c *Cache) forget(key string, f *flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f == nil || c.flights[key] == f {
		delete(c.flights, key)
	}
}

func (c *Cache) seal(f *flight, sealed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.sealed = sealed
}

// fly brings the value: from Redis, where another process may have put it meanwhile, or by loading it under a lease, or without one when there
// is none to be had.
func (c *Cache) fly(ctx context.Context, f *flight, w want) (value []byte, filled bool, err error) {
	id, until := newLeaseID(), time.Now().Add(c.o.wait)
	for attempt := 1; ; attempt++ {
		c.seal(f, true)
		a := c.lease(ctx, w, id)
		switch {
		case ctx.Err() != nil:
			c.giveBack(ctx, w.key, w.guard, id)
			return nil, false, context.Cause(ctx)
		case a.err == nil && a.word == wordHit:
			c.counts.hits.Add(1)
			return []byte(a.text), false, nil
		case a.err == nil && a.word == wordLease:
			return c.loadAndFill(ctx, f, w, id, a.n == 1)
		}
		c.seal(f, false)
		waits := a.err == nil && (a.word == wordWait || a.word == wordBehind)
		if !waits || time.Now().After(until) {
			value, err := c.loadDirectly(ctx, w, func() { c.seal(f, true) })
			return value, false, err
		}
		if err := pause(ctx, pollAfter(attempt)); err != nil {
			return nil, false, err
		}
	}
}

// loadAndFill loads under a lease. What was loaded is good for this flight's early callers even if the fill is refused: they called before it
// was read. Nobody joins any more when the fill is sent, so one that is accepted speaks for all who have.
func (c *Cache) loadAndFill(ctx context.Context, f *flight, w want, id string, changed bool) ([]byte, bool, error) {
	c.counts.loads.Add(1)
	value, err := c.call(ctx, w.load, changed || w.after > 0)
	if err != nil {
		c.giveBack(ctx, w.key, w.guard, id)
		return nil, false, err
	}
	c.forget(w.key, f)
	return value, c.fillIn(ctx, w, id, value), nil
}

// loadDirectly loads without a lease when it is its turn, and fills nothing in.
func (c *Cache) loadDirectly(ctx context.Context, w want, begins func()) ([]byte, error) {
	select {
	case c.direct <- struct{}{}:
		defer func() { <-c.direct }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	begins()
	c.counts.direct.Add(1)
	return c.call(ctx, w.load, true)
}

// call runs a load within its time. Nothing comes as the marker if that is kept.
func (c *Cache) call(ctx context.Context, load Load, primary bool) (value []byte, err error) {
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, primaryKey{}, primary), c.o.load)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errPanic, p)
		}
	}()
	value, err = load(ctx)
	if errors.Is(err, ErrNotFound) && c.o.negativeTTL > 0 {
		return c.o.negative, nil
	}
	return value, err
}

// pause waits, or returns early with the context's cause.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
