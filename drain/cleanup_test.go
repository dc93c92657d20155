package drain

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/cluster_test/services"
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/rediscache"
)

// cache is a real server with a prefix of the test's own, and a log.
type cache struct {
	testing.TB
	log    *testLog
	target Target
	place  services.Services
	config Config
}

func newCache(t testing.TB) *cache {
	t.Helper()
	c := &cache{TB: t, log: newTestLog(t), place: services.Require(t), config: Default()}
	c.config.RetryMin, c.config.RetryMax, c.config.OutageMax = 5*time.Millisecond, 20*time.Millisecond, 0
	c.target = Redis(c.dial(c.place.RedisAddr))
	return c
}

func (c *cache) dial(addr string) *rediscache.Target {
	c.Helper()
	target, err := rediscache.Open(rediscache.Config{Name: "cache", Addr: addr})
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { _ = target.Close() })
	return target
}

func (c *cache) task(target Target) *Task {
	c.Helper()
	task, err := New(c.config, Parts{Log: c.log, Targets: map[string]Target{"cache": target}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		c.Fatal(err)
	}
	return task
}

func (c *cache) fill(name string, count int) {
	c.Helper()
	speak(c, c.place.RedisAddr, func(send func(args ...string)) {
		for i := range count {
			send("SET", fmt.Sprintf("%s%s:%d", c.place.Prefix, name, i), "v")
		}
	})
}

// keys counts those of a name that are there.
func (c *cache) keys(name string) (n int) {
	c.Helper()
	sweep, err := c.target.BeginSweep(c.Context())
	if err != nil {
		c.Fatal(err)
	}
	defer sweep.Close()
	for cursor, first := uint64(0), true; first || cursor != 0; first = false {
		part, err := sweep.Scan(c.Context(), c.place.Prefix+name+":*", cursor)
		if err != nil {
			c.Fatal(err)
		}
		n, cursor = n+len(part.Keys), part.Cursor
	}
	return n
}

func (c *cache) start(dryRun bool, names ...string) uint64 {
	c.Helper()
	command := fsm.NewCleanup{Target: "cache", DryRun: dryRun}
	for _, name := range names {
		command.Patterns = append(command.Patterns, c.place.Prefix+name+":*")
	}
	return c.log.must(c, command).Cleanup.ID
}

func (c *cache) over(id uint64) fsm.Cleanup {
	c.Helper()
	until(c, "over", func() bool { return c.log.cleanup(id).State != fsm.CleanupRunning })
	return c.log.cleanup(id)
}

func TestCleanup_RemovesAllThatMatchesAndSaysWhat(t *testing.T) {
	t.Parallel()
	c := newCache(t)
	c.fill("a", 1_200)
	c.fill("b", 30)
	c.fill("bystander", 10)
	lead(t, c.task(c.target))
	if dry := c.over(c.start(true, "a", "b")); dry.State != fsm.CleanupDone || dry.Removed != 0 || dry.Matched < 1_230 || c.keys("a") != 1_200 {
		t.Errorf("dry run: %+v", dry)
	}
	got := c.over(c.start(false, "a", "b"))
	if got.State != fsm.CleanupDone || got.Removed != 1_230 || got.Matched < 1_230 || got.Scanned < 1_240 || len(got.Samples) != fsm.CleanupSamplesMax {
		t.Errorf("%+v", got)
	}
	for _, sample := range got.Samples {
		if !strings.HasPrefix(sample, c.place.Prefix) {
			t.Errorf("sample %q", sample)
		}
	}
	if a, b, others := c.keys("a"), c.keys("b"), c.keys("bystander"); a != 0 || b != 0 || others != 10 {
		t.Errorf("left: %d, %d; bystanders %d of 10", a, b, others)
	}
}

// hooked is a target whose sweeps call before each scan and each unlink. An error is what the caller gets.
type hooked struct {
	Target
	mu       sync.Mutex
	identity func(rediscache.Identity) rediscache.Identity
	onScan   func(call int, cursor uint64) error
	onUnlink func(call int) error
	scans    atomic.Int64
	unlinks  atomic.Int64
	cursors  []uint64
}

type hookedSweep struct {
	Sweep
	*hooked
}

func (h *hooked) BeginSweep(ctx context.Context) (Sweep, error) {
	sweep, err := h.Target.BeginSweep(ctx)
	if err != nil {
		return nil, err
	}
	return hookedSweep{sweep, h}, nil
}

func (s hookedSweep) Identity() rediscache.Identity {
	if s.identity != nil {
		return s.identity(s.Sweep.Identity())
	}
	return s.Sweep.Identity()
}

func (s hookedSweep) Scan(ctx context.Context, pattern string, cursor uint64) (rediscache.Scanned, error) {
	call := int(s.scans.Add(1))
	s.mu.Lock()
	s.cursors = append(s.cursors, cursor)
	s.mu.Unlock()
	if s.onScan != nil {
		if err := s.onScan(call, cursor); err != nil {
			return rediscache.Scanned{}, err
		}
	}
	return s.Sweep.Scan(ctx, pattern, cursor)
}

func (s hookedSweep) Unlink(ctx context.Context, keys []string) (uint64, error) {
	call := int(s.unlinks.Add(1))
	if s.onUnlink != nil {
		if err := s.onUnlink(call); err != nil {
			return 0, err
		}
	}
	return s.Sweep.Unlink(ctx, keys)
}

func TestCleanup_RegistrationStopsItBeforeTheNextBatch(t *testing.T) {
	t.Parallel()
	c := newCache(t)
	c.fill("a", 3_000)
	c.log.must(t, fsm.PutService{Name: "orders", MaxUnavailable: 1, Cleanup: &fsm.ServiceCleanup{Target: "cache", Patterns: []string{c.place.Prefix + "a:*"}}})
	after := make(chan int, 1)
	target := &hooked{Target: c.target}
	target.onUnlink = func(call int) error {
		if call == 2 {
			c.log.register(t, "back") // while a batch is being removed: that one is the last
			after <- call
		}
		return nil
	}
	lead(t, c.task(target))
	got := c.over(c.start(false, "a"))
	if got.State != fsm.CleanupStopped || !strings.Contains(got.Why, "registered") {
		t.Errorf("%+v", got)
	}
	<-after
	left := c.keys("a")
	until(t, "the executor has seen it", func() bool { return c.keys("a") == left && left > 0 })
	if n := target.unlinks.Load(); n != 2 || left < 3_000-2*2*rediscache.SweepKeysMax {
		t.Errorf("%d batches were removed, %d keys are left", n, left)
	}
}

func TestCleanup_LeaderThatIsDeposedRemovesNothingMore(t *testing.T) {
	t.Parallel()
	c := newCache(t)
	c.fill("a", 2_000)
	target := &hooked{Target: c.target}
	var refused atomic.Int64
	c.log.onPropose(func(command fsm.Command) (apply, answer bool) {
		_, ours := command.(fsm.CheckpointCleanup)
		if ours {
			refused.Add(1)
		}
		return !ours, true
	})
	id := c.start(false, "a")
	resign := lead(t, c.task(target))
	until(t, "checkpoints refused", func() bool { return refused.Load() > 3 })
	resign()
	if n := target.unlinks.Load(); n != 0 || c.keys("a") != 2_000 {
		t.Errorf("%d batches were removed by one whom the log does not answer", n)
	}
	c.log.onPropose(nil)
	lead(t, c.task(target))
	if got := c.over(id); got.State != fsm.CleanupDone || got.Removed != 2_000 {
		t.Errorf("%+v", got)
	}
}

func TestCleanup_NewLeaderGoesOnFromTheLoggedCursorUnlessTheServerMayBeAnother(t *testing.T) {
	t.Parallel()
	for name, restarted := range map[string]bool{"same life": false, "restarted since": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCache(t)
			c.fill("a", 4_000)
			ctx, depose := context.WithCancel(t.Context())
			first := &hooked{Target: c.target, onScan: func(call int, _ uint64) error {
				if call == 3 {
					depose()
					return context.Canceled
				}
				return nil
			}}
			id := c.start(false, "a")
			if err := c.task(first).Run(ctx); err != nil {
				t.Fatal(err)
			}
			logged := c.log.cleanup(id)
			if logged.Cursor == 0 || logged.State != fsm.CleanupRunning {
				t.Fatalf("logged %+v", logged)
			}
			second := &hooked{Target: c.target, identity: func(i rediscache.Identity) rediscache.Identity {
				i.Uptime = 24 * time.Hour
				if restarted {
					i.Uptime = 0
				}
				return i
			}}
			lead(t, c.task(second))
			if got := c.over(id); got.State != fsm.CleanupDone || got.Removed != 4_000 || c.keys("a") != 0 {
				t.Errorf("%+v", got)
			}
			second.mu.Lock()
			defer second.mu.Unlock()
			if from := second.cursors[0]; restarted && from != 0 || !restarted && from != logged.Cursor {
				t.Errorf("went on from %d, logged %d", from, logged.Cursor)
			}
		})
	}
}

