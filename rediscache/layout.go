package rediscache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// layout is who serves which keys, as it was told. It never changes: a Target takes another one.
type layout struct {
	nodes []*node            // the primaries, by address
	owner *[slotCount]uint16 // of each slot, as an index into nodes plus one; 0 is nobody. Nil where one node has every key
	asked time.Time
}

// node is one server and the pool of connections to it.
type node struct {
	addr   string
	client *redis.Client
	disk   atomic.Pointer[diskPolicy]
}

// errNoOwner is a slot that nobody serves.
var errNoOwner = fmt.Errorf("%w: no server of the cluster has the slot", ErrSnooze)

// nodeOf is the index of the node that serves a slot.
func (l *layout) nodeOf(slot uint16) (int, error) {
	if l.owner == nil {
		return 0, nil
	}
	if at := l.owner[slot]; at > 0 {
		return int(at) - 1, nil
	}
	return 0, errNoOwner
}

// same tells whether two layouts give every slot to the same address.
func (l *layout) same(other *layout) bool {
	if !slices.EqualFunc(l.nodes, other.nodes, func(a, b *node) bool { return a.addr == b.addr }) {
		return false
	}
	return l.owner == nil && other.owner == nil || l.owner != nil && other.owner != nil && *l.owner == *other.owner
}

// fleet owns the pools of a target and finds out which of them lead to a primary.
type fleet struct {
	config    Config
	current   atomic.Pointer[layout] // nil: to be asked for
	asking    chan struct{}          // held by who asks; a mutex would not heed a context
	sentinels []*redis.SentinelClient

	mu     sync.Mutex
	pools  map[string]*node
	turn   int // which node of a cluster is asked first
	closed bool
}

func newFleet(config Config) *fleet {
	f := &fleet{config: config, asking: make(chan struct{}, 1), pools: map[string]*node{}}
	switch config.Kind {
	case Standalone:
		f.current.Store(&layout{nodes: []*node{f.pool(config.Addr)}})
	case Sentinel:
		for _, addr := range config.Addrs {
			f.sentinels = append(f.sentinels, redis.NewSentinelClient(sentinelOptions(config, addr)))
		}
	}
	return f
}

// layout is the present one, asked for if there is none.
func (f *fleet) layout(ctx context.Context) (*layout, error) {
	known := f.current.Load()
	if known != nil && (f.config.Kind != Sentinel || time.Since(known.asked) < sentinelAge) {
		return known, nil
	}
	select {
	case f.asking <- struct{}{}:
		defer func() { <-f.asking }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if now := f.current.Load(); now != nil && now != known {
		return now, nil // somebody else asked meanwhile
	}
	found, err := f.ask(ctx)
	switch {
	case err == nil:
		f.keep(found)
		return found, nil
	case known != nil && ctx.Err() == nil && f.current.Load() == known:
		// Nobody answers, and nothing was wrong with what is known: it stays, and is not asked for at every call.
		again := &layout{nodes: known.nodes, owner: known.owner, asked: time.Now()}
		f.current.Store(again)
		return again, nil
	}
	return nil, err
}

// doubt has the next call ask anew, unless that was done since. A standalone server is where it is.
func (f *fleet) doubt(l *layout) {
	if f.config.Kind == Standalone || !f.current.CompareAndSwap(l, nil) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.turn++ // a node that lags behind the others must not be the only one that is asked
}

func (f *fleet) ask(ctx context.Context) (*layout, error) {
	if f.config.Kind == Sentinel {
		return f.askSentinels(ctx)
	}
	return f.askCluster(ctx)
}

// keep takes a layout for the present one and closes the pools that it has no use for. What still runs on them ends with an error.
func (f *fleet) keep(l *layout) {
	l.asked = time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.current.Store(l)
	for addr, n := range f.pools {
		if !slices.Contains(l.nodes, n) && (f.config.Kind == Sentinel || !slices.Contains(f.config.Addrs, addr)) {
			_ = n.client.Close() // nothing is lost but connections
			delete(f.pools, addr)
		}
	}
}

// pool is the node at an address, made at the first need. After close it is one whose calls fail.
func (f *fleet) pool(addr string) *node {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.pools[addr]
	if n == nil {
		n = &node{addr: addr, client: redis.NewClient(clientOptions(f.config, addr))}
		if f.closed {
			_ = n.client.Close()
			return n
		}
		f.pools[addr] = n
	}
	return n
}

func (f *fleet) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	var faults []error
	for _, n := range f.pools {
		faults = append(faults, n.client.Close())
	}
	for _, s := range f.sentinels {
		faults = append(faults, s.Close())
	}
	return errors.Join(faults...)
}

// clientOptions switches off what the client does behind the caller's back: retries of commands and of dials, a second pool for
// pipelines, and notifications that may move a connection to another server while it is in use.
func clientOptions(config Config, addr string) *redis.Options {
	read := readTimeout
	if config.Confirm.wanted() {
		read += config.Confirm.Timeout
	}
	return &redis.Options{
		Addr:                     addr,
		Username:                 config.Username,
		Password:                 config.Password,
		DB:                       config.DB,
		Protocol:                 2, // RESP3 was not faster, and brings push frames
		MaxRetries:               -1,
		DialerRetries:            1,
		DialTimeout:              dialTimeout,
		ReadTimeout:              read,
		WriteTimeout:             writeTimeout,
		ContextTimeoutEnabled:    true,
		PoolSize:                 poolConnsMax,
		MaxActiveConns:           poolConnsMax,
		PoolTimeout:              poolTimeout,
		ConnMaxIdleTime:          idleTimeout,
		PipelinePoolSize:         -1,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

func sentinelOptions(config Config, addr string) *redis.Options {
	options := clientOptions(config, addr)
	options.Username, options.Password, options.DB = config.SentinelUsername, config.SentinelPassword, 0
	options.ReadTimeout = readTimeout
	options.PoolSize, options.MaxActiveConns = sentinelConns, sentinelConns
	return options
}

func sortNodes(nodes []*node) {
	slices.SortFunc(nodes, func(a, b *node) int { return cmp.Compare(a.addr, b.addr) })
}
