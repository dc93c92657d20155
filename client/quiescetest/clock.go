package quiescetest

import (
	"sync"
	"time"
)

// clock is cluster time in milliseconds. It goes with the process's monotonic clock, or by moveTo alone when it is manual, and stands still
// while nobody leads.
type clock struct {
	mu     sync.Mutex
	manual bool
	base   uint64
	since  time.Time // when it was base; zero while it stands still
}

// firstMs is where cluster time begins: 0 means "no deadline" in some rows.
const firstMs = 1_000

func newClock(manual bool) *clock { return &clock{manual: manual, base: firstMs} }

func (c *clock) now() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nowLocked()
}

func (c *clock) nowLocked() uint64 {
	if c.since.IsZero() {
		return c.base
	}
	return c.base + uint64(time.Since(c.since).Milliseconds())
}

// start lets time go on, stop holds it.
func (c *clock) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.manual && c.since.IsZero() {
		c.since = time.Now()
	}
}

func (c *clock) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.base, c.since = c.nowLocked(), time.Time{}
}

// moveTo moves it forward.
func (c *clock) moveTo(t uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.nowLocked()
	if t <= now {
		return
	}
	if c.since.IsZero() {
		c.base = t
		return
	}
	c.base += t - now
}

// until is how long it takes until t comes by itself; false when it never does.
func (c *clock) until(t uint64) (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.since.IsZero() {
		return 0, false
	}
	now := c.nowLocked()
	if t <= now {
		return 0, true
	}
	return time.Duration(t-now) * time.Millisecond, true
}
