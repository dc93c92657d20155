package rediscache

import (
	"fmt"
	"log/slog"
	"time"
)

// Limits of one call. Larger work is the caller's to cut.
const (
	batchKeysMax = 1000 // keys of one Apply, Invalidate or Read
	fieldsMax    = 1000 // hash fields of one Write; Lua's unpack takes some 8,000 values

	scriptKeysMax  = 100     // keys of one script call: above it speed gains nothing, and the server stands still longer
	scriptBytesMax = 1 << 20 // values of one script call, unless a single value is larger

	poolConnsMax = 16
)

const (
	dialTimeout  = time.Second
	readTimeout  = 2 * time.Second
	writeTimeout = 2 * time.Second
	poolTimeout  = 2 * time.Second
	idleTimeout  = 5 * time.Minute
)

const (
	defaultDeadline = 5 * time.Second
	defaultGuardTTL = 60 * time.Second

	// guardPerDeadline is how many deadlines a guard outlives: one for the write it must refuse, the rest for steps of the server's clock.
	guardPerDeadline = 4

	// clockSlack is how much slower than ours the server's clock may run between Begin and Apply: rounding to milliseconds, and slewing
	// by 500 ppm over the deadline.
	clockSlack = 10 * time.Millisecond
)

// Config names one standalone Redis server. Deadline and GuardTTL are whole milliseconds, zero takes the default.
type Config struct {
	Name     string
	Addr     string // host:port
	Username string
	Password string
	DB       int

	Deadline time.Duration // Begin to Apply, on the server's clock; default 5 s
	GuardTTL time.Duration // life of a guard after its last write; default 60 s, at least four deadlines
}

// String leaves the password out, so that a Config may be logged.
func (c Config) String() string {
	return fmt.Sprintf("%s (redis://%s/%d)", c.Name, c.Addr, c.DB)
}

// GoString serves %#v, which would otherwise print every field.
func (c Config) GoString() string { return c.String() }

// LogValue serves handlers that look at a value's fields.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

func (c Config) withDefaults() Config {
	if c.Deadline == 0 {
		c.Deadline = defaultDeadline
	}
	if c.GuardTTL == 0 {
		c.GuardTTL = defaultGuardTTL
	}
	return c
}

func (c Config) validate() error {
	switch {
	case c.Name == "" || c.Addr == "":
		return fmt.Errorf("%w: target %q, address %q: both are needed", ErrConfig, c.Name, c.Addr)
	case c.DB < 0:
		return fmt.Errorf("%w: target %q: database %d", ErrConfig, c.Name, c.DB)
	case c.Deadline < time.Millisecond:
		return fmt.Errorf("%w: target %q: deadline %v is below 1ms", ErrConfig, c.Name, c.Deadline)
	case c.GuardTTL < guardPerDeadline*c.Deadline:
		return fmt.Errorf("%w: target %q: guard TTL %v is less than %d deadlines of %v", ErrConfig, c.Name, c.GuardTTL, guardPerDeadline, c.Deadline)
	}
	return nil
}
