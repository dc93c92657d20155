package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/bench/load"
	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
)

const (
	writers    = 32
	visibleMax = 20 * time.Second // after the last commit
	warmWrites = 200
)

var errInvisible = errors.New("commits did not become visible in the cache")

// tier is one way from a commit to the cache.
type tier struct {
	name   string
	table  string
	nudged bool
	// change inserts the row, and makes its event known. It answers when COMMIT returned.
	change func(ctx context.Context, t *tierRun, id int) (committed time.Time, err error)
}

var tiers = []tier{
	{name: "tier1", table: "lag1", change: afterCommit},
	{name: "tier2", table: "lag2", change: prepared},
	{name: "tier3", table: "lag3", change: outboxRow},
	{name: "tier3_nudge", table: "lag3n", nudged: true, change: outboxRow},
	{name: "tier4", table: "lag4", change: triggered},
	{name: "tier4_nudge", table: "lag4n", nudged: true, change: triggered},
}

func isTriggered(t tier) bool { return strings.HasPrefix(t.name, "tier4") }

// lags measures each tier for some time at the same rate of writes.
func (b *bench) lags(ctx context.Context, w *world) error {
	if err := w.Cache.ConfigSet(ctx, "notify-keyspace-events", "K$").Err(); err != nil {
		return err
	}
	defer func() { _ = w.Cache.ConfigSet(context.WithoutCancel(ctx), "notify-keyspace-events", "").Err() }()
	b.text("lag from COMMIT to the cache, %d writes/s\tp50 ms\tp99 ms\tmax ms\twrites/s", b.rate)
	for _, t := range tiers {
		if err := w.declareTier(ctx, t); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		s, err := b.lagOf(ctx, w, t)
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		name := strings.TrimPrefix(t.name, "tier")
		b.figures["lag_p50_ms_tier"+name], b.figures["lag_p99_ms_tier"+name] = load.Ms(s.P50), load.Ms(s.P99)
		b.figures["lag_rate_tier"+name] = s.Rate
		b.text("%s\t%.1f\t%.1f\t%.1f\t%.0f", t.name, load.Ms(s.P50), load.Ms(s.P99), load.Ms(s.Max), s.Rate)
	}
	return nil
}

func (w *world) declareTier(ctx context.Context, t tier) error {
	if err := errors.Join(w.Exec(ctx, "DROP TABLE IF EXISTS "+t.table),
		w.Exec(ctx, "CREATE TABLE "+t.table+" (id BIGINT NOT NULL PRIMARY KEY, name VARCHAR(64) NOT NULL, n INT NOT NULL) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4")); err != nil {
		return err
	}
	spec := mapping.Spec{Source: sourceName, Target: targetName, Table: t.table, PrimaryKey: []string{"id"}, Mode: mapping.WriteThrough, Encoding: mapping.JSON,
		Key: t.table + ":{id}", Columns: []mapping.ColumnSpec{{Name: "id"}, {Name: "name"}, {Name: "n"}}}
	if err := w.declare(ctx, t.table, spec); err != nil {
		return err
	}
	if !isTriggered(t) {
		return nil
	}
	schema, err := mysql.OpenSchema(mysql.Config{Name: sourceName, DSN: w.DSN})
	if err != nil {
		return err
	}
	defer func() { _ = schema.Close() }()
	plan, err := schema.PlanTriggers(ctx, mysql.TriggerSpec{Mapping: t.table, Table: t.table, PrimaryKey: []string{"id"}, Columns: []string{"name", "n"}})
	if err != nil {
		return err
	}
	made, err := schema.ApplyTriggers(ctx, plan)
	if err == nil && len(made) == 0 {
		err = errNotAgain
	}
	return err
}

// tierRun is one measurement. Row k is written at the time of the k-th slot, whatever becomes of the others.
type tierRun struct {
	tier
	w         *world
	nudges    *nudger
	committed []time.Time
	visible   []atomic.Int64 // nanoseconds since began
	seen      atomic.Int64
	began     time.Time
}

func (b *bench) lagOf(ctx context.Context, w *world, t tier) (load.Sample, error) {
	warm := min(warmWrites, b.rate)
	n := int(b.lag.Seconds()*float64(b.rate)) + warm
	r := &tierRun{tier: t, w: w, committed: make([]time.Time, n), visible: make([]atomic.Int64, n), began: time.Now()}
	r.nudges = newNudger(w)
	defer r.nudges.Close()
	stopWatch, err := r.watch(ctx)
	if err != nil {
		return load.Sample{}, err
	}
	defer stopWatch()
	stop, err := b.profile(ctx, w, "lag-"+t.name)
	if err != nil {
		return load.Sample{}, err
	}
	began := time.Now()
	err = paced(ctx, n, b.rate, func(ctx context.Context, k int) (err error) {
		r.committed[k], err = r.change(ctx, r, k+1)
		if err == nil && r.nudged {
			r.nudges.nudge()
		}
		return err
	})
	took := time.Since(began)
	if err := errors.Join(err, stop(ctx)); err != nil {
		return load.Sample{}, err
	}
	if err := r.allVisible(ctx); err != nil {
		return load.Sample{}, err
	}
	var lags []time.Duration
	for k := warm; k < n; k++ {
		// A relay may see a commit before who committed hears of it.
		lags = append(lags, max(0, time.Duration(r.visible[k].Load())-r.committed[k].Sub(r.began)))
	}
	s := load.NewSample(lags, 0)
	s.Rate = float64(n) / took.Seconds()
	return s, nil
}