// In another life of the server the keys lie in another order: a cursor of the last one would pass over some.
func TestCleanup_ServerThatRestartsInTheMiddleIsGoneOverFromTheStart(t *testing.T) {
	t.Parallel()
	c := newCache(t)
	c.fill("a", 3_000)
	var life atomic.Int64
	target := &hooked{Target: c.target, identity: func(i rediscache.Identity) rediscache.Identity {
		i.Life = fmt.Sprint(life.Load())
		return i
	}}
	target.onScan = func(call int, _ uint64) error {
		if call == 3 {
			life.Add(1)
			return rediscache.ErrUnreachable
		}
		return nil
	}
	lead(t, c.task(target))
	if got := c.over(c.start(false, "a")); got.State != fsm.CleanupDone || got.Removed != 3_000 {
		t.Errorf("%+v", got)
	}
	if target.cursors[2] == 0 || target.cursors[3] != 0 {
		t.Errorf("cursors %v", target.cursors)
	}
}

func TestCleanup_TargetThatFailsForTooLongFailsIt(t *testing.T) {
	t.Parallel()
	c := newCache(t)
	c.config.CleanupRetry = 200 * time.Millisecond
	var calls atomic.Int64
	target := &hooked{Target: c.target, onUnlink: func(int) error { calls.Add(1); return rediscache.ErrUnreachable }}
	c.fill("a", 10)
	lead(t, c.task(target))
	began := time.Now()
	got := c.over(c.start(false, "a"))
	if got.State != fsm.CleanupFailed || got.Why != rediscache.ErrUnreachable.Error() || time.Since(began) < c.config.CleanupRetry || calls.Load() < 3 {
		t.Errorf("%+v after %v and %d calls", got, time.Since(began), calls.Load())
	}
	target.onUnlink = nil
	unknown := c.log.must(t, fsm.NewCleanup{Target: "elsewhere", Patterns: []string{"ab*"}}).Cleanup.ID
	if got := c.over(unknown); got.State != fsm.CleanupFailed || got.Why != errNoTarget.Error() {
		t.Errorf("%+v", got)
	}
}

