package system

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/quiescehq/quiesce/bench/process"
	"github.com/redis/go-redis/v9"
)

// ErrNoRedis says that there is no redis-server to compare with.
var ErrNoRedis = errors.New("system: redis-server is not installed")

// Redis is one server: its lock has no replica that could take over without losing locks.
type Redis struct {
	Addr string

	server group
}

// RedisConfig says what to start.
type RedisConfig struct {
	Dir     string
	Durable bool // sync a log after every command, as a lock needs it; a cache keeps nothing
}

// StartRedis starts a server.
func StartRedis(ctx context.Context, c RedisConfig) (_ *Redis, err error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, ErrNoRedis
	}
	r := &Redis{}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	addrs, err := freeAddrs(1)
	if err != nil {
		return nil, err
	}
	r.Addr = addrs[0]
	host, port, err := net.SplitHostPort(r.Addr)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	args := []string{"--bind", host, "--port", port, "--dir", c.Dir, "--save", "", "--daemonize", "no"}
	if c.Durable {
		args = append(args, "--appendonly", "yes", "--appendfsync", "always")
	}
	if err := r.server.start(process.Spec{Path: path, Args: args, Log: filepath.Join(c.Dir, "redis.log")}); err != nil {
		return nil, err
	}
	client := redis.NewClient(&redis.Options{Addr: r.Addr})
	defer func() { _ = client.Close() }()
	return r, r.server.await(ctx, "Redis", func(ctx context.Context) error { return client.Ping(ctx).Err() })
}

// PIDs of its processes.
func (r *Redis) PIDs() []int { return r.server.pids() }

// Close ends the server.
func (r *Redis) Close() error { return r.server.kill() }
