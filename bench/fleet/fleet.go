package fleet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/bench/wire"
)

// KeepalivesPerTTL is how often a lease is renewed.
const KeepalivesPerTTL = 3

const (
	registeringMax = 64 // at a time
	openMax        = 3 * time.Minute
)

// Mode is how instances keep their leases.
type Mode int32

// Modes.
const (
	Unparked Mode = iota // a keepalive every third of the TTL, answered at once
	Parked               // the next keepalive as soon as the last is answered, each waiting for news for a third of the TTL
	Flat                 // as many as the cluster takes, some at a time at each node
)

// Config says what a fleet is.
type Config struct {
	Addrs     []string // of the nodes: instances speak to them in turn
	Run       string   // names this use: no two at one cluster may share it
	Services  []string // declared already; instances are of them in turn
	Instances int
	TTL       time.Duration
	AtOnce    int           // keepalives on their way at each node in mode Flat
	Work      time.Duration // that each drain takes beside its requests
}

// Fleet is instances that live until Close.
type Fleet struct {
	config Config
	mode   atomic.Int32
	slots  []chan struct{} // by node
	counts []atomic.Uint64 // answered keepalives, by node
	again  []atomic.Uint64 // attempts that brought no answer, by node
	cancel context.CancelCauseFunc
	ctx    context.Context
	joined sync.WaitGroup
	record record
}

var (
	// ErrSlow says that not all instances could be registered in time.
	ErrSlow = errors.New("fleet: the instances could not be registered in time")

	errClosed = errors.New("fleet: closed")
)

// Open registers the instances and makes them ready. They keep their leases from the beginning.
func Open(ctx context.Context, c Config) (*Fleet, error) {
	f := &Fleet{config: c, counts: make([]atomic.Uint64, len(c.Addrs)), again: make([]atomic.Uint64, len(c.Addrs))}
	f.record = newRecord()
	for range c.Addrs {
		f.slots = append(f.slots, make(chan struct{}, max(1, c.AtOnce)))
	}
	f.ctx, f.cancel = context.WithCancelCause(ctx)
	slow := time.AfterFunc(openMax, func() { f.cancel(ErrSlow) })
	defer slow.Stop()
	registering := make(chan struct{}, registeringMax)
	var begun sync.WaitGroup
	for i := range c.Instances {
		begun.Add(1)
		f.joined.Go(func() {
			m := newMember(c.Addrs[i%len(c.Addrs)], c.Run, c.Services[i%len(c.Services)], i, c.TTL)
			defer m.patient.Close()
			registering <- struct{}{} // each is bounded by ctx, so there is room again
			err := f.begin(m)
			<-registering
			begun.Done()
			if err == nil {
				err = f.live(m, i%len(c.Addrs))
			}
			if err != nil {
				f.cancel(fmt.Errorf("instance %s: %w", m.name, err))
			}
		})
	}
	begun.Wait()
	if err := context.Cause(f.ctx); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (f *Fleet) begin(m *member) error {
	if err := context.Cause(f.ctx); err != nil {
		return err
	}
	if err := m.register(f.ctx); err != nil {
		return err
	}
	_, err := m.ready(f.ctx)
	return err
}

// Switch changes how leases are kept. Instances follow when their present wait is over, in a third of the TTL at most.
func (f *Fleet) Switch(to Mode) { f.mode.Store(int32(to)) }

// Err tells why the fleet failed, if it did.
func (f *Fleet) Err() error { return context.Cause(f.ctx) }

// Count is the keepalives that were answered by each node so far.
func (f *Fleet) Count() []uint64 { return load(f.counts) }

// Again is the attempts that brought no answer at each node so far.
func (f *Fleet) Again() []uint64 { return load(f.again) }

func load(counts []atomic.Uint64) []uint64 {
	out := make([]uint64, len(counts))
	for i := range counts {
		out[i] = counts[i].Load()
	}
	return out
}

// Close ends all instances where they stand, as a power cut would, and joins them. The error is that of the first that failed.
func (f *Fleet) Close() error {
	f.cancel(errClosed)
	f.joined.Wait()
	if err := context.Cause(f.ctx); !errors.Is(err, errClosed) {
		return err
	}
	return nil
}

// live keeps the lease, and restarts the instance whenever the cluster wants that.
func (f *Fleet) live(m *member, node int) error {
	period := f.config.TTL / KeepalivesPerTTL
	m.patient.Pause = period/4 + rand.N(period/4) // a thousand that came again at once would be an attack, not a service
	pause := rand.N(period)                       // so that they do not come together
	for f.ctx.Err() == nil {
		mode := Mode(f.mode.Load())
		if mode == Unparked {
			if err := rest(f.ctx, pause); err != nil {
				return err
			}
			pause = period
		}
		lease, err := f.keepalive(m, node, mode)
		if err != nil {
			return err
		}
		if lease.Directive == api.DirectiveDrain {
			f.record.hear(lease.Index, time.Now())
			if err := f.restart(m); err != nil {
				return err
			}
		}
	}
	return context.Cause(f.ctx)
}

func (f *Fleet) keepalive(m *member, node int, mode Mode) (api.InstanceLease, error) {
	if mode == Flat {
		select {
		case f.slots[node] <- struct{}{}:
			defer func() { <-f.slots[node] }()
		case <-f.ctx.Done():
			return api.InstanceLease{}, context.Cause(f.ctx)
		}
	}
	wait := time.Duration(0)
	if mode == Parked {
		wait = f.config.TTL / KeepalivesPerTTL
	}
	before := m.patient.Repeats
	lease, err := m.keepalive(f.ctx, wait)
	f.again[node].Add(uint64(m.patient.Repeats - before))
	if err == nil {
		f.counts[node].Add(1)
	} else if errors.Is(err, wire.ErrRefused) {
		err = fmt.Errorf("its keepalive: %w", err)
	}
	return lease, err
}

// restart drains, leaves and comes back, which frees the place.
func (f *Fleet) restart(m *member) error {
	if err := m.stop(f.ctx, f.config.Work); err != nil {
		return err
	}
	if err := m.register(f.ctx); err != nil {
		return err
	}
	sent := time.Now()
	revision, err := m.ready(f.ctx)
	if err == nil {
		f.record.free(revision, sent)
	}
	return err
}