func TestCleanup_CancelledOneEndsAndManyShareTheWorkers(t *testing.T) {
	t.Parallel()
	c := newCache(t)
	c.config.CleanupsMax = 2
	hold := make(chan struct{})
	var busy, most atomic.Int64
	target := &hooked{Target: c.target}
	target.onScan = func(int, uint64) error {
		most.Store(max(most.Load(), busy.Add(1)))
		<-hold
		busy.Add(-1)
		return nil
	}
	var ids []uint64
	for i := range 5 {
		name := fmt.Sprint("n", i)
		c.fill(name, 3)
		ids = append(ids, c.start(false, name))
	}
	lead(t, c.task(target))
	until(t, "two at work", func() bool { return busy.Load() == 2 })
	c.log.must(t, fsm.CancelCleanup{ID: ids[4], Reason: "no"})
	close(hold)
	for _, id := range ids[:4] {
		if got := c.over(id); got.State != fsm.CleanupDone || got.Removed != 3 {
			t.Errorf("%+v", got)
		}
	}
	if got := c.log.cleanup(ids[4]); got.State != fsm.CleanupCancelled || c.keys("n4") != 3 || most.Load() != 2 {
		t.Errorf("%+v, %d at once", got, most.Load())
	}
}

func TestCleanup_SamplesAreFitForTheLog(t *testing.T) {
	t.Parallel()
	c := &cleanup{}
	c.sample([]string{"a\xff", strings.Repeat("\xff", 2*fsm.SampleBytesMax), "b"})
	c.sample(slices.Repeat([]string{"k"}, 20))
	if len(c.at.Samples) != fsm.CleanupSamplesMax || c.at.Samples[0] != "a\uFFFD" || len(c.at.Samples[1]) > fsm.SampleBytesMax {
		t.Errorf("%q", c.at.Samples)
	}
}
