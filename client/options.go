package client

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/quiescehq/quiesce/api"
)

// Environment variables that FromEnv reads.
const (
	EnvAddrs    = "QUIESCE_ADDRS"    // addresses of nodes, separated by commas
	EnvInstance = "QUIESCE_INSTANCE" // name of the instance; the host's name and the process id by default
	EnvGrace    = "QUIESCE_GRACE"    // time from SIGTERM to the platform's SIGKILL, such as 25s
)

// leaseTTLDefault is longer than a failover of the coordinator, and short enough that a lost instance is noticed soon.
const leaseTTLDefault = 10 * time.Second

// Option configures Join.
type Option func(*options) error

type options struct {
	config      Config
	name        string
	address     string
	intent      string
	grace       time.Duration
	lameDuck    time.Duration
	leaseTTL    time.Duration
	required    bool
	manualReady bool
}

func collect(opts []Option) (options, error) {
	o := options{name: defaultName(), intent: api.IntentRestart, grace: GraceDefault, leaseTTL: leaseTTLDefault}
	for _, opt := range opts {
		if err := opt(&o); err != nil {
			return o, err
		}
	}
	return o, nil
}

// defaultName is unique among the live processes of a cluster: two that share a name would fence each other.
func defaultName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s-%d", host, os.Getpid())
}

// FromEnv reads QUIESCE_ADDRS, QUIESCE_INSTANCE and QUIESCE_GRACE. What is not set stays as it was.
func FromEnv() Option {
	return func(o *options) error {
		if addrs := os.Getenv(EnvAddrs); addrs != "" {
			o.config.Addrs = strings.Split(addrs, ",")
		}
		if name := os.Getenv(EnvInstance); name != "" {
			o.name = name
		}
		if grace := os.Getenv(EnvGrace); grace != "" {
			d, err := time.ParseDuration(grace)
			if err != nil {
				return fmt.Errorf("%w: %s: %w", ErrConfig, EnvGrace, err)
			}
			o.grace = d
		}
		return nil
	}
}

func set(change func(*options)) Option {
	return func(o *options) error {
		change(o)
		return nil
	}
}

// With sets how the cluster is called, but for the addresses if c has none.
func With(c Config) Option {
	return set(func(o *options) {
		if len(c.Addrs) == 0 {
			c.Addrs = o.config.Addrs
		}
		if c.Logger == nil {
			c.Logger = o.config.Logger
		}
		o.config = c
	})
}

// Addrs names some nodes of the cluster.
func Addrs(addrs ...string) Option { return set(func(o *options) { o.config.Addrs = addrs }) }

// Logger makes the instance tell what it does. It is silent by default.
func Logger(l *slog.Logger) Option { return set(func(o *options) { o.config.Logger = l }) }

// Name names the instance. The same name started again supersedes the earlier process.
func Name(name string) Option { return set(func(o *options) { o.name = name }) }

// Address is where the instance serves, for people who look at the cluster.
func Address(addr string) Option { return set(func(o *options) { o.address = addr }) }

// Grace is the time between SIGTERM and the platform's SIGKILL. The phases are scaled to it.
func Grace(d time.Duration) Option { return set(func(o *options) { o.grace = d }) }

// LameDuck is how long the instance serves after it stopped being ready: at least two probe periods of the balancer in front of it.
func LameDuck(d time.Duration) Option { return set(func(o *options) { o.lameDuck = d }) }

// LeaseTTL is how long the coordinator waits for a keepalive before it counts the instance as lost, and frees its locks.
func LeaseTTL(d time.Duration) Option { return set(func(o *options) { o.leaseTTL = d }) }

// Removing says that a stop of this instance is for good, not a restart.
func Removing() Option { return set(func(o *options) { o.intent = api.IntentRemove }) }

// Required makes Join fail when the coordinator cannot be reached. By default the instance starts anyway and keeps trying.
func Required() Option { return set(func(o *options) { o.required = true }) }

// ManualReady leaves it to the application to call Ready; by default Run does so when all servers listen.
func ManualReady() Option { return set(func(o *options) { o.manualReady = true }) }
