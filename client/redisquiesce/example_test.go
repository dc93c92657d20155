package redisquiesce_test

import (
	"context"
	"database/sql"
	"errors"
	"time"

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

// Read through the cache; after a commit remove what changed, and let the coordinator see to the rest.
func ExampleCache() {
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"})
	defer rdb.Close()
	setUp := func(app *client.App, db *sql.DB) error {
		cache, err := redisquiesce.NewCache(rdb, redisquiesce.Negative("null", 5*time.Second))
		if err != nil {
			return err
		}
		changes := app.Sync(cache)

		read := func(ctx context.Context, key, id string) ([]byte, error) {
			return cache.Fetch(ctx, key, 10*time.Minute, func(ctx context.Context) (value []byte, err error) {
				err = db.QueryRowContext(ctx, "SELECT JSON_OBJECT('id', id, 'total', total) FROM orders WHERE id = ?", id).Scan(&value)
				if errors.Is(err, sql.ErrNoRows) {
					return nil, redisquiesce.ErrNotFound
				}
				return value, err
			})
		}
		write := func(ctx context.Context, key, id string, total int) error {
			if _, err := db.ExecContext(ctx, "UPDATE orders SET total = ? WHERE id = ?", total, id); err != nil {
				return err
			}
			_, err := changes.Enqueue(ctx, client.Change{Mapping: "orders", PK: id, CacheKeys: []string{key}})
			if errors.Is(err, client.ErrKept) { // committed, out of the cache, and told later
				return nil
			}
			return err
		}
		_, _ = read, write
		return nil
	}
	_ = setUp
}

// In the middle of the move from SET NX to locks with tokens, both are held: the older first.
func ExampleOwnerLock() {
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"})
	defer rdb.Close()
	work := func(ctx context.Context, session *client.Session, do func(ctx context.Context, token uint64) error) error {
		old, err := redisquiesce.TakeOwnerLock(ctx, rdb, "lock:report", 10*time.Second)
		if err != nil {
			return err
		}
		defer old.Release(context.WithoutCancel(ctx))
		lock, err := session.Lock(ctx, "report")
		if err != nil {
			return err
		}
		defer lock.Unlock(context.WithoutCancel(ctx))
		return do(old.Context(lock.Context(ctx)), lock.Token())
	}
	_ = work
}
