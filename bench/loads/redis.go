package loads

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// ErrHeld says that a lock which nobody else asks for was held.
var ErrHeld = errors.New("work: the lock is held")

// deleteOwn deletes a key if it still has the value that its owner gave it.
var deleteOwn = redis.NewScript(`if redis.call("get", KEYS[1]) == ARGV[1] then return redis.call("del", KEYS[1]) end return 0`)

// Redis is the lock that one builds from SET NX PX. It has no queue: a contended one is polled, which is not measured here.
type Redis struct {
	client *redis.Client
	values atomic.Uint64
}

// NewRedis makes a pool with a connection for each worker.
func NewRedis(ctx context.Context, addr string, workers int) (*Redis, error) {
	r := &Redis{client: redis.NewClient(&redis.Options{Addr: addr, PoolSize: workers, MinIdleConns: workers})}
	if err := deleteOwn.Load(ctx, r.client).Err(); err != nil {
		return nil, errors.Join(err, r.client.Close())
	}
	return r, nil
}

// Lock sets the key unless it is there.
func (r *Redis) Lock(ctx context.Context, _ int, name string) (Unlock, error) {
	value := strconv.FormatUint(r.values.Add(1), 10)
	err := r.client.SetArgs(ctx, name, value, redis.SetArgs{Mode: "NX", TTL: sessionTTL}).Err()
	if errors.Is(err, redis.Nil) {
		return nil, ErrHeld
	}
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		deleted, err := deleteOwn.EvalSha(ctx, r.client, []string{name}, value).Int()
		if err == nil && deleted != 1 {
			err = errors.New("work: the lock was lost")
		}
		return err
	}, nil
}

// Close closes the pool.
func (r *Redis) Close(context.Context) error { return r.client.Close() }
