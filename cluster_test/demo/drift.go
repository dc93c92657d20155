package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// What is planted. Two swapped values are two stale ones, which an XOR of checksums does not see.
const (
	plantedStale   = 7
	plantedMissing = 5
	swappedPairs   = 1
	quietOrders    = plantedStale + plantedMissing + 2*swappedPairs
)

// drift is what was done to the cache behind everybody's back.
type drift struct {
	stale, missing []string // keys
}

func (d drift) keys() []string {
	return slices.Sorted(slices.Values(slices.Concat(d.stale, d.missing)))
}

// plant changes the keys of orders that nobody updates.
func plant(ctx context.Context, cache *redis.Client, orders []int64) (d drift, err error) {
	if len(orders) < quietOrders {
		return d, fmt.Errorf("%d orders to plant drift in, %d are needed", len(orders), quietOrders)
	}
	keys := make([]string, len(orders))
	for i, id := range orders {
		keys[i] = keyPrefix + strconv.FormatInt(id, 10)
	}
	for _, key := range keys[:plantedStale] {
		if err := makeStale(ctx, cache, key); err != nil {
			return d, err
		}
	}
	missing := keys[plantedStale : plantedStale+plantedMissing]
	removed, err := cache.Del(ctx, missing...).Result()
	if err != nil || removed != plantedMissing {
		return d, fmt.Errorf("remove keys: %d of %d were there: %w", removed, plantedMissing, err)
	}
	pair := keys[plantedStale+plantedMissing : quietOrders]
	if err := swap(ctx, cache, pair[0], pair[1]); err != nil {
		return d, err
	}
	return drift{stale: slices.Concat(keys[:plantedStale], pair), missing: missing}, nil
}

// makeStale writes what an earlier version of the row might have been.
func makeStale(ctx context.Context, cache *redis.Client, key string) error {
	value, err := cache.Get(ctx, key).Bytes()
	if err != nil {
		return fmt.Errorf("plant at %s: %w", key, err)
	}
	old := bytes.Replace(value, []byte(`"status":"new"`), []byte(`"status":"old"`), 1)
	if bytes.Equal(old, value) {
		return fmt.Errorf("plant at %s: the value has no status to change: %s", key, value)
	}
	return cache.Set(ctx, key, old, 0).Err()
}

func swap(ctx context.Context, cache *redis.Client, a, b string) error {
	values, err := cache.MGet(ctx, a, b).Result()
	if err != nil {
		return fmt.Errorf("swap %s and %s: %w", a, b, err)
	}
	if values[0] == nil || values[1] == nil {
		return fmt.Errorf("swap %s and %s: one of them is missing", a, b)
	}
	return cache.MSet(ctx, a, values[1], b, values[0]).Err()
}
