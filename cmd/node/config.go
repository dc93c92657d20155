package main

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/quiescehq/quiesce/alert"
	"github.com/quiescehq/quiesce/drain"
	"github.com/quiescehq/quiesce/reconcile"
	"github.com/quiescehq/quiesce/rediscache"
	"github.com/quiescehq/quiesce/replica"
)

// Config is everything that a node can be told. A value comes from its flag, else from its environment variable, else from the file, else
// it is the default.
type Config struct {
	NodeID   string `yaml:"node_id"`
	DataDir  string `yaml:"data_dir"`
	HTTPAddr string `yaml:"http_addr"`
	PeerAddr string `yaml:"peer_addr"`
	LogStore string `yaml:"log_store"`

	HTTPListen string `yaml:"http_listen"`
	PeerListen string `yaml:"peer_listen"`

	Expect []Peer `yaml:"expect"`

	ElectionTimeout time.Duration `yaml:"election_timeout"`
	OnSIGTERM       string        `yaml:"on_sigterm"`
	MinVoters       int           `yaml:"min_voters"`
	DrainDelay      time.Duration `yaml:"drain_delay"`
	QuorumWait      time.Duration `yaml:"quorum_wait"`
	ShutdownTimeout time.Duration `yaml:"shutdown_timeout"`
	OutageMax       time.Duration `yaml:"outage_max"`

	LogFormat string `yaml:"log_format"`
	LogLevel  string `yaml:"log_level"`

	Sources map[string]SourceConfig `yaml:"sources"`
	Targets map[string]TargetConfig `yaml:"targets"`

	Webhooks []WebhookConfig `yaml:"webhooks"`

	Reconcile ReconcileConfig `yaml:"reconcile"`

	Dev bool `yaml:"-"`
}

// Peer is one of the nodes that found the cluster together.
type Peer struct {
	ID       string `yaml:"id"`
	PeerAddr string `yaml:"peer_addr"`
}

// SourceConfig is a MySQL primary. The DSN is in the form of the Go driver: user:password@tcp(host:port)/database.
type SourceConfig struct {
	DSN    string       `yaml:"dsn"`
	Watch  WatchConfig  `yaml:"watch"`
	Outbox OutboxConfig `yaml:"outbox"`
}

// TargetConfig is a Redis: one server, one primary behind sentinels, or a cluster.
type TargetConfig struct {
	Kind             string        `yaml:"kind"`
	Addr             string        `yaml:"addr"`
	Addrs            []string      `yaml:"addrs"`
	Username         string        `yaml:"username"`
	Password         string        `yaml:"password"`
	DB               int           `yaml:"db"`
	MasterName       string        `yaml:"master_name"`
	SentinelUsername string        `yaml:"sentinel_username"`
	SentinelPassword string        `yaml:"sentinel_password"`
	Confirm          ConfirmConfig `yaml:"confirm"`
}

// ConfirmConfig is what has to have a write before it counts as done.
type ConfirmConfig struct {
	Replicas int           `yaml:"replicas"`
	AOF      bool          `yaml:"aof"`
	Timeout  time.Duration `yaml:"timeout"`
}

func (t TargetConfig) redis(name string) rediscache.Config {
	return rediscache.Config{Name: name, Kind: rediscache.Kind(t.Kind), Addr: t.Addr, Addrs: t.Addrs, Username: t.Username, Password: t.Password, DB: t.DB,
		MasterName: t.MasterName, SentinelUsername: t.SentinelUsername, SentinelPassword: t.SentinelPassword,
		Confirm: rediscache.Confirm{Replicas: t.Confirm.Replicas, AOF: t.Confirm.AOF, Timeout: t.Confirm.Timeout}}
}

// where is what the nodes must agree on: where the target leads, without accounts.
func (t TargetConfig) where() string {
	if t.Kind == "" || t.Kind == string(rediscache.Standalone) {
		return fmt.Sprintf("%s/%d", t.Addr, t.DB)
	}
	addrs := slices.Sorted(slices.Values(t.Addrs))
	return fmt.Sprintf("%s://%s/%s/%d", t.Kind, strings.Join(addrs, ","), t.MasterName, t.DB)
}

// WebhookConfig is who is told when a mapping needs somebody. See package alert.
type WebhookConfig struct {
	URL    string        `yaml:"url"`
	Kinds  []alert.Kind  `yaml:"kinds"`
	Lag    time.Duration `yaml:"lag"`
	Secret string        `yaml:"secret"`
}