// paced calls do n times at a rate, from many goroutines: who is late does not make the next one late.
func paced(ctx context.Context, n, rate int, do func(ctx context.Context, k int) error) error {
	var next atomic.Int64
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for range writers {
		group.Go(func() error {
			timer := time.NewTimer(time.Hour)
			defer timer.Stop()
			for {
				k := int(next.Add(1)) - 1
				if k >= n {
					return nil
				}
				timer.Reset(time.Until(began.Add(time.Duration(k) * time.Second / time.Duration(rate))))
				select {
				case <-timer.C:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
				if err := do(ctx, k); err != nil {
					return fmt.Errorf("write %d: %w", k, err)
				}
			}
		})
	}
	return group.Wait()
}

// watch notes when each key is set, by what the server tells of it.
func (r *tierRun) watch(ctx context.Context) (stop func(), err error) {
	const space = "__keyspace@0__:"
	client := redis.NewClient(&redis.Options{Addr: r.w.RedisAddr, ReadTimeout: -1})
	sub := client.PSubscribe(ctx, space+r.table+":*")
	if _, err := sub.Receive(ctx); err != nil {
		return nil, errors.Join(err, sub.Close(), client.Close())
	}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			message, err := sub.ReceiveMessage(ctx)
			if err != nil {
				return // closed
			}
			now := time.Since(r.began)
			id, err := strconv.Atoi(strings.TrimPrefix(message.Channel, space+r.table+":"))
			if err == nil && id >= 1 && id <= len(r.visible) && r.visible[id-1].CompareAndSwap(0, int64(now)) {
				r.seen.Add(1)
			}
		}
	})
	return func() {
		_ = errors.Join(sub.Close(), client.Close())
		group.Wait()
	}, nil
}

func (r *tierRun) allVisible(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, visibleMax)
	defer cancel()
	for int(r.seen.Load()) < len(r.visible) {
		if err := wait(ctx, pollEvery); err != nil {
			return fmt.Errorf("%w: %d of %d: %w", errInvisible, r.seen.Load(), len(r.visible), err)
		}
	}
	return nil
}

func (r *tierRun) insert(ctx context.Context, by client.Execer, id int) error {
	_, err := by.ExecContext(ctx, "INSERT INTO "+r.table+" (id, name, n) VALUES (?, 'a name of usual length', 7)", id)
	return err
}

func (r *tierRun) inTx(ctx context.Context, work func(tx *sql.Tx) error) (committed time.Time, err error) {
	tx, err := r.w.DB.BeginTx(ctx, nil)
	if err != nil {
		return committed, err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after the commit
	if err := work(tx); err != nil {
		return committed, err
	}
	err = tx.Commit()
	return time.Now(), err
}

func afterCommit(ctx context.Context, r *tierRun, id int) (time.Time, error) {
	committed, err := r.inTx(ctx, func(tx *sql.Tx) error { return r.insert(ctx, tx, id) })
	if err == nil {
		_, err = r.w.client.Enqueue(ctx, r.table, id)
	}
	return committed, err
}

func prepared(ctx context.Context, r *tierRun, id int) (committed time.Time, err error) {
	p, err := r.w.client.Prepare(ctx, []client.Change{{Mapping: r.table, PK: id}})
	if err != nil {
		return committed, err
	}
	committed, err = r.inTx(ctx, func(tx *sql.Tx) error {
		if err := p.Fence(ctx, tx); err != nil {
			return err
		}
		return r.insert(ctx, tx, id)
	})
	if err == nil {
		_, err = p.Submit(ctx)
	}
	return committed, err
}

func outboxRow(ctx context.Context, r *tierRun, id int) (time.Time, error) {
	return r.inTx(ctx, func(tx *sql.Tx) error {
		if err := r.insert(ctx, tx, id); err != nil {
			return err
		}
		_, err := r.w.client.EnqueueTx(ctx, tx, sourceName, client.Change{Mapping: r.table, PK: id})
		return err
	})
}

func triggered(ctx context.Context, r *tierRun, id int) (time.Time, error) {
	return r.inTx(ctx, func(tx *sql.Tx) error { return r.insert(ctx, tx, id) })
}

// nudger tells the relay of commits as the client library does: one call on its way, and one more for all who come meanwhile.
type nudger struct {
	w     *world
	wake  chan struct{}
	group sync.WaitGroup
	end   context.CancelFunc
}

func newNudger(w *world) *nudger {
	ctx, end := context.WithCancel(context.Background())
	n := &nudger{w: w, wake: make(chan struct{}, 1), end: end}
	n.group.Go(func() {
		for {
			select {
			case <-n.wake:
				_ = w.client.Call(ctx, http.MethodPost, "/v1/outbox/nudge", api.Nudge{Source: sourceName}, nil) // the relay looks by itself
			case <-ctx.Done():
				return
			}
		}
	})
	return n
}

func (n *nudger) nudge() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// Close ends the goroutine.
func (n *nudger) Close() {
	n.end()
	n.group.Wait()
}
