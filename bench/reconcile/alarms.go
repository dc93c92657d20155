package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/mapping"
)

const (
	writers = 16
	burst   = 10 * time.Millisecond
)

// alarms runs passes under writes, each announced in its own transaction. Nothing is ever wrong but what is on its way: whatever a pass calls a difference is a false alarm.
func (b *bench) alarms(ctx context.Context, w *world) error {
	const name = "hot"
	if err := w.fillTable(ctx, b.hot); err != nil {
		return err
	}
	if err := w.fillCache(ctx, name, mapping.JSON); err != nil {
		return err
	}
	if err := w.declare(ctx, name, mapping.JSON); err != nil {
		return err
	}
	write, stop := b.write(ctx, w, name)
	defer stop()
	began := time.Now()
	var rows, hot, differences uint64
	for range b.passes {
		p, err := w.pass(ctx, begin{Mapping: name, Mode: api.PassDryRun})
		if err != nil {
			return err
		}
		if p.State != "done" || p.Counts.Rows != uint64(b.hot) {
			return fmt.Errorf("%w: %+v", errPass, p)
		}
		rows, hot, differences = rows+p.Counts.Rows, hot+p.Counts.Hot, differences+p.Counts.Differences
	}
	rate := float64(write.Load()) / time.Since(began).Seconds()
	if err := stop(); err != nil {
		return err
	}
	if err := w.drained(ctx); err != nil {
		return err
	}
	if _, err := w.cleanPass(ctx, name, b.hot); err != nil { // at rest everything agrees: the passes had nothing to find
		return err
	}
	b.figures["false_alarms_under_load"], b.figures["writes_per_s"], b.figures["hot_share"] = float64(differences), rate, float64(hot)/float64(rows)
	b.text("%d passes over %d rows under %.0f writes/s\t%d false alarms; %.2f %% of the rows had a change on its way when they were seen", b.passes, b.hot, rate, differences, 100*float64(hot)/float64(rows))
	return nil
}

// write changes rows at the rate that was asked for, as far as the server takes it, until stop is called.
func (b *bench) write(ctx context.Context, w *world, name string) (done *atomic.Uint64, stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	done = new(atomic.Uint64)
	tokens := make(chan struct{}, b.writes)
	var joined sync.WaitGroup
	var failed atomic.Pointer[error]
	joined.Go(func() {
		began, given := time.Now(), 0
		for wait(ctx, burst) == nil {
			for due := int(time.Since(began).Seconds() * float64(b.writes)); given < due; given++ {
				select {
				case tokens <- struct{}{}:
				default: // the server is behind; what it does is counted, not what was asked
				}
			}
		}
	})
	for range writers {
		joined.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-tokens:
				}
				if err := b.change(ctx, w, name); err == nil {
					done.Add(1)
				} else if ctx.Err() == nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	return done, sync.OnceValue(func() error {
		cancel()
		joined.Wait()
		if err := failed.Load(); err != nil {
			return errors.Join(errDiffers, *err)
		}
		return nil
	})
}

func (b *bench) change(ctx context.Context, w *world, name string) error {
	id := 1 + rand.IntN(b.hot)
	tx, err := w.DB.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	if _, err := tx.ExecContext(ctx, "UPDATE items SET n = n + 1, changed = NOW(3) WHERE id = ?", id); err != nil {
		return err
	}
	committed, err := w.client.EnqueueTx(ctx, tx, sourceName, client.Change{Mapping: name, PK: []any{id}})
	if err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	committed()
	return nil
}
