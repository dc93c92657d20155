package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/quiescehq/quiesce/bench/load"
	"github.com/quiescehq/quiesce/bench/system"
	"github.com/quiescehq/quiesce/rediscache"
)

const (
	bulkPattern = "bench:gone:*"
	valueBytes  = 100
	fillBatch   = 1_000
)

var errKeys = errors.New("keys were not removed as they should be")

// bulk removes the same keys by a sweep, as the cleanup of a service does, and one by one, in turn. Whoever removes one by one is told the
// keys; the sweep has to find them among the others.
func (b *bench) bulk(ctx context.Context) (err error) {
	server, err := system.StartRedis(ctx, system.RedisConfig{Dir: filepath.Join(b.dir, partBulk)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer func() { err = errors.Join(err, client.Close()) }()
	target, err := rediscache.Open(rediscache.Config{Name: "bench", Addr: server.Addr})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	mine, others := keys("bench:gone:", b.keys), keys("bench:stays:", b.others)
	if err := fill(ctx, client, others); err != nil {
		return err
	}
	var swept, single []load.Sample
	for range b.rounds {
		one, err := b.removal(ctx, client, mine, func() error { return sweep(ctx, target, len(mine)) })
		if err != nil {
			return err
		}
		other, err := b.removal(ctx, client, mine, func() error { return oneByOne(ctx, client, mine) })
		if err != nil {
			return err
		}
		swept, single = append(swept, one), append(single, other)
	}
	ratio := load.Ratios(single, swept, load.P50Ms)
	bySweep, byOne := load.Median(load.Of(swept, load.P50Ms)), load.Median(load.Of(single, load.P50Ms))
	b.figures["bulk_delete_ratio"], b.figures["bulk_delete_ms"], b.figures["single_delete_ms"] = ratio.Median, bySweep, byOne
	b.text("%d keys among %d others removed by a sweep\t%.1f ms; one by one %.0f ms; %.1f times [%.1f..%.1f], median of %d", b.keys, b.others, bySweep, byOne, ratio.Median, ratio.Low, ratio.High, b.rounds)
	return nil
}

// removal measures once, and looks whether just those keys are gone.
func (b *bench) removal(ctx context.Context, client *redis.Client, mine []string, remove func() error) (load.Sample, error) {
	if err := fill(ctx, client, mine); err != nil {
		return load.Sample{}, err
	}
	began := time.Now()
	err := remove()
	took := time.Since(began)
	if err != nil {
		return load.Sample{}, err
	}
	left, err := client.DBSize(ctx).Result()
	if err == nil && left != int64(b.others) {
		err = fmt.Errorf("%w: %d are left, and %d should be", errKeys, left, b.others)
	}
	return load.NewSample([]time.Duration{took}, 0), err
}

func keys(prefix string, n int) []string {
	out := make([]string, 0, n)
	for i := range n {
		out = append(out, fmt.Sprintf("%s%d", prefix, i))
	}
	return out
}

func fill(ctx context.Context, client *redis.Client, keys []string) error {
	value := strings.Repeat("x", valueBytes)
	for len(keys) > 0 {
		some := keys[:min(len(keys), fillBatch)]
		keys = keys[len(some):]
		pipe := client.Pipeline()
		for _, key := range some {
			pipe.Set(ctx, key, value, 0)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

func sweep(ctx context.Context, target *rediscache.Target, want int) error {
	s, err := target.BeginSweep(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	removed := uint64(0)
	for cursor := uint64(0); ; {
		part, err := s.Scan(ctx, bulkPattern, cursor)
		if err != nil {
			return err
		}
		n, err := s.Unlink(ctx, part.Keys)
		if err != nil {
			return err
		}
		removed += n
		if cursor = part.Cursor; cursor == 0 {
			break
		}
	}
	if removed != uint64(want) {
		return fmt.Errorf("%w: the sweep removed %d of %d", errKeys, removed, want)
	}
	return nil
}

func oneByOne(ctx context.Context, client *redis.Client, keys []string) error {
	for _, key := range keys {
		if err := client.Del(ctx, key).Err(); err != nil {
			return err
		}
	}
	return nil
}
