package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/quiescehq/quiesce/bench/figure"
	"github.com/quiescehq/quiesce/bench/load"
	"github.com/quiescehq/quiesce/bench/loads"
	"github.com/quiescehq/quiesce/bench/system"
)

// etcdConnections are the numbers of connections that etcd is tried with.
var etcdConnections = [...]int{1, 8}

const (
	crowdMax   = 8 * time.Second
	sessionTTL = 10 * time.Second
	closeMax   = 30 * time.Second
)

// bench is one run.
type bench struct {
	options
	dir      string
	progress io.Writer
	place    figure.Place
	results  results
	runs     int // names each use of the wire client

	quiesce *system.Quiesce
	etcd    *system.Etcd
	redis   *system.Redis
	dev     bool // a development node instead of a cluster, to try the harness
}

// start starts what is needed. All stay up for the whole run: an idle cluster costs the measured one next to nothing, and a fresh start for
// each case would measure empty stores only.
func (b *bench) start(ctx context.Context) (err error) {
	b.say("building the node")
	binary := b.binary
	if binary == "" {
		if binary, err = system.BuildNode(ctx, b.root, b.dir, b.profiles != ""); err != nil {
			return err
		}
	}
	b.say("starting the systems in %s", b.dir)
	folder := func(name string) string { return filepath.Join(b.dir, name) }
	for _, name := range []string{"quiesce", "etcd"} {
		if err := os.Mkdir(folder(name), 0o700); err != nil {
			return err
		}
	}
	c := system.QuiesceConfig{Binary: binary, Dir: folder("quiesce"), Dev: b.dev}
	if b.profiles != "" {
		c.Profiles = b.dir
	}
	if b.quiesce, err = system.StartQuiesce(ctx, c); err != nil {
		return err
	}
	if b.hasEtcd() {
		if b.etcd, err = system.StartEtcd(ctx, folder("etcd")); err != nil {
			return err
		}
	}
	if b.has(partRedis) {
		if b.redis, err = system.StartRedis(ctx, system.RedisConfig{Dir: folder("redis"), Durable: true}); errors.Is(err, system.ErrNoRedis) {
			b.say("no Redis: %v", err)
			err = nil
		}
	}
	return err
}

// pids of all systems.
func (b *bench) pids() []int {
	out := b.quiesce.PIDs()
	if b.etcd != nil {
		out = append(out, b.etcd.PIDs()...)
	}
	if b.redis != nil {
		out = append(out, b.redis.PIDs()...)
	}
	return out
}

func (b *bench) close() error {
	var errs []error
	if b.redis != nil {
		errs = append(errs, b.redis.Close())
	}
	if b.etcd != nil {
		errs = append(errs, b.etcd.Close())
	}
	if b.quiesce != nil {
		errs = append(errs, b.quiesce.Close())
	}
	return errors.Join(errs...)
}

func (b *bench) say(format string, a ...any) { fmt.Fprintf(b.progress, format+"\n", a...) }

func (b *bench) all(ctx context.Context) error {
	for round := range b.rounds {
		last := round == b.rounds-1
		for _, workers := range b.workers {
			b.say("round %d of %d, %d workers", round+1, b.rounds, workers)
			if err := b.cycles(ctx, workers, last); err != nil {
				return err
			}
		}
		if b.has(partHandOff) {
			b.say("round %d of %d, hand-off", round+1, b.rounds)
			if err := b.handOffs(ctx, last); err != nil {
				return err
			}
		}
	}
	if b.has(partWaiters) {
		if err := b.crowds(ctx); err != nil {
			return err
		}
	}
	if b.has(partKeepalive) {
		return b.keepalives(ctx)
	}
	return nil
}

// cycles measures each kind of lock once, etcd's two between ours.
func (b *bench) cycles(ctx context.Context, workers int, last bool) error {
	if b.has(partSDK) {
		if err := b.sample(ctx, caseOf{partSDK, workers, b.quiesce.PIDs(), last}, b.openSDK(1), loads.Cycle); err != nil {
			return err
		}
	}
	if b.has(partSDK) || b.has(partHTTP) {
		if err := b.sample(ctx, caseOf{etcdWith(etcdConnections[0]), workers, b.etcd.PIDs(), false}, b.openEtcd(etcdConnections[0], etcdConnections[0]), loads.Cycle); err != nil {
			return err
		}
	}
	if b.has(partHTTP) {
		if err := b.sample(ctx, caseOf{partHTTP, workers, b.quiesce.PIDs(), last}, b.openWire(workers), loads.Cycle); err != nil {
			return err
		}
	}
	if more := etcdConnections[1]; workers > 1 && (b.has(partSDK) || b.has(partHTTP)) {
		if err := b.sample(ctx, caseOf{etcdWith(more), workers, b.etcd.PIDs(), false}, b.openEtcd(more, more), loads.Cycle); err != nil {
			return err
		}
	}
	if b.redis != nil {
		open := func(ctx context.Context) (loads.Locks, error) { return loads.NewRedis(ctx, b.redis.Addr, workers) }
		return b.sample(ctx, caseOf{partRedis, workers, b.redis.PIDs(), false}, open, loads.Cycle)
	}
	return nil
}

