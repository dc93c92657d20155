package redisquiesce_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"

	"github.com/quiescehq/quiesce/client/redisquiesce"
	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/cluster_test/services"
)

const startWithin = 20 * time.Second

func TestMain(m *testing.M) {
	logging.Disable()
	goleak.VerifyTestMain(m)
}

// store is a test's place in a Redis.
type store struct {
	*testing.T
	client redis.UniversalClient
	prefix string
	fence  *redisquiesce.Fence
}

// newStore uses the shared server.
func newStore(t *testing.T, options ...redisquiesce.Option) store {
	t.Helper()
	place := services.Require(t)
	client := redis.NewClient(&redis.Options{Addr: place.RedisAddr})
	t.Cleanup(func() { _ = client.Close() })
	return store{T: t, client: client, prefix: place.Prefix, fence: redisquiesce.NewFence(client, options...)}
}

// ownServer starts a server that the test may harm, with options of its own, and returns its address.
func ownServer(t *testing.T, args ...string) string {
	t.Helper()
	command := services.Require(t).RedisCommand
	if len(command) == 0 {
		t.Fatal("the services do not say how their Redis was started")
	}
	addr := harness.FreeAddr(t)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "redisquiesce")
	if err != nil {
		t.Fatal(err)
	}
	args = append([]string{"--bind", "127.0.0.1", "--port", port, "--dir", dir, "--save", "", "--appendonly", "no", "--logfile", "redis.log"}, args...)
	process := exec.Command(command[0], append(slices.Clone(command[1:]), args...)...)
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = process.Process.Kill()
		_ = process.Wait() // it was killed
		_ = os.RemoveAll(dir)
	})
	control := redis.NewClient(&redis.Options{Addr: addr})
	defer func() { _ = control.Close() }()
	harness.Eventually(t, startWithin, "Redis to answer", func() error { return control.Ping(t.Context()).Err() })
	return addr
}

func connect(t *testing.T, addr string) store {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { _ = client.Close() })
	return store{T: t, client: client, prefix: "test:", fence: redisquiesce.NewFence(client)}
}

func (s store) do(args ...any) any {
	s.Helper()
	answer, err := s.client.Do(s.Context(), args...).Result()
	if err != nil && err != redis.Nil {
		s.Fatalf("%v: %v", args, err)
	}
	return answer
}

func (s store) guard(key string) string {
	s.Helper()
	guard, err := redisquiesce.GuardKey(key)
	if err != nil {
		s.Fatal(err)
	}
	return guard
}

// operations are all that write, under one token each.
func operations(f *redisquiesce.Fence, key string) map[string]func(ctx context.Context, token uint64) error {
	return map[string]func(context.Context, uint64) error{
		"Advance": func(ctx context.Context, token uint64) error { return f.Advance(ctx, token, key) },
		"Set":     func(ctx context.Context, token uint64) error { return f.Set(ctx, token, key, "set", 0) },
		"HSet": func(ctx context.Context, token uint64) error {
			return f.HSet(ctx, token, key, map[string]any{"a": "hset", "b": 1})
		},
		"Del": func(ctx context.Context, token uint64) error {
			_, err := f.Del(ctx, token, key)
			return err
		},
	}
}
