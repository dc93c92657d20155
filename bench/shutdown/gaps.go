package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quiescehq/quiesce/bench/load"
	"github.com/quiescehq/quiesce/bench/loads"
	"github.com/quiescehq/quiesce/bench/outage"
	"github.com/quiescehq/quiesce/bench/system"
)

const (
	steadyFor  = time.Second      // before and after the end of the leader
	steadyMax  = 30 * time.Second // for writes to come through
	steadyPoll = 10 * time.Millisecond
	writesMin  = 50 // of each client in each of those times; else nothing was measured
)

var (
	errFewWrites = errors.New("too few writes came through for a gap to mean anything")
	errNotLeft   = errors.New("the node stopped without leaving the cluster")
	errRefused   = errors.New("a write was refused")
)

// planned stops leaders in their own way. Each leaves the cluster and comes back before the next goes.
func (b *bench) planned(ctx context.Context, q *system.Quiesce) error {
	return b.gaps(ctx, q, partPlanned, func(ctx context.Context, leader, survivor int) error {
		if err := q.Terminate(ctx, leader); err != nil {
			return err
		}
		left, err := q.Left(ctx, leader, survivor)
		if err == nil && !left {
			err = errNotLeft
		}
		return err
	})
}

// killed kills leaders.
func (b *bench) killed(ctx context.Context, q *system.Quiesce) error {
	return b.gaps(ctx, q, partKill, func(_ context.Context, leader, _ int) error { return q.Crash(leader) })
}

// gaps measures, run by run, the longest time in which a client at a node that stays had no acknowledgement, and the longest in which none
// of them had any.
func (b *bench) gaps(ctx context.Context, q *system.Quiesce, name string, end func(ctx context.Context, leader, survivor int) error) error {
	var worst, common []time.Duration
	for run := range b.runs {
		leader, err := q.AwaitLeader(ctx)
		if err != nil {
			return err
		}
		each, all, err := b.gap(ctx, q, fmt.Sprintf("%s%d", name, run), leader, end)
		if err != nil {
			return fmt.Errorf("run %d: %w", run+1, err)
		}
		worst, common = append(worst, each), append(common, all)
		b.say("  run %d of %d: %.1f ms at one node, %.1f ms at all", run+1, b.runs, load.Ms(each), load.Ms(all))
		if err := q.Restart(ctx, leader); err != nil {
			return err
		}
	}
	s, together := load.NewSample(worst, 0), load.NewSample(common, 0)
	b.put(name+"_gap", s)
	b.figures[name+"_gap_common_ms_p50"], b.figures[name+"_gap_common_ms_max"] = load.Ms(together.P50), load.Ms(together.Max)
	b.row("write gap, "+name+" leader, one client", s)
	b.row("write gap, "+name+" leader, all clients together", together)
	return nil
}

func (b *bench) gap(ctx context.Context, q *system.Quiesce, run string, leader int, end func(ctx context.Context, leader, survivor int) error) (each, all time.Duration, err error) {
	clients, stop, err := b.startClients(ctx, q, run)
	defer stop()
	if err != nil {
		return 0, 0, err
	}
	var survivors []*outage.Client
	survivor := (leader + 1) % len(clients)
	for i, c := range clients {
		if i != leader {
			survivors = append(survivors, c)
		}
	}
	if err := steady(ctx, clients); err != nil {
		return 0, 0, err
	}
	from := time.Now()
	if err := end(ctx, leader, survivor); err != nil {
		return 0, 0, err
	}
	_, _ = clients[leader].Stop() // its node is gone: what it still asks for is refused
	if err := steady(ctx, survivors); err != nil {
		return 0, 0, err
	}
	return gapsOf(survivors, from, time.Now())
}

func gapsOf(clients []*outage.Client, from, to time.Time) (each, all time.Duration, err error) {
	var acks []time.Time
	for _, c := range clients {
		seen, err := c.Stop()
		if err != nil {
			return 0, 0, fmt.Errorf("%w: %w", errRefused, err)
		}
		each = max(each, outage.Longest(seen.Acks, from, to))
		acks = append(acks, seen.Acks...)
	}
	return each, outage.Longest(acks, from, to), nil
}

func (b *bench) startClients(ctx context.Context, q *system.Quiesce, run string) (clients []*outage.Client, stop func(), err error) {
	stop = func() {
		for _, c := range clients {
			_, _ = c.Stop() // its error has been looked at where it matters
		}
	}
	for node, addr := range q.Addrs {
		c, err := outage.Start(ctx, outage.Config{Addr: addr, Name: fmt.Sprintf("%s-n%d", run, node+1), Every: b.every})
		if err != nil {
			return clients, stop, err
		}
		clients = append(clients, c)
	}
	return clients, stop, nil
}

// steady returns when every client has had its acknowledgements for some time, after now.
func steady(ctx context.Context, clients []*outage.Client) error {
	ctx, cancel := context.WithTimeout(ctx, steadyMax)
	defer cancel()
	ticker := time.NewTicker(steadyPoll)
	defer ticker.Stop()
	for began := time.Now(); ; {
		done := time.Since(began) >= steadyFor
		for _, c := range clients {
			if err := c.Err(); err != nil {
				return fmt.Errorf("%w: %w", errRefused, err)
			}
			done = done && c.Since(began) >= writesMin
		}
		if done {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", errFewWrites, context.Cause(ctx))
		}
	}
}

// calmRun counts elections while nothing fails and both cores are busy.
func (b *bench) calmRun(ctx context.Context, q *system.Quiesce) error {
	clients, stop, err := b.startClients(ctx, q, partCalm)
	defer stop()
	if err != nil {
		return err
	}
	if err := steady(ctx, clients); err != nil {
		return err
	}
	before, err := highestTerm(ctx, q)
	if err != nil {
		return err
	}
	from := time.Now()
	cycles, err := b.busy(ctx, q)
	if err != nil {
		return err
	}
	to := time.Now()
	after, err := highestTerm(ctx, q)
	if err != nil {
		return err
	}
	each, all, err := gapsOf(clients, from, to)
	if err != nil {
		return err
	}
	b.figures["elections"], b.figures["calm_seconds"] = float64(after-before), to.Sub(from).Seconds()
	b.figures["calm_gap_ms_max"], b.figures["calm_gap_common_ms_max"], b.figures["calm_cycles_rate"] = load.Ms(each), load.Ms(all), cycles
	b.text("elections in %s without faults, %.0f lock cycles/s beside %d open-loop clients\t%d (longest gap %.0f ms)", to.Sub(from).Round(time.Second), cycles, len(clients), after-before, load.Ms(each))
	return nil
}

// busy is a closed loop of locks through the client, as fast as the cluster takes them.
func (b *bench) busy(ctx context.Context, q *system.Quiesce) (rate float64, err error) {
	if b.load == 0 {
		return 0, wait(ctx, b.calm)
	}
	locks, err := loads.NewSDK(ctx, q.Addrs, 1)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, locks.Close(context.WithoutCancel(ctx))) }()
	s, err := load.Run(ctx, load.Loop{Workers: b.load, Measure: b.calm}, loads.Cycle(locks, b.load))
	return s.Rate, err
}

func highestTerm(ctx context.Context, q *system.Quiesce) (term uint64, err error) {
	for node := range q.Addrs {
		status, err := q.Status(ctx, node)
		if err != nil {
			return 0, err
		}
		term = max(term, status.Term)
	}
	return term, nil
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