func (b *bench) handOffs(ctx context.Context, last bool) error {
	step := func(locks loads.Locks, _ int) load.Step { return loads.HandOff(locks) }
	if err := b.sample(ctx, caseOf{partHandOff, b.contend, b.quiesce.PIDs(), last}, b.openSDK(b.contend), step); err != nil {
		return err
	}
	for _, connections := range etcdConnections {
		c := caseOf{partHandOff + "-" + etcdWith(connections), b.contend, b.etcd.PIDs(), false}
		if err := b.sample(ctx, c, b.openEtcd(connections, b.contend), step); err != nil {
			return err
		}
	}
	return nil
}

type opener func(context.Context) (loads.Locks, error)

func (b *bench) openSDK(sessions int) opener {
	return func(ctx context.Context) (loads.Locks, error) { return loads.NewSDK(ctx, b.quiesce.Addrs, sessions) }
}

func (b *bench) openEtcd(connections, sessions int) opener {
	return func(ctx context.Context) (loads.Locks, error) {
		leader, err := b.etcd.Leader(ctx)
		if err != nil {
			return nil, err
		}
		return loads.NewEtcd(ctx, leader, connections, sessions)
	}
}

func (b *bench) openWire(workers int) opener {
	return func(ctx context.Context) (loads.Locks, error) {
		addr, err := b.leaderAddr(ctx)
		if err != nil {
			return nil, err
		}
		return loads.NewWire(ctx, addr, b.runName(), workers)
	}
}

func (b *bench) leaderAddr(ctx context.Context) (string, error) {
	leader, err := b.quiesce.Leader(ctx)
	if err != nil {
		return "", err
	}
	return b.quiesce.Addrs[leader], nil
}

func (b *bench) runName() string {
	b.runs++
	return fmt.Sprintf("wire%d", b.runs)
}

// etcdWith names etcd's results with some connections.
func etcdWith(connections int) string { return fmt.Sprintf("etcd%d", connections) }

// caseOf is one case of one round.
type caseOf struct {
	name    string
	workers int
	servers []int // pids of what is measured
	profile bool
}

// sample measures one case with fresh clients and keeps the result.
func (b *bench) sample(ctx context.Context, c caseOf, open opener, step func(loads.Locks, int) load.Step) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s with %d workers: %w", c.name, c.workers, err)
		}
	}()
	locks, err := open(ctx)
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeMax)
		defer cancel()
		err = errors.Join(err, locks.Close(closing))
	}()
	stop := noStop
	if c.profile && b.profiles != "" {
		if stop, err = b.profile(ctx, fmt.Sprintf("%s-%d", c.name, c.workers)); err != nil {
			return err
		}
	}
	m, err := startMeter(c.servers, b.pids())
	if err != nil {
		return errors.Join(err, stop(ctx))
	}
	s, err := load.Run(ctx, load.Loop{Workers: c.workers, Warm: b.warm, Measure: b.measure}, step(locks, c.workers))
	if err := errors.Join(err, m.stop(&s), stop(ctx)); err != nil {
		return err
	}
	b.results.add(c.name, c.workers, s)
	b.say("  %-14s %9.0f /s  p50 %8.2f ms  p99 %8.2f ms  max %8.2f ms  others %.1f cores", c.name, s.Rate, load.Ms(s.P50), load.Ms(s.P99), load.Ms(s.Max), s.Others)
	return nil
}

// crowds measures many waiters on one lock, once for each side.
func (b *bench) crowds(ctx context.Context) error {
	b.say("%d waiters on one lock", b.waiters)
	leader, err := b.quiesce.Leader(ctx)
	if err != nil {
		return err
	}
	parked := func(ctx context.Context, _ string) (int, error) { return b.quiesce.InFlight(ctx, leader) }
	if err := b.crowd(ctx, partWaiters, b.openSDK(b.waiters+1), func(loads.Locks) queued { return parked }); err != nil {
		return err
	}
	etcd := b.openEtcd(etcdConnections[0], b.waiters+1)
	// Etcd's count includes the holder.
	return b.crowd(ctx, partWaiters+"-etcd", etcd, func(l loads.Locks) queued {
		return func(ctx context.Context, name string) (int, error) {
			n, err := l.(*loads.Etcd).Queued(ctx, name)
			return n - 1, err
		}
	})
}

type queued = func(context.Context, string) (int, error)

func (b *bench) crowd(ctx context.Context, name string, open opener, count func(loads.Locks) queued) (err error) {
	locks, err := open(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeMax)
		defer cancel()
		err = errors.Join(err, locks.Close(closing))
	}()
	crowd := loads.Crowd{Waiters: b.waiters, AtMost: crowdMax, Queued: count(locks)}
	stop := noStop
	if name == partWaiters && b.profiles != "" {
		if stop, err = b.profile(ctx, name); err != nil {
			return err
		}
	}
	s, err := crowd.Run(ctx, locks)
	if err := errors.Join(err, stop(ctx)); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	b.results.add(name, b.waiters, s)
	b.say("  %-14s %9.0f /s  p50 %8.2f ms  p99 %8.2f ms  (%d hand-offs)", name, s.Rate, load.Ms(s.P50), load.Ms(s.P99), s.Steps)
	return nil
}
