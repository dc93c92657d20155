package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quiescehq/quiesce/bench/load"
	"github.com/quiescehq/quiesce/bench/process"
	"github.com/quiescehq/quiesce/mapping"
)

// deliverRows is what the delivery reads at a time, and so does the bare pipeline.
const deliverRows = 500

// delivering are the rounds of one encoding. Rates are events a second.
type delivering struct {
	encoding   mapping.Encoding
	ours, bare []load.Sample
}

// deliver measures how fast preloaded events reach the cache and are acknowledged in the log, beside the same work without a coordinator.
func (b *bench) deliver(ctx context.Context, w *world) error {
	if err := w.fill(ctx, b.events); err != nil {
		return err
	}
	results := []*delivering{{encoding: mapping.JSON}, {encoding: mapping.Hash}}
	for _, r := range results {
		if err := w.declare(ctx, r.name(), itemsSpec(r.name(), r.encoding, mapping.WriteThrough)); err != nil {
			return err
		}
		if err := w.pause(ctx, r.name()); err != nil {
			return err
		}
	}
	for round := range b.rounds {
		for _, r := range results {
			if err := b.deliverRound(ctx, w, r, round); err != nil {
				return fmt.Errorf("%s: %w", r.encoding, err)
			}
		}
	}
	b.text("delivered, events/s\tcoordinator\tbare pipeline\tratio\tCPU us of an event: nodes, bare")
	for _, r := range results {
		ratio := load.Ratios(r.ours, r.bare, load.Rate)
		ours, bare := load.Median(load.Of(r.ours, load.Rate)), load.Median(load.Of(r.bare, load.Rate))
		b.figures["delivery_ratio_bare_"+r.name()] = ratio.Median
		b.figures["delivery_per_s_"+r.name()], b.figures["delivery_per_s_bare_"+r.name()] = ours, bare
		b.figures["delivery_cpu_us_"+r.name()], b.figures["delivery_cpu_us_bare_"+r.name()] = load.Median(load.Of(r.ours, load.ServersUs)), load.Median(load.Of(r.bare, load.ServersUs))
		b.text("%s\t%.0f\t%.0f\t%s\t%.1f, %.1f", r.encoding, ours, bare, spread(ratio), load.Median(load.Of(r.ours, load.ServersUs)), load.Median(load.Of(r.bare, load.ServersUs)))
	}
	return nil
}

func (b *bench) deliverRound(ctx context.Context, w *world, r *delivering, round int) error {
	p, err := newPipeline(ctx, w, b.root, r.encoding, b.events)
	if err != nil {
		return err
	}
	defer func() { _ = p.Close() }()
	bare := func() error {
		if err := w.Cache.FlushAll(ctx).Err(); err != nil {
			return err
		}
		s, err := metered(b.events, nil, func() error { return p.run(ctx) })
		r.bare = append(r.bare, s)
		return errors.Join(err, w.verify(ctx, r.name(), r.encoding, b.events))
	}
	ours := func() error {
		if err := errors.Join(w.preload(ctx, r.name(), b.events, eventsPerCall, 2), w.Cache.FlushAll(ctx).Err()); err != nil {
			return err
		}
		stop, err := b.profile(ctx, w, "deliver-"+r.name())
		if err != nil {
			return err
		}
		s, err := metered(b.events, w.q.PIDs(), func() error { return errors.Join(w.resume(ctx, r.name()), w.drained(ctx)) })
		r.ours = append(r.ours, s)
		return errors.Join(err, stop(ctx), w.pause(ctx, r.name()), w.verify(ctx, r.name(), r.encoding, b.events))
	}
	sides := []func() error{bare, ours}
	if round%2 == 1 {
		sides[0], sides[1] = sides[1], sides[0]
	}
	for _, side := range sides {
		if err := side(); err != nil {
			return err
		}
	}
	b.say("  %s: coordinator %.0f, bare %.0f events/s", r.encoding, last(r.ours).Rate, last(r.bare).Rate)
	return nil
}

// metered measures how long something takes that handles so many events, and the CPU of some processes, of this one if none are named.
func metered(events int, pids []int, do func() error) (load.Sample, error) {
	cpu := func() (time.Duration, error) {
		if pids == nil {
			return ownCPU()
		}
		return process.CPU(pids...)
	}
	before, beforeErr := cpu()
	began := time.Now()
	err := do()
	took := time.Since(began)
	after, afterErr := cpu()
	s := load.Sample{Steps: events, All: events, Rate: float64(events) / took.Seconds(), Servers: after - before}
	return s, errors.Join(err, beforeErr, afterErr)
}

// name of the mapping: that of its encoding.
func (d *delivering) name() string { return string(d.encoding) }
