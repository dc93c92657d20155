package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/quiescehq/quiesce/bench/load"
)

// stoppedNodes leave one that cannot agree with anybody.
const stoppedNodes = 2

// inserts measures transactions that write a row and its outbox row, while all is well and while nothing can be proposed. Then all of them must reach the cache.
func (b *bench) inserts(ctx context.Context, w *world) error {
	t := tiers[3]
	t.table = "ins"
	if err := w.declareTier(ctx, t); err != nil {
		return err
	}
	r := &tierRun{tier: t, w: w, nudges: newNudger(w)}
	defer r.nudges.Close()
	first := 0
	window := func() (load.Sample, error) {
		n := int(b.blocked.Seconds() * float64(b.rate))
		base := first
		first += n
		var mu sync.Mutex
		var took []time.Duration
		err := paced(ctx, n, b.rate, func(ctx context.Context, k int) error {
			began := time.Now()
			if _, err := r.change(ctx, r, base+k+1); err != nil {
				return err
			}
			r.nudges.nudge()
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(began))
			return nil
		})
		return load.NewSample(took, 0), err
	}
	if _, err := window(); err != nil { // what is slow once: connections, statements, pages
		return err
	}
	before, err := window()
	if err != nil {
		return err
	}
	blocked, err := w.whileStopped(ctx, window)
	if err != nil {
		return fmt.Errorf("while two nodes are stopped: %w", err)
	}
	if err := b.allDelivered(ctx, w, t.table, first); err != nil {
		return err
	}
	after, err := window()
	if err != nil {
		return err
	}
	b.put("insert", before)
	b.put("insert_blocked", blocked)
	b.put("insert_after", after)
	b.figures["insert_p99_ms"], b.figures["insert_p99_blocked_ms"] = load.Ms(before.P99), load.Ms(blocked.P99)
	b.text("transactions with a row and its outbox row, %d/s\tp50 ms\tp99 ms\tmax ms", b.rate)
	for _, row := range []struct {
		name string
		load.Sample
	}{{"all nodes", before}, {fmt.Sprintf("%d of 3 nodes stopped for %s", stoppedNodes, b.blocked), blocked}, {"all nodes again", after}} {
		b.text("%s\t%.2f\t%.2f\t%.2f", row.name, load.Ms(row.P50), load.Ms(row.P99), load.Ms(row.Max))
	}
	return nil
}

// whileStopped stops the followers with SIGSTOP: their connections stay, and what the leader proposes hangs.
func (w *world) whileStopped(ctx context.Context, do func() (load.Sample, error)) (s load.Sample, err error) {
	leader, err := w.q.AwaitLeader(ctx)
	if err != nil {
		return s, err
	}
	signal := func(sig syscall.Signal) error {
		var errs []error
		for i := range w.q.Addrs {
			if i != leader {
				errs = append(errs, syscall.Kill(w.q.PID(i), sig))
			}
		}
		return errors.Join(errs...)
	}
	defer func() { err = errors.Join(err, signal(syscall.SIGCONT)) }()
	if err := signal(syscall.SIGSTOP); err != nil {
		return s, err
	}
	return do()
}

// allDelivered waits until the cache has a key for each row.
func (b *bench) allDelivered(ctx context.Context, w *world, table string, rows int) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, drainedMax)
	defer cancel()
	for {
		there, err := w.cached(ctx, table, rows)
		if err != nil {
			return err
		}
		if there == rows {
			break
		}
		if over := wait(ctx, pollEvery); over != nil {
			return fmt.Errorf("%w: %d keys for %d rows of %s: %w", errInvisible, there, rows, table, over)
		}
	}
	b.figures["insert_recovery_s"] = time.Since(began).Seconds()
	return nil
}
