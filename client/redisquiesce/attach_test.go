package redisquiesce_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/client/quiescetest"
	"github.com/quiescehq/quiesce/client/redisquiesce"
	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/cluster_test/services"
)

// instance is an application with an attached client, and another client that nobody watches.
type instance struct {
	*testing.T
	coordinator *quiescetest.Coordinator
	app         *client.App
	rdb, plain  *redis.Client
	prefix      string
}

func newInstance(t *testing.T) instance {
	t.Helper()
	place := services.Require(t)
	i := instance{T: t, prefix: place.Prefix}
	var addr string
	i.coordinator, addr = quiescetest.Start(t)
	none := uint64(0) // of its time to settle: an instance may go as soon as it is ready
	if err := i.coordinator.PutService("orders", api.PutService{SettleMs: &none}); err != nil {
		t.Fatal(err)
	}
	var err error
	i.app, err = client.Join("orders", client.Addrs(addr), client.Name("one"), client.LameDuck(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.app.Close)
	i.rdb = redis.NewClient(&redis.Options{Addr: place.RedisAddr})
	i.plain = redis.NewClient(&redis.Options{Addr: place.RedisAddr})
	t.Cleanup(func() { _, _ = i.rdb.Close(), i.plain.Close() })
	if err := redisquiesce.Attach(i.app, i.rdb); err != nil {
		t.Fatal(err)
	}
	return i
}

// stop drains the instance; the channel gives the exit code.
func (i instance) stop() <-chan int {
	i.Helper()
	code := make(chan int, 1)
	go func() { code <- i.app.Run() }()
	harness.Eventually(i.T, startWithin, "ready", func() error {
		if all := i.coordinator.Instances(); len(all) == 0 || all[0].State != "ready" {
			return errors.New("not ready")
		}
		return nil
	})
	i.coordinator.Drain(i.coordinator.Instances()[0].ID)
	return code
}

// between runs something after each round of a command that blocks.
type between struct {
	do func(cmd redis.Cmder, err error)
}

func (b between) DialHook(next redis.DialHook) redis.DialHook { return next }
func (b between) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
func (b between) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		b.do(cmd, err)
		return err
	}
}

// What arrives after the first round is read by every command that blocks, also what arrives while Redis is not being asked.
func TestAttach_ReadsThatBlockGoOnInShortRounds(t *testing.T) {
	t.Parallel()
	i := newInstance(t)
	key := func(name string) string { return i.prefix + name }
	ctx := t.Context()
	push := func(name string) error { return i.plain.RPush(ctx, key(name), "v").Err() }
	score := func(name string) error { return i.plain.ZAdd(ctx, key(name), redis.Z{Score: 1, Member: "v"}).Err() }
	entry := func(name string) error {
		return i.plain.XAdd(ctx, &redis.XAddArgs{Stream: key(name), Values: []string{"f", "v"}}).Err()
	}
	for _, stream := range []string{"xread", "xreadgroup"} { // with an entry that is not to be read again
		if err := entry(stream); err != nil {
			t.Fatal(err)
		}
	}
	if err := i.plain.XGroupCreate(ctx, key("xreadgroup"), "g", "$").Err(); err != nil {
		t.Fatal(err)
	}
	commands := map[string]struct {
		read  func() (int, error)
		write func(string) error
	}{
		"blpop": {func() (int, error) { v, err := i.rdb.BLPop(ctx, 0, key("blpop")).Result(); return len(v) - 1, err }, push},
		"brpop": {func() (int, error) {
			v, err := i.rdb.BRPop(ctx, time.Minute, key("brpop")).Result()
			return len(v) - 1, err
		}, push},
		"blmove": {func() (int, error) {
			v, err := i.rdb.BLMove(ctx, key("blmove"), key("to"), "left", "right", 0).Result()
			return len(v), err
		}, push},
		"blmpop": {func() (int, error) {
			_, v, err := i.rdb.BLMPop(ctx, 0, "left", 1, key("blmpop")).Result()
			return len(v), err
		}, push},
		"bzpopmin": {func() (int, error) {
			v, err := i.rdb.BZPopMin(ctx, 0, key("bzpopmin")).Result()
			if err != nil {
				return 0, err
			}
			return int(v.Score), err
		}, score},
		"bzmpop": {func() (int, error) {
			_, v, err := i.rdb.BZMPop(ctx, 0, "min", 1, key("bzmpop")).Result()
			return len(v), err
		}, score},
		"xread": {func() (int, error) {
			v, err := i.rdb.XRead(ctx, &redis.XReadArgs{Streams: []string{key("xread"), key("none"), "$", "$"}, Block: 0}).Result()
			if err != nil {
				return 0, err
			}
			return len(v[0].Messages), nil
		}, entry},
		"xreadgroup": {func() (int, error) {
			v, err := i.rdb.XReadGroup(ctx, &redis.XReadGroupArgs{Group: "g", Consumer: "c", Streams: []string{key("xreadgroup"), ">"}, Block: 0}).Result()
			if err != nil {
				return 0, err
			}
			return len(v[0].Messages), nil
		}, entry},
	}
	var mu sync.Mutex
	written := map[string]bool{}
	i.rdb.AddHook(between{func(cmd redis.Cmder, err error) { // added later, so called within a round
		mu.Lock()
		defer mu.Unlock()
		command, ours := commands[cmd.Name()]
		if !ours || written[cmd.Name()] {
			return
		}
		written[cmd.Name()] = true
		if !errors.Is(err, redis.Nil) {
			t.Errorf("%s: the first round ended with %v", cmd.Name(), err)
		}
		if err := command.write(cmd.Name()); err != nil {
			t.Error(err)
		}
	}})
	var all sync.WaitGroup
	for name, command := range commands {
		all.Go(func() {
			began := time.Now()
			n, err := command.read()
			if took := time.Since(began); err != nil || n != 1 || took < redisquiesce.BlockMax || took > 20*redisquiesce.BlockMax {
				t.Errorf("%s: %d values, %v, after %v", name, n, err, took)
			}
		})
	}
	all.Wait()
	if len(written) != len(commands) {
		t.Errorf("only %v went in rounds", written)
	}
}

