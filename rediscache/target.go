package rediscache

import (
	"context"
	"fmt"
	"sync"

	"github.com/redis/go-redis/v9/logging"
)

// Target is one Redis: a server, a primary that sentinels watch, or a cluster. Its methods may be called from any goroutine.
type Target struct {
	config     Config
	fleet      *fleet
	apply      script
	invalidate script
}

// Open checks the configuration. It connects to nothing: a node starts while its Redis is down. It silences the client library's process-wide
// log, which writes to standard error what the caller gets as an error anyway.
func Open(config Config) (*Target, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	logging.Disable()
	return &Target{
		config:     config,
		fleet:      newFleet(config),
		apply:      newScript(applySource),
		invalidate: newScript(invalidateSource),
	}, nil
}

// Close ends the pools. Batches still open end with ErrBatchOver.
func (t *Target) Close() error { return t.fleet.close() }

// Name is the target's name in mappings, metrics and messages.
func (t *Target) Name() string { return t.config.Name }

// Kind is the target's.
func (t *Target) Kind() Kind { return t.config.Kind }

// Identity asks every primary who it is.
func (t *Target) Identity(ctx context.Context) (Identity, error) {
	l, err := t.fleet.layout(ctx)
	if err != nil {
		return Identity{}, t.fail(ctx, "identity", err)
	}
	servers := make([]Server, len(l.nodes))
	if err := atOnce(len(l.nodes), func(i int) (err error) {
		servers[i], err = l.nodes[i].ask(ctx, l.nodes[i].client)
		return err
	}); err != nil {
		t.fleet.doubt(l)
		return Identity{}, t.fail(ctx, "identity", err)
	}
	return t.identify(l, servers), nil
}

// Check tells whether the primaries can confirm what the configuration asks for, as they are now: ErrConfig with the reason if not. Begin refuses
// by itself what can never be; replicas may come.
func (t *Target) Check(ctx context.Context) error {
	identity, err := t.Identity(ctx)
	if err != nil {
		return err
	}
	for _, s := range identity.Servers {
		err := t.config.Confirm.possible(s)
		if err == nil && len(s.Replicas) < t.config.Confirm.Replicas {
			err = fmt.Errorf("%w: confirmation by %d replicas, and %s has %d", ErrConfig, t.config.Confirm.Replicas, s.Addr, len(s.Replicas))
		}
		if err != nil {
			return t.fail(ctx, "check", err)
		}
	}
	return nil
}

func (t *Target) fail(ctx context.Context, what string, err error) error {
	return fmt.Errorf("redis target %q: %s: %w", t.config.Name, what, classify(ctx, err))
}

// atOnce runs f for 0 to n-1, side by side if there is more than one, and gives the first error in this order.
func atOnce(n int, f func(i int) error) error {
	if n == 1 {
		return f(0)
	}
	faults := make([]error, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { faults[i] = f(i) })
	}
	group.Wait()
	for _, err := range faults {
		if err != nil {
			return err
		}
	}
	return nil
}
