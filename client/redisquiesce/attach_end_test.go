package redisquiesce

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/quiescehq/quiesce/cluster_test/services"
)

func TestAttach_CommandsUnderWayAreWaitedForBeforeTheClose(t *testing.T) {
	t.Parallel()
	addr := services.Require(t).RedisAddr
	for name, tc := range map[string]struct {
		slow  func(ctx context.Context, rdb *redis.Client) error // WAIT for replicas that do not exist takes as long as it says
		limit time.Duration
		want  error
	}{
		"command": {func(ctx context.Context, rdb *redis.Client) error { return rdb.Do(ctx, "WAIT", 3, 300).Err() }, time.Minute, nil},
		"pipeline": {func(ctx context.Context, rdb *redis.Client) error {
			_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error { return p.Do(ctx, "WAIT", 3, 300).Err() })
			return err
		}, time.Minute, nil},
		"too slow": {func(ctx context.Context, rdb *redis.Client) error { return rdb.Do(ctx, "WAIT", 3, 300).Err() }, time.Millisecond, ErrInUse},
	} {
		rdb := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
		h := &hook{rdb: rdb}
		rdb.AddHook(h)
		done := make(chan error, 1)
		go func() { done <- tc.slow(context.Background(), rdb) }()
		for h.inFlight.Load() == 0 {
			<-time.After(time.Millisecond)
		}
		ctx, cancel := context.WithTimeout(t.Context(), tc.limit)
		if err := h.end(ctx); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
		if err := <-done; err != nil && tc.want == nil {
			t.Errorf("%s: cut: %v", name, err)
		}
		if h.inFlight.Load() != 0 {
			t.Errorf("%s: %d in flight afterwards", name, h.inFlight.Load())
		}
		if err := h.end(t.Context()); err != nil {
			t.Errorf("%s: the second end: %v", name, err)
		}
	}
}