// ReconcileConfig bounds what passes may cost. What is not given is as in [reconcile.Default].
type ReconcileConfig struct {
	PassesMax         int           `yaml:"passes_max"`          // at work at once
	ThreadsRunningMax int           `yaml:"threads_running_max"` // in MySQL; beyond, passes stand still
	TargetLatencyMax  time.Duration `yaml:"target_latency_max"`  // of a round trip to Redis; beyond, passes stand still
	BacklogMax        int           `yaml:"backlog_max"`         // pending events; beyond, passes stand still
	KeysPerSecond     int           `yaml:"keys_per_second"`     // that all passes read together
	SamplesPerSecond  *int          `yaml:"samples_per_second"`  // events whose keys are looked at later, see reconcile.Agreement
}

func (c *Config) reconcile() reconcile.Config {
	r, given := reconcile.Default(), c.Reconcile
	r.PassesMax = cmp.Or(given.PassesMax, r.PassesMax)
	r.ThreadsRunningMax = cmp.Or(given.ThreadsRunningMax, r.ThreadsRunningMax)
	r.TargetLatencyMax = cmp.Or(given.TargetLatencyMax, r.TargetLatencyMax)
	r.BacklogMax = cmp.Or(given.BacklogMax, r.BacklogMax)
	r.KeysPerSecond = cmp.Or(given.KeysPerSecond, r.KeysPerSecond)
	if given.SamplesPerSecond != nil {
		r.SamplesPerSecond = *given.SamplesPerSecond
	}
	return r
}

func (c *Config) alerts() alert.Config {
	hooks := make([]alert.Hook, 0, len(c.Webhooks))
	for _, w := range c.Webhooks {
		hooks = append(hooks, alert.Hook{URL: w.URL, Kinds: w.Kinds, Lag: w.Lag, Secret: w.Secret})
	}
	return alert.Default(hooks...)
}

func defaults() Config {
	return Config{LogStore: "wal", ElectionTimeout: 400 * time.Millisecond, OnSIGTERM: "leave", MinVoters: 2, DrainDelay: time.Second,
		QuorumWait: 15 * time.Second, ShutdownTimeout: 25 * time.Second, OutageMax: drain.Default().OutageMax, LogFormat: "text", LogLevel: "info"}
}

// devDefaults is a node for a first look: in memory, alone, on loopback.
func devDefaults() Config {
	c := defaults()
	c.Dev, c.NodeID, c.HTTPAddr, c.PeerAddr = true, "dev", "127.0.0.1:7400", "127.0.0.1:0"
	c.ElectionTimeout, c.DrainDelay, c.MinVoters, c.OnSIGTERM = 100*time.Millisecond, 0, 1, "stop"
	return c
}

// usageError is a mistake of the command line or the configuration: exit code 64, one sentence for each.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// setting is one scalar key, with the names by which it can be given.
type setting struct {
	key, help string
	set       func(c *Config, value string) error
}

var settings = []setting{
	{"node_id", "this node's name in the cluster", str(func(c *Config) *string { return &c.NodeID })},
	{"data_dir", "data folder", str(func(c *Config) *string { return &c.DataDir })},
	{"http_addr", "address of the HTTP API, host:port", str(func(c *Config) *string { return &c.HTTPAddr })},
	{"peer_addr", "address for the other nodes, host:port", str(func(c *Config) *string { return &c.PeerAddr })},
	{"http_listen", "where to listen for the HTTP API, when that is not http_addr (address translation, containers)", str(func(c *Config) *string { return &c.HTTPListen })},
	{"peer_listen", "where to listen for the other nodes, when that is not peer_addr", str(func(c *Config) *string { return &c.PeerListen })},
	{"log_store", "where the log lives: wal or boltdb", str(func(c *Config) *string { return &c.LogStore })},
	{"expect", "the founding nodes, this one included: n1=host:port,n2=host:port,...", setExpect},
	{"election_timeout", "time without a leader before an election", dur(func(c *Config) *time.Duration { return &c.ElectionTimeout })},
	{"on_sigterm", "leave (if that is safe) or stop (keep the membership)", str(func(c *Config) *string { return &c.OnSIGTERM })},
	{"min_voters", "voters that a leaving node leaves behind at least", num(func(c *Config) *int { return &c.MinVoters })},
	{"drain_delay", "time between turning readiness off and leaving", dur(func(c *Config) *time.Duration { return &c.DrainDelay })},
	{"quorum_wait", "how long to wait for a peer when stopping would cost the quorum", dur(func(c *Config) *time.Duration { return &c.QuorumWait })},
	{"shutdown_timeout", "bound of the whole shutdown", dur(func(c *Config) *time.Duration { return &c.ShutdownTimeout })},
	{"outage_max", "longest time that the cluster may have been without a leader, for what is decided by the age of reports", dur(func(c *Config) *time.Duration { return &c.OutageMax })},
	{"log_format", "text or json", str(func(c *Config) *string { return &c.LogFormat })},
	{"log_level", "debug, info, warn or error", str(func(c *Config) *string { return &c.LogLevel })},
}

