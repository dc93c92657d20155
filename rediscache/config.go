package rediscache

import (
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// Limits of one call. Larger work is the caller's to cut.
const (
	batchKeysMax = 1000 // keys of one Begin, Apply, Invalidate, Read or Guards
	fieldsMax    = 1000 // hash fields of one Write; Lua's unpack takes some 8,000 values

	scriptKeysMax  = 100     // keys of one script call: above it speed gains nothing, and the server stands still longer
	scriptBytesMax = 1 << 20 // values of one script call, unless a single value is larger

	addrsMax     = 64   // sentinels, or nodes to begin with
	mastersMax   = 1000 // of a cluster; Redis recommends no more
	poolConnsMax = 16   // of one server
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

	defaultConfirmTimeout = 500 * time.Millisecond
	confirmTimeoutMax     = 10 * time.Second
	confirmReplicasMax    = 16
)

// Kind is how the servers of a target stand to each other.
type Kind string

// The kinds.
const (
	Standalone Kind = "standalone" // one server, at an address that stays the same
	Sentinel   Kind = "sentinel"   // one primary, which the sentinels know
	Cluster    Kind = "cluster"    // a Redis Cluster
)

// Config names a Redis. Deadline and GuardTTL are whole milliseconds, zero takes the default.
type Config struct {
	Name     string
	Kind     Kind     // default standalone
	Addr     string   // host:port of a standalone server
	Addrs    []string // host:port of the sentinels, or of some nodes of the cluster
	Username string
	Password string
	DB       int // a cluster has only 0

	MasterName       string // what the sentinels call the primary
	SentinelUsername string
	SentinelPassword string

	Confirm Confirm

	Deadline time.Duration // Begin to Apply, on the server's clock; default 5 s
	GuardTTL time.Duration // life of a guard after its last write; default 60 s, at least four deadlines
}

// Confirm is what has to have a write before it counts as done. The zero value asks for nobody but the primary's memory.
type Confirm struct {
	Replicas int           // at least so many of the primary's replicas; with AOF: on their disk
	AOF      bool          // the primary's append-only file, on its disk; needs Redis 7.2
	Timeout  time.Duration // for one round; default 500 ms
}

func (c Confirm) wanted() bool { return c.Replicas > 0 || c.AOF }

// String leaves the passwords out, so that a Config may be logged.
func (c Config) String() string {
	switch c.Kind {
	case Sentinel:
		return fmt.Sprintf("%s (redis+sentinel://%s/%s/%d)", c.Name, strings.Join(c.Addrs, ","), c.MasterName, c.DB)
	case Cluster:
		return fmt.Sprintf("%s (redis+cluster://%s)", c.Name, strings.Join(c.Addrs, ","))
	}
	return fmt.Sprintf("%s (redis://%s/%d)", c.Name, c.Addr, c.DB)
}

// GoString serves %#v, which would otherwise print every field.
func (c Config) GoString() string { return c.String() }

// LogValue serves handlers that look at a value's fields.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

func (c Config) withDefaults() Config {
	if c.Kind == "" {
		c.Kind = Standalone
	}
	if c.Deadline == 0 {
		c.Deadline = defaultDeadline
	}
	if c.GuardTTL == 0 {
		c.GuardTTL = defaultGuardTTL
	}
	if c.Confirm.Timeout == 0 {
		c.Confirm.Timeout = defaultConfirmTimeout
	}
	return c
}

// Validate tells what Open would refuse.
func (c Config) Validate() error { return c.withDefaults().validate() }

func (c Config) validate() error {
	refuse := func(format string, a ...any) error {
		return fmt.Errorf("%w: target %q: "+format, append([]any{ErrConfig, c.Name}, a...)...)
	}
	switch {
	case c.Name == "":
		return refuse("it has no name")
	case c.DB < 0:
		return refuse("database %d", c.DB)
	case c.Deadline < time.Millisecond:
		return refuse("deadline %v is below 1ms", c.Deadline)
	case c.GuardTTL < guardPerDeadline*c.Deadline:
		return refuse("guard TTL %v is less than %d deadlines of %v", c.GuardTTL, guardPerDeadline, c.Deadline)
	case c.Confirm.Replicas < 0 || c.Confirm.Replicas > confirmReplicasMax:
		return refuse("confirmation by %d replicas, at most %d", c.Confirm.Replicas, confirmReplicasMax)
	case c.Confirm.Timeout < time.Millisecond || c.Confirm.Timeout > confirmTimeoutMax:
		return refuse("confirmation within %v, between 1ms and %v", c.Confirm.Timeout, confirmTimeoutMax)
	}
	return c.validatePlaces(refuse)
}

func (c Config) validatePlaces(refuse func(format string, a ...any) error) error {
	if c.Kind == Standalone {
		if c.Addr == "" || len(c.Addrs) > 0 || c.MasterName != "" {
			return refuse("a standalone server has one address and no name among sentinels")
		}
		return nil
	}
	switch {
	case c.Kind != Sentinel && c.Kind != Cluster:
		return refuse("kind %q: %s, %s or %s", c.Kind, Standalone, Sentinel, Cluster)
	case c.Addr != "" || len(c.Addrs) == 0 || len(c.Addrs) > addrsMax:
		return refuse("kind %s takes 1 to %d addresses in addrs, and none in addr", c.Kind, addrsMax)
	case c.Kind == Sentinel && c.MasterName == "":
		return refuse("the sentinels need the name of the primary")
	case c.Kind == Cluster && (c.DB != 0 || c.MasterName != ""):
		return refuse("a cluster has database 0 only, and no sentinels")
	}
	return nil
}
