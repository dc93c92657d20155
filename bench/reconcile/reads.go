package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/bench/load"
	"github.com/quiescehq/quiesce/mapping"
)

const (
	readsFor     = 8 * time.Second
	readersAtMax = 32
)

// readsBeside compares what an application's reads take while a throttled pass runs with what they take without, in turn.
func (b *bench) readsBeside(ctx context.Context, w *world) error {
	const name = "read"
	if err := w.fillTable(ctx, b.rows); err != nil {
		return err
	}
	if err := w.fillCache(ctx, name, mapping.JSON); err != nil {
		return err
	}
	if err := w.declare(ctx, name, mapping.JSON); err != nil {
		return err
	}
	window := readsFor
	if b.short {
		window = 2 * time.Second // a pass logs its progress every second
	}
	rate := min(uint64(b.throttle), uint64(float64(b.rows)/(2*window.Seconds()))) // the pass outlasts the reads
	var alone, beside []load.Sample
	for range b.rounds {
		quiet, err := b.read(ctx, w, name, window)
		if err != nil {
			return err
		}
		id, err := w.start(ctx, begin{Mapping: name, Mode: api.PassDryRun, Rate: rate})
		if err != nil {
			return err
		}
		busy, err := b.read(ctx, w, name, window)
		if err != nil {
			return err
		}
		if err := w.cancel(ctx, id); err != nil {
			return err
		}
		alone, beside = append(alone, quiet), append(beside, busy)
	}
	ratio := load.Ratios(beside, alone, load.P99Ms)
	b.figures["read_p99_ms_alone"], b.figures["read_p99_ms_beside_pass"], b.figures["read_p99_ratio"] = load.Median(load.Of(alone, load.P99Ms)), load.Median(load.Of(beside, load.P99Ms)), ratio.Median
	b.text("%d reads/s beside a pass of %d rows/s\tp99 %.2f ms, without %.2f ms: %.2f times [%.2f..%.2f]", b.reads, rate, load.Median(load.Of(beside, load.P99Ms)),
		load.Median(load.Of(alone, load.P99Ms)), ratio.Median, ratio.Low, ratio.High)
	return nil
}

// cancel ends a pass that should still be running.
func (w *world) cancel(ctx context.Context, id uint64) error {
	var p pass
	if err := w.client.Call(ctx, "GET", fmt.Sprintf("/v1/passes/%d", id), nil, &p); err != nil {
		return err
	}
	if p.State != "running" || p.Counts.Rows == 0 {
		return fmt.Errorf("%w: it should be under way: %+v", errPass, p)
	}
	return w.client.Call(ctx, "POST", fmt.Sprintf("/v1/passes/%d/cancel", id), struct{}{}, nil)
}

// read reads a row and a key at a steady rate. A read that comes late counts from when it was due.
func (b *bench) read(ctx context.Context, w *world, name string, window time.Duration) (load.Sample, error) {
	total := int(window.Seconds() * float64(b.reads))
	took, errs := make([]time.Duration, total), make([]error, total)
	slots := make(chan struct{}, readersAtMax)
	began := time.Now()
	var joined sync.WaitGroup
	for i := range total {
		due := began.Add(time.Duration(float64(i) / float64(b.reads) * float64(time.Second)))
		if err := wait(ctx, time.Until(due)); err != nil {
			break
		}
		slots <- struct{}{}
		joined.Go(func() {
			defer func() { <-slots }()
			errs[i] = w.readOne(ctx, name, 1+rand.IntN(b.rows))
			took[i] = time.Since(due)
		})
	}
	joined.Wait()
	for _, err := range errs {
		if err != nil {
			return load.Sample{}, err
		}
	}
	return load.NewSample(took, window), ctx.Err()
}

func (w *world) readOne(ctx context.Context, name string, id int) error {
	var text string
	if err := w.DB.QueryRowContext(ctx, "SELECT name FROM items WHERE id = ?", id).Scan(&text); err != nil {
		return err
	}
	return w.Cache.Get(ctx, fmt.Sprintf("%s:%d", name, id)).Err()
}
