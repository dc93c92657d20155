package client

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"time"

	"github.com/quiescehq/quiesce/api"
)

// leaseTTLDefault is longer than a failover of the coordinator, and short enough that a lost instance is noticed soon.
const (
	leaseTTLDefault = 10 * time.Second
	leaseTTLMin     = api.SessionTTLMinMs * time.Millisecond
	leaseTTLMax     = api.SessionTTLMaxMs * time.Millisecond
)

// Intent says what a stop is for.
type Intent string

// The intents.
const (
	Restart Intent = api.IntentRestart // another instance takes the place soon: it is kept in the budget
	Remove  Intent = api.IntentRemove  // nobody does
)

func (i Intent) check() error {
	if i != "" && i != Restart && i != Remove {
		return fmt.Errorf("%w: intent %q is neither %s nor %s", ErrConfig, i, Restart, Remove)
	}
	return nil
}

// Option configures Join.
type Option func(*options) error

type options struct {
	config       Config
	name         string
	address      string
	labels       map[string]string
	platform     string
	platformSaid bool // not to be guessed
	intent       Intent
	grace        time.Duration
	lameDuck     time.Duration
	leaseTTL     time.Duration
	signals      <-chan os.Signal
	required     bool
	manualReady  bool
}

func collect(opts []Option) (options, error) {
	o := options{name: defaultName(), intent: Restart, grace: GraceDefault, leaseTTL: leaseTTLDefault}
	for _, opt := range opts {
		if err := opt(&o); err != nil {
			return o, err
		}
	}
	return o, o.check()
}

// check finds here what the coordinator would refuse: it may be away now, and the refusal would come when nobody reads it.
func (o *options) check() error {
	switch {
	case o.name == "" || len(o.name) > api.NameBytesMax:
		return fmt.Errorf("%w: the name has %d bytes, and must have 1 to %d", ErrConfig, len(o.name), api.NameBytesMax)
	case len(o.address) > api.AddressBytesMax:
		return fmt.Errorf("%w: the address has more than %d bytes", ErrConfig, api.AddressBytesMax)
	case o.leaseTTL < leaseTTLMin || o.leaseTTL > leaseTTLMax:
		return fmt.Errorf("%w: the lease TTL is %v, and must be between %v and %v", ErrConfig, o.leaseTTL, leaseTTLMin, leaseTTLMax)
	case o.lameDuck < 0:
		return fmt.Errorf("%w: the lame duck time is below 0", ErrConfig)
	case o.platform != "" && o.platform != api.PlatformKubernetes:
		return fmt.Errorf("%w: platform %q is not known; leave it out", ErrConfig, o.platform)
	case len(o.labels) > api.LabelsMax:
		return fmt.Errorf("%w: %d labels, and at most %d", ErrConfig, len(o.labels), api.LabelsMax)
	}
	for key, value := range o.labels {
		if key == "" || len(key) > api.LabelKeyMax || len(value) > api.LabelValueMax {
			return fmt.Errorf("%w: label %q: keys have 1 to %d bytes, values up to %d", ErrConfig, key, api.LabelKeyMax, api.LabelValueMax)
		}
	}
	return nil
}

// defaultName is unique among the live processes of a cluster: two that share a name would fence each other.
func defaultName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s-%d", host, os.Getpid())
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

// Labels say more about the instance, for people and filters. At most 16; keys have up to 64 bytes, values up to 256.
func Labels(labels map[string]string) Option {
	return set(func(o *options) { o.labels = maps.Clone(labels) })
}

// Platform says what ends the instance: "kubernetes", or "" for anything else. A pod that is signalled is out of the endpoints already,
// whoever grants it what, so it does not wait for its grant. It wins over what FromEnv guesses.
func Platform(name string) Option {
	return set(func(o *options) { o.platform, o.platformSaid = name, true })
}

// Signals makes Run heed the signals of a channel instead of SIGTERM and SIGINT of the process: for programs that handle signals
// themselves, and for tests. The channel may be closed when no more come.
func Signals(from <-chan os.Signal) Option { return set(func(o *options) { o.signals = from }) }

// Grace is the time between SIGTERM and the platform's SIGKILL. The phases are scaled to it.
func Grace(d time.Duration) Option { return set(func(o *options) { o.grace = d }) }

// LameDuck is how long the instance serves after it stopped being ready: at least two probe periods of the balancer in front of it.
func LameDuck(d time.Duration) Option { return set(func(o *options) { o.lameDuck = d }) }

// LeaseTTL is how long the coordinator waits for a keepalive before it counts the instance as lost, and frees its locks.
func LeaseTTL(d time.Duration) Option { return set(func(o *options) { o.leaseTTL = d }) }

// Removing says that a stop of this instance is for good, not a restart.
func Removing() Option { return set(func(o *options) { o.intent = Remove }) }

// Required makes Join fail when the coordinator cannot be reached. By default the instance starts anyway and keeps trying.
func Required() Option { return set(func(o *options) { o.required = true }) }

// ManualReady leaves it to the application to call Ready; by default Run does so when all servers listen.
func ManualReady() Option { return set(func(o *options) { o.manualReady = true }) }
