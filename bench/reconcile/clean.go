package main

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/quiescehq/quiesce/bench/load"
	"github.com/quiescehq/quiesce/bench/process"
	"github.com/quiescehq/quiesce/mapping"
)

const bareKeys = 1_000 // of one round trip, as many as a pass asks for

// clean compares passes over a clean cache with a loop that only reads what they read.
func (b *bench) clean(ctx context.Context, w *world) error {
	if err := w.fillTable(ctx, b.rows); err != nil {
		return err
	}
	b.figures["rows"] = float64(b.rows)
	for _, encoding := range []mapping.Encoding{mapping.JSON, mapping.Hash} {
		if err := b.cleanOf(ctx, w, encoding); err != nil {
			return fmt.Errorf("%s: %w", encoding, err)
		}
	}
	return nil
}

func (b *bench) cleanOf(ctx context.Context, w *world, encoding mapping.Encoding) error {
	name := "clean-" + string(encoding)
	if err := w.Cache.FlushAll(ctx).Err(); err != nil {
		return err
	}
	if err := w.fillCache(ctx, name, encoding); err != nil {
		return err
	}
	if err := w.declare(ctx, name, encoding); err != nil {
		return err
	}
	if _, err := w.cleanPass(ctx, name, b.rows); err != nil { // not measured: it warms up both stores
		return err
	}
	var ours, bare, ratios, leader, database, cache []float64
	for round := range b.rounds {
		theirs, err := b.bare(ctx, w, name, encoding)
		if err != nil {
			return err
		}
		usage, err := w.usage(ctx)
		if err != nil {
			return err
		}
		if round == 0 && b.profiles != "" {
			stop, err := w.q.Profiles(ctx, b.profiles, "pass-"+string(encoding))
			if err != nil {
				return err
			}
			if _, err := w.cleanPass(ctx, name, b.rows); err != nil {
				return err
			}
			if err := stop(ctx); err != nil {
				return err
			}
			if usage, err = w.usage(ctx); err != nil {
				return err
			}
		}
		began := time.Now()
		p, err := w.cleanPass(ctx, name, b.rows)
		if err != nil {
			return err
		}
		took := max(time.Duration(p.TookMs)*time.Millisecond, time.Since(began)-pollEvery) // the wait for the answer is not the pass's
		used, err := w.usage(ctx)
		if err != nil {
			return err
		}
		per := float64(b.rows) / 1e6
		leader = append(leader, (used.leader-usage.leader).Seconds()/per)
		database = append(database, (used.mysql-usage.mysql).Seconds()/per)
		cache = append(cache, (used.redis-usage.redis).Seconds()/per)
		ours, bare = append(ours, float64(b.rows)/took.Seconds()), append(bare, float64(b.rows)/theirs.Seconds())
		ratios = append(ratios, theirs.Seconds()/took.Seconds())
	}
	ratio := load.NewSpread(ratios)
	of := string(encoding)
	b.figures["pass_ratio_bare_"+of], b.figures["pass_rows_per_s_"+of], b.figures["bare_rows_per_s_"+of] = ratio.Median, load.Median(ours), load.Median(bare)
	b.figures["cpu_s_per_m_rows_"+of], b.figures["mysql_cpu_s_per_m_rows_"+of], b.figures["redis_cpu_s_per_m_rows_"+of] = load.Median(leader), load.Median(database), load.Median(cache)
	if encoding == mapping.JSON {
		b.figures["cpu_s_per_m_rows"] = load.Median(leader)
	}
	b.text("clean pass, %s\t%.0f rows/s, a loop that only reads %.0f/s: %.2f [%.2f..%.2f], median of %d; CPU s per million rows: leader %.1f, MySQL %.1f, Redis %.1f", encoding,
		load.Median(ours), load.Median(bare), ratio.Median, ratio.Low, ratio.High, b.rounds, load.Median(leader), load.Median(database), load.Median(cache))
	return nil
}

// usage is the CPU time of the three that a pass uses.
type usage struct{ leader, mysql, redis time.Duration }

func (w *world) usage(ctx context.Context) (u usage, err error) {
	leader, err := w.q.AwaitLeader(ctx)
	if err != nil {
		return u, err
	}
	for _, of := range []struct {
		pid int
		to  *time.Duration
	}{{w.q.PID(leader), &u.leader}, {w.MySQLPID(), &u.mysql}, {w.RedisPID(), &u.redis}} {
		if *of.to, err = process.CPU(of.pid); err != nil {
			return u, err
		}
	}
	return u, nil
}

// bare is the limit: one loop that streams the same columns in the same chunks and fetches the same keys. It renders and compares nothing.
func (b *bench) bare(ctx context.Context, w *world, name string, encoding mapping.Encoding) (time.Duration, error) {
	began := time.Now()
	seen, after := 0, int64(0)
	keys := make([]string, 0, chunkRows)
	values := make([]sql.RawBytes, len(columns))
	dest := make([]any, len(columns))
	for i := range values {
		dest[i] = &values[i]
	}
	for {
		keys = keys[:0]
		rows, err := w.DB.QueryContext(ctx, fmt.Sprintf("SELECT id, name, n, price, note, changed, weight FROM items WHERE id > %d ORDER BY id LIMIT %d", after, chunkRows))
		if err != nil {
			return 0, err
		}
		for rows.Next() {
			if err := rows.Scan(dest...); err != nil {
				_ = rows.Close()
				return 0, err
			}
			keys = append(keys, name+":"+string(values[0]))
		}
		if err := rows.Err(); err != nil {
			return 0, err
		}
		if len(keys) == 0 {
			break
		}
		if _, err := fmt.Sscan(keys[len(keys)-1][len(name)+1:], &after); err != nil {
			return 0, err
		}
		for part := keys; len(part) > 0; part = part[min(len(part), bareKeys):] {
			n, err := fetch(ctx, w.Cache, encoding, part[:min(len(part), bareKeys)])
			if err != nil {
				return 0, err
			}
			seen += n
		}
	}
	if seen != b.rows {
		return 0, fmt.Errorf("%w: the loop found %d keys of %d", errDiffers, seen, b.rows)
	}
	return time.Since(began), nil
}

// fetch reads keys in the cheapest way there is, and counts those that are there.
func fetch(ctx context.Context, cache *redis.Client, encoding mapping.Encoding, keys []string) (found int, err error) {
	if encoding == mapping.JSON {
		values, err := cache.MGet(ctx, keys...).Result()
		for _, value := range values {
			if value != nil {
				found++
			}
		}
		return found, err
	}
	pipe := cache.Pipeline()
	hashes := make([]*redis.StringSliceCmd, len(keys))
	for i, key := range keys {
		hashes[i] = redis.NewStringSliceCmd(ctx, "hgetall", key)
		_ = pipe.Process(ctx, hashes[i]) // it only queues
	}
	_, err = pipe.Exec(ctx)
	for _, hash := range hashes {
		if len(hash.Val()) > 0 {
			found++
		}
	}
	return found, err
}