func str(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, v string) error { *field(c) = v; return nil }
}

func dur(field func(*Config) *time.Duration) func(*Config, string) error {
	return func(c *Config, v string) (err error) { *field(c), err = time.ParseDuration(v); return err }
}

func num(field func(*Config) *int) func(*Config, string) error {
	return func(c *Config, v string) (err error) { *field(c), err = strconv.Atoi(v); return err }
}

func setExpect(c *Config, v string) error {
	c.Expect = nil
	for part := range strings.SplitSeq(v, ",") {
		id, addr, ok := strings.Cut(part, "=")
		if !ok {
			return fmt.Errorf("%q is not id=host:port", part)
		}
		c.Expect = append(c.Expect, Peer{ID: id, PeerAddr: addr})
	}
	return nil
}

// load reads flags, environment and file. It reports every fault at once.
func load(args []string, getenv func(string) string, out io.Writer) (Config, error) {
	flags := flag.NewFlagSet("quiesce-node", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // a mistake is told in one sentence, by us
	file := flags.String("config", getenv("QUIESCE_CONFIG"), "configuration file (YAML)")
	dev := flags.Bool("dev", false, "one node in memory on loopback, without security: for a first look")
	version := flags.Bool("version", false, "print the version and exit")
	given := map[string]*string{}
	for _, s := range settings {
		given[s.key] = flags.String(strings.ReplaceAll(s.key, "_", "-"), "", s.help)
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			flags.SetOutput(out)
			flags.Usage()
			return Config{}, err
		}
		return Config{}, usageError{fmt.Errorf("%w (-h lists the flags)", err)}
	}
	switch {
	case *version:
		return Config{}, errVersion
	case flags.NArg() > 0:
		return Config{}, usageError{fmt.Errorf("unexpected argument %q", flags.Arg(0))}
	}
	c := defaults()
	if *dev {
		c = devDefaults()
	}
	if *file != "" {
		if err := c.readFile(*file); err != nil {
			return Config{}, usageError{err}
		}
	}
	set := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { set[f.Name] = true })
	for _, s := range settings {
		value, from := getenv("QUIESCE_"+strings.ToUpper(s.key)), "QUIESCE_"+strings.ToUpper(s.key)
		if name := strings.ReplaceAll(s.key, "_", "-"); set[name] {
			value, from = *given[s.key], "-"+name
		} else if value == "" {
			continue
		}
		if err := s.set(&c, value); err != nil {
			return Config{}, usageError{fmt.Errorf("%s: %w", from, err)}
		}
	}
	return c, c.validate()
}

var errVersion = errors.New("version asked")

const configBytesMax = 1 << 20

func (c *Config) readFile(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("cannot read the configuration: %w", err)
	}
	if len(b) > configBytesMax {
		return fmt.Errorf("configuration file %s is larger than %d bytes", path, configBytesMax)
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("configuration file %s: %s", path, strings.ReplaceAll(err.Error(), " in type main.Config", ", see docs/operations.md"))
	}
	return nil
}

var placeName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