func TestAttach_ReadThatBlocksKeepsItsOwnTimeAndHeedsItsContext(t *testing.T) {
	t.Parallel()
	i := newInstance(t)
	var all sync.WaitGroup
	for _, tc := range []struct {
		name     string
		ends     time.Duration // of the context, after the reading began; 0: it does not
		wait     time.Duration
		from, to time.Duration
		want     error
	}{
		{"shorter than a round", 0, 200 * time.Millisecond, 150 * time.Millisecond, time.Second, redis.Nil},
		{"longer", 0, 600 * time.Millisecond, 590 * time.Millisecond, 2500 * time.Millisecond, redis.Nil},
		{"for ever, until its context ends", 120 * time.Millisecond, 0, 100 * time.Millisecond, 2500 * time.Millisecond, context.Canceled},
	} {
		all.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			began := time.Now()
			if tc.ends > 0 {
				defer time.AfterFunc(tc.ends, cancel).Stop()
			}
			err := i.rdb.XRead(ctx, &redis.XReadArgs{Streams: []string{i.prefix + "s", "0"}, Block: tc.wait}).Err()
			if took := time.Since(began); !errors.Is(err, tc.want) || took < tc.from || took > tc.to {
				t.Errorf("%s: %v after %v", tc.name, err, took)
			}
		})
	}
	all.Wait()
	if err := i.rdb.XRead(t.Context(), &redis.XReadArgs{Streams: []string{i.prefix + "s", "0"}, Block: -1}).Err(); err != redis.Nil {
		t.Errorf("one that does not block: %v", err)
	}
}

func TestAttach_DrainEndsReadsLetsFlushesWriteAndClosesLast(t *testing.T) {
	t.Parallel()
	i := newInstance(t)
	read := make(chan error, 1)
	go func() { read <- i.rdb.BLPop(t.Context(), 0, i.prefix+"queue").Err() }()
	i.app.Flush("cache", func(ctx context.Context) (int, error) {
		return 0, i.rdb.Set(ctx, i.prefix+"flushed", "v", 0).Err()
	})
	var atLocks error
	if err := i.app.On(client.PhaseLocks, "looks", func(ctx context.Context) error {
		atLocks = i.rdb.Ping(ctx).Err()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if code := <-i.stop(); code != client.ExitClean {
		t.Errorf("exit code %d", code)
	}
	if err := <-read; !errors.Is(err, redis.Nil) {
		t.Errorf("the read ended with %v", err)
	}
	if v, err := i.plain.Get(t.Context(), i.prefix+"flushed").Result(); v != "v" || err != nil {
		t.Errorf("the flush wrote %q, %v", v, err)
	}
	if atLocks != nil {
		t.Errorf("closed before the locks were given back: %v", atLocks)
	}
	if err := i.rdb.Ping(t.Context()).Err(); !errors.Is(err, redis.ErrClosed) {
		t.Errorf("after the drain: %v", err)
	}
}
