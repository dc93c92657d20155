package redisquiesce_test

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/client/fence"
	"github.com/quiescehq/quiesce/client/redisquiesce"
)

// Read, work, write: the fence is advanced first, so that nobody older writes in between.
func Example() {
	cache := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"})
	defer cache.Close()
	f := redisquiesce.NewFence(cache)

	refresh := func(ctx context.Context, session *client.Session, render func(string) (string, error)) error {
		lock, err := session.Lock(ctx, "report/2026")
		if err != nil {
			return err
		}
		defer lock.Unlock(context.WithoutCancel(ctx))
		if err := f.Advance(ctx, lock.Token(), "report:2026"); err != nil {
			return err
		}
		old, err := cache.Get(ctx, "report:2026").Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		report, err := render(old) // minutes
		if err != nil {
			return err
		}
		err = f.Set(ctx, lock.Token(), "report:2026", report, 0)
		if errors.Is(err, fence.ErrFenced) {
			return nil // somebody else has taken over, and the report is theirs
		}
		return err
	}
	_ = refresh
}