func (c *Config) validate() error {
	if c.Dev && len(c.Expect) == 0 {
		c.Expect = []Peer{{ID: c.NodeID, PeerAddr: c.PeerAddr}}
	}
	var faults []error
	fault := func(format string, a ...any) { faults = append(faults, fmt.Errorf(format, a...)) }
	if !placeName.MatchString(c.NodeID) {
		fault("node_id %q: 1 to 63 of a-z, 0-9, '.', '_', '-', beginning with a letter or digit", c.NodeID)
	}
	if c.DataDir == "" && !c.Dev {
		fault("data_dir is required (or -dev for a node in memory)")
	}
	if c.Dev && c.DataDir != "" {
		fault("-dev keeps nothing on disk: it does not go with data_dir")
	}
	c.validateAddresses(fault)
	oneOf := func(key, value string, allowed ...string) {
		if !slices.Contains(allowed, value) {
			fault("%s %q: one of %s", key, value, strings.Join(allowed, ", "))
		}
	}
	oneOf("log_store", c.LogStore, "wal", "boltdb")
	oneOf("on_sigterm", c.OnSIGTERM, "leave", "stop")
	oneOf("log_format", c.LogFormat, "text", "json")
	oneOf("log_level", c.LogLevel, "debug", "info", "warn", "error")
	if c.ElectionTimeout < 50*time.Millisecond || c.ElectionTimeout > time.Minute {
		fault("election_timeout %s: between 50ms and 1m", c.ElectionTimeout)
	}
	if c.MinVoters < 1 || c.DrainDelay < 0 || c.QuorumWait < 0 || c.ShutdownTimeout <= 0 {
		fault("min_voters, drain_delay, quorum_wait and shutdown_timeout must not be negative, and min_voters at least 1")
	}
	if err := c.drain().Validate(); err != nil {
		fault("outage_max: %s", withoutPrefix(err, drain.ErrConfig))
	}
	for _, name := range sortedKeys(c.Sources) {
		if !placeName.MatchString(name) || c.Sources[name].DSN == "" {
			fault("source %q: a name of a-z, 0-9, '.', '_', '-' and a dsn", name)
		}
		if err := c.Sources[name].Watch.drain().Validate(); err != nil {
			fault("source %q: watch: %s", name, withoutPrefix(err, drain.ErrConfig))
		}
		if limit := c.Sources[name].Outbox.TransactionMax; limit != 0 && (limit < time.Minute || limit > 30*24*time.Hour) {
			fault("source %q: outbox: transaction_max %s: between 1m and 720h", name, limit)
		}
	}
	for _, name := range sortedKeys(c.Targets) {
		t := c.Targets[name]
		if !placeName.MatchString(name) || t.Addr == "" && len(t.Addrs) == 0 {
			fault("target %q: a name of a-z, 0-9, '.', '_', '-' and an addr", name)
		} else if err := t.redis(name).Validate(); err != nil {
			fault("%s", withoutPrefix(err, rediscache.ErrConfig))
		}
	}
	if err := c.reconcile().Validate(); err != nil {
		fault("reconcile: %s", withoutPrefix(err, reconcile.ErrConfig))
	}
	if err := c.alerts().Validate(); err != nil {
		fault("webhooks: %s", withoutPrefix(err, alert.ErrConfig))
	}
	if len(faults) > 0 {
		return usageError{errors.Join(faults...)}
	}
	return nil
}

func (c *Config) validateAddresses(fault func(string, ...any)) {
	for _, a := range []struct{ key, addr string }{{"http_addr", c.HTTPAddr}, {"peer_addr", c.PeerAddr}} {
		host, _, err := net.SplitHostPort(a.addr)
		switch {
		case err != nil:
			fault("%s %q: host:port", a.key, a.addr)
		case host == "" || net.ParseIP(host) != nil && net.ParseIP(host).IsUnspecified():
			fault("%s %q: other nodes and clients are told this address, so it must name a host", a.key, a.addr)
		case c.Dev && !net.ParseIP(host).IsLoopback():
			fault("%s %q: -dev has no security and listens on loopback addresses only", a.key, a.addr)
		}
	}
	for _, a := range []struct{ key, addr string }{{"http_listen", c.HTTPListen}, {"peer_listen", c.PeerListen}} {
		if _, _, err := net.SplitHostPort(a.addr); a.addr != "" && (err != nil || c.Dev) {
			fault("%s %q: host:port, and not with -dev", a.key, a.addr)
		}
	}
	seen := map[string]bool{}
	self := false
	for _, p := range c.Expect {
		if _, _, err := net.SplitHostPort(p.PeerAddr); err != nil || p.ID == "" {
			fault("expect %q: an id and host:port each", p.ID+"="+p.PeerAddr)
		}
		if seen[p.ID] {
			fault("expect names %q twice", p.ID)
		}
		seen[p.ID] = true
		if p.ID == c.NodeID {
			self = true
			if p.PeerAddr != c.PeerAddr {
				fault("expect gives this node the address %q, peer_addr is %q", p.PeerAddr, c.PeerAddr)
			}
		}
	}
	if !self {
		fault("expect must name all founding nodes, this one (%s) included", c.NodeID)
	}
}

func (c *Config) peers() []replica.Peer {
	out := make([]replica.Peer, 0, len(c.Expect))
	for _, p := range c.Expect {
		out = append(out, replica.Peer{ID: p.ID, Addr: p.PeerAddr})
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
