package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
	"github.com/quiescehq/quiesce/outbox"
	"github.com/quiescehq/quiesce/rediscache"
)

const backlog = 2_000

// breaker finds one breaker in the stats.
func breaker(task *outbox.Task, kind string) outbox.BreakerStats {
	for _, b := range task.Stats().Breakers {
		if b.Kind == kind {
			return b
		}
	}
	return outbox.BreakerStats{}
}

// attemptsSpent adds up what the pending events have spent.
func attemptsSpent(w *world) (spent uint32) {
	w.log.View(func(s *fsm.State) {
		s.Events(fsm.RowRef{}, func(e fsm.Event) bool { spent += e.Attempts; return true })
	})
	return spent
}

// outage checks what must hold while a place is down, and after it came back.
func outage(t *testing.T, w *world, task *outbox.Task, kind string, classes []string, comeBack func()) {
	t.Helper()
	eventually(t, "the breaker is open", func() bool {
		b := breaker(task, kind)
		return b.State == "open" && slices.Contains(classes, b.LastClass)
	})
	comeBack()
	eventually(t, "the backlog drains", func() bool {
		if spent := attemptsSpent(w); spent != 0 {
			t.Fatalf("the outage spent %d attempts", spent)
		}
		return w.log.pending(mappingName) == 0
	})
	w.agree(t, backlog)
	if dead := w.log.dead(mappingName); dead != 0 {
		t.Errorf("%d dead letters", dead)
	}
	eventually(t, "the breaker is closed", func() bool { return breaker(task, kind).State == "closed" })
}

func TestOutage_RedisStoppedLosesNothingAndSpendsNoAttempt(t *testing.T) {
	t.Parallel()
	w, servers := owned(t)
	w.fill(t, backlog)
	w.enqueueAll(t, backlog)
	task := w.task(t)
	lead(t, task)
	w.drained(t)
	servers.KillRedis()
	w.exec(t, "UPDATE items SET n = n + 1")
	w.enqueueAll(t, backlog)
	eventually(t, "an event shows why it waits", func() bool {
		shown := false
		w.log.View(func(s *fsm.State) {
			s.Events(fsm.RowRef{}, func(e fsm.Event) bool { shown = e.Failure == outbox.ClassTargetDown; return !shown })
		})
		return shown
	})
	outage(t, w, task, "target", []string{outbox.ClassTargetDown, outbox.ClassTargetBusy}, servers.StartRedis)
}

func TestOutage_MySQLStoppedLosesNothingAndSpendsNoAttempt(t *testing.T) {
	t.Parallel()
	w, servers := owned(t)
	w.fill(t, backlog)
	task := w.task(t)
	lead(t, task)
	servers.StopMySQL()
	w.enqueueAll(t, backlog)
	outage(t, w, task, "source", []string{outbox.ClassSourceDown}, servers.StartMySQL)
}

func TestOutage_ReadOnlySourceAppliesNothing(t *testing.T) {
	t.Parallel()
	w, _ := owned(t)
	w.fill(t, backlog)
	task := w.task(t)
	lead(t, task)
	w.enqueue(t, row(1))
	w.drained(t)
	w.exec(t, "DELETE FROM items WHERE id = 1")
	w.exec(t, "SET GLOBAL read_only = 1")
	w.enqueueAll(t, backlog)
	eventually(t, "the breaker is open", func() bool { return breaker(task, "source").LastClass == outbox.ClassSourceNotPrimary })
	// A replica that lags would not know of the row, nor would one that is ahead of it be believed: neither may touch the cache.
	if w.cached(t, 1) == "" || w.cached(t, 2) != "" {
		t.Errorf("a read-only source changed the cache: %q, %q", w.cached(t, 1), w.cached(t, 2))
	}
	outage(t, w, task, "source", []string{outbox.ClassSourceNotPrimary}, func() { w.exec(t, "SET GLOBAL read_only = 0") })
}

// What a node's configuration asks for, and its Redis can never do, is nobody's fault but the configuration's: it is said so, and the events wait until it is another one.
func TestOutage_TargetThatCannotConfirmSaysSoAndSpendsNoAttempt(t *testing.T) {
	t.Parallel()
	w := shared(t)
	w.write(t, 1, "a")
	target, err := rediscache.Open(rediscache.Config{Name: targetName, Addr: w.addr, Confirm: rediscache.Confirm{AOF: true}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(t, target.Close) })
	w.places.Targets = map[string]outbox.Target{targetName: outbox.Redis(target)}
	task := w.task(t)
	resign := lead(t, task)
	w.enqueue(t, row(1))
	eventually(t, "the breaker is open", func() bool {
		b := breaker(task, "target")
		return b.State == "open" && b.LastClass == outbox.ClassTargetConfig
	})
	if e, ok := w.log.event(row(1)); !ok || e.Failure != outbox.ClassTargetConfig || e.Attempts != 0 || e.Detail == "" {
		t.Errorf("event %+v (pending: %v), want it pending with class %s, its reason and no attempt spent", e, ok, outbox.ClassTargetConfig)
	}
	resign()
	w.places.Targets = map[string]outbox.Target{targetName: outbox.Redis(w.target)}
	lead(t, w.task(t))
	w.drained(t)
	w.agree(t, 1)
}

func TestOutage_OpenBreakerTouchesNoMoreThanProbes(t *testing.T) {
	t.Parallel()
	w := shared(t)
	w.fill(t, backlog)
	var down atomic.Bool
	down.Store(true)
	var largest atomic.Int64
	w.places.Sources[sourceName] = sourceFunc(func(ctx context.Context, m *mapping.Mapping, pks [][]string) (map[string]*mapping.Row, error) {
		if down.Load() {
			largest.Store(max(largest.Load(), int64(len(pks))))
			return nil, fmt.Errorf("%w: staged", mysql.ErrUnreachable)
		}
		return w.source.ReadRows(ctx, m, pks)
	})
	task := w.task(t)
	lead(t, task)
	w.enqueueAll(t, backlog)
	eventually(t, "the breaker is open", func() bool { return breaker(task, "source").State == "open" })
	eventually(t, "no batch is under way", func() bool { return task.Stats().Mappings[0].InFlight == 0 })
	largest.Store(0)
	eventually(t, "some probes", func() bool { return largest.Load() > 0 })
	if got := largest.Load(); got > int64(w.cfg.ProbeRows) {
		t.Errorf("a probe read %d rows, at most %d are allowed", got, w.cfg.ProbeRows)
	}
	down.Store(false)
	w.drained(t)
	w.agree(t, backlog)
}

func TestUnknownOutcome_SettlementIsRepeatedAndTheGuardNeverFalls(t *testing.T) {
	t.Parallel()
	for _, lost := range []struct {
		name   string
		change tampered
	}{{"the entry is lost", tampered{lostBefore: true}}, {"the answer is lost", tampered{answerFails: true}}} {
		t.Run(lost.name, func(t *testing.T) {
			t.Parallel()
			w := shared(t)
			var entries atomic.Int64
			w.log.setTamper(func(ops []fsm.Op) tampered {
				change := tampered{}
				if entries.Add(1)%2 == 1 {
					change = lost.change
				}
				change.ops = ops
				return change
			})
			stopWatching := watchGuards(t, w, 3)
			lead(t, w.task(t))
			storm(t, w, 3, 3, 20)
			w.agree(t, 3)
			stopWatching()
		})
	}
}

// watchGuards reads the guards of the first rows again and again, and fails the test when a token falls.
func watchGuards(t *testing.T, w *world, count int) (stop func()) {
	t.Helper()
	done := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		highest := make([]uint64, count+1)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			for id := 1; id <= count; id++ {
				token := w.guardToken(t, id)
				if token < highest[id] {
					t.Errorf("the guard of row %d fell from %d to %d", id, highest[id], token)
				}
				highest[id] = token
			}
		}
	})
	var once sync.Once
	stop = func() { once.Do(func() { close(done); group.Wait() }) }
	t.Cleanup(stop)
	return stop
}

func TestUnknownOutcome_LostAnswerOfRedisSpendsNoAttempt(t *testing.T) {
	t.Parallel()
	w := shared(t)
	w.fill(t, 20)
	var calls atomic.Int64
	w.steps().afterApply = func(_ []rediscache.Guarded, outcomes []rediscache.Outcome, err error) error {
		if calls.Add(1) == 1 {
			clear(outcomes)
			return fmt.Errorf("%w: staged", rediscache.ErrUnreachable)
		}
		return err
	}
	task := w.task(t)
	lead(t, task)
	w.enqueueAll(t, 20)
	w.drained(t)
	w.agree(t, 20)
	if m := task.Stats().Mappings[0]; m.Superseded != 20 {
		t.Errorf("%d rows answered superseded, want all 20: they had been written before the answer was lost", m.Superseded)
	}
}

// A worker that was stopped between begin and apply wakes up with an old value, and the guard of the newer one is gone: only its deadline is left to refuse it.
func TestZombie_ApplyAfterTheDeadlineWritesNothing(t *testing.T) {
	t.Parallel()
	const deadline = 200 * time.Millisecond
	base := shared(t)
	target, err := rediscache.Open(rediscache.Config{Name: targetName, Addr: base.addr, Deadline: deadline})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(t, target.Close) })
	stopped, proceed, refused := make(chan struct{}), make(chan struct{}), make(chan rediscache.Outcome, 1)
	var first sync.Once
	base.places.Targets[targetName] = &stepTarget{Target: outbox.Redis(target),
		beforeApply: func(context.Context, []rediscache.Guarded) { first.Do(func() { close(stopped); <-proceed }) },
		afterApply: func(_ []rediscache.Guarded, outcomes []rediscache.Outcome, err error) error {
			select {
			case refused <- outcomes[0]:
			default:
			}
			return err
		}}
	base.write(t, 1, "old")
	base.enqueue(t, row(1))
	lead(t, base.task(t))
	<-stopped
	began := time.Now()

	base.write(t, 1, "new")
	other := *base
	other.places.Targets = map[string]outbox.Target{targetName: outbox.Redis(base.target)}
	resign := lead(t, other.task(t))
	base.drained(t)
	resign()
	base.redis(t, "DEL "+base.guard(1))
	eventually(t, "the deadline has passed", func() bool { return time.Since(began) > deadline })
	close(proceed)
	if got := <-refused; got != rediscache.OutcomeTooLate {
		t.Errorf("the late write answered %v, want %v", got, rediscache.OutcomeTooLate)
	}
	base.agree(t, 1)
}

func TestZombie_OldLeaderInMidBatchNeverWritesBackwards(t *testing.T) {
	t.Parallel()
	w := shared(t)
	w.write(t, 1, "old")
	w.enqueue(t, row(1))
	stopped, proceed, outcome := make(chan struct{}), make(chan struct{}), make(chan rediscache.Outcome, 1)
	old := *w
	// It has read the old row, and its context ends only when its packet is under way.
	old.places.Targets = map[string]outbox.Target{targetName: &stepTarget{Target: detached{outbox.Redis(w.target)},
		beforeApply: func(context.Context, []rediscache.Guarded) { close(stopped); <-proceed },
		afterApply: func(_ []rediscache.Guarded, outcomes []rediscache.Outcome, err error) error {
			outcome <- outcomes[0]
			return err
		}}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	task := old.task(t)
	go func() { ended <- task.Run(ctx) }()
	<-stopped
	cancel()

	w.write(t, 1, "new")
	w.enqueue(t, row(1))
	lead(t, w.task(t))
	w.drained(t)
	token := w.guardToken(t, 1)
	close(proceed)
	if got := <-outcome; got != rediscache.OutcomeSuperseded {
		t.Errorf("the old leader's write answered %v, want %v", got, rediscache.OutcomeSuperseded)
	}
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if m := task.Stats().Mappings[0]; m.InFlight != 0 {
		t.Errorf("%d events are still in flight after the run", m.InFlight)
	}
	w.agree(t, 1)
	if after := w.guardToken(t, 1); after != token {
		t.Errorf("the guard went from %d to %d", token, after)
	}
}

// detached hands on no context: what is on its way to the server cannot be called back.
type detached struct{ outbox.Target }

func (d detached) Begin(ctx context.Context, keys []string) (outbox.Batch, error) {
	batch, err := d.Target.Begin(ctx, keys)
	if err != nil {
		return nil, err
	}
	return detachedBatch{batch}, nil
}

type detachedBatch struct{ outbox.Batch }

func (d detachedBatch) Apply(ctx context.Context, writes []rediscache.Guarded) ([]rediscache.Outcome, error) {
	return d.Batch.Apply(context.WithoutCancel(ctx), writes)
}

func TestZombie_StormAcrossLeaderChangesEndsWithTheLastCommit(t *testing.T) {
	t.Parallel()
	w := shared(t)
	stopWatching := watchGuards(t, w, 3)
	done := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		for {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			task := w.task(t)
			var term sync.WaitGroup
			term.Go(func() {
				if err := task.Run(ctx); err != nil {
					t.Errorf("Run: %v", err)
				}
			})
			<-ctx.Done()
			cancel()
			group.Go(term.Wait) // its last batch may end beside the next leader's first
			select {
			case <-done:
				return
			default:
			}
		}
	})
	storm(t, w, 3, 4, 100)
	close(done)
	group.Wait()
	w.agree(t, 3)
	stopWatching()
}

func TestDeadLetter_WrongTypeIsBuriedAfterItsKeyWasRemoved(t *testing.T) {
	t.Parallel()
	w := shared(t)
	w.fill(t, 3)
	w.redis(t, "RPUSH "+w.key(2)+" stale")
	task := w.task(t)
	lead(t, task)
	w.enqueueAll(t, 3)
	w.drained(t)
	letter, ok := w.log.letter(row(2))
	if !ok || letter.Failure != outbox.ClassWrongType || letter.Detail == "" {
		t.Fatalf("dead letter %+v (%v), want one of class %s with a reason", letter, ok, outbox.ClassWrongType)
	}
	if got := w.redis(t, "EXISTS "+w.key(2)); got != ":0" {
		t.Errorf("the key of a dead letter is still there: EXISTS answers %s", got)
	}
	if dead := w.log.dead(mappingName); dead != 1 {
		t.Errorf("%d dead letters, want 1: its neighbours are well", dead)
	}
	w.enqueue(t, row(2))
	w.drained(t)
	w.agree(t, 3)
	if dead := w.log.dead(mappingName); dead != 0 {
		t.Errorf("%d dead letters after a new event of the row", dead)
	}
}

func TestDeadLetter_NothingIsBuriedWhileItsKeyCannotBeRemoved(t *testing.T) {
	t.Parallel()
	w := shared(t)
	w.write(t, 1, "a")
	w.redis(t, "RPUSH "+w.key(1)+" stale")
	var reachable atomic.Bool
	var tries atomic.Int64
	w.places.Targets[targetName] = noInvalidate{Target: outbox.Redis(w.target), reachable: &reachable, tries: &tries}
	task := w.task(t)
	lead(t, task)
	w.enqueue(t, row(1))
	eventually(t, "burial was tried again", func() bool { return tries.Load() > 2 })
	if e, ok := w.log.event(row(1)); !ok || e.Failure != outbox.ClassTargetDown || e.Attempts != 0 {
		t.Errorf("event %+v (pending: %v), want it pending, class %s and no attempt spent", e, ok, outbox.ClassTargetDown)
	}
	reachable.Store(true)
	eventually(t, "it is buried", func() bool { return w.log.dead(mappingName) == 1 })
	if got := w.redis(t, "EXISTS "+w.key(1)); got != ":0" {
		t.Errorf("EXISTS answers %s", got)
	}
}

type noInvalidate struct {
	outbox.Target
	reachable *atomic.Bool
	tries     *atomic.Int64
}

func (n noInvalidate) Begin(ctx context.Context, keys []string) (outbox.Batch, error) {
	batch, err := n.Target.Begin(ctx, keys)
	if err != nil {
		return nil, err
	}
	return noInvalidateBatch{batch, n}, nil
}

type noInvalidateBatch struct {
	outbox.Batch
	place noInvalidate
}

func (b noInvalidateBatch) Invalidate(ctx context.Context, pairs []rediscache.KeyPair) error {
	b.place.tries.Add(1)
	if !b.place.reachable.Load() {
		return fmt.Errorf("%w: staged", rediscache.ErrUnreachable)
	}
	return b.Batch.Invalidate(ctx, pairs)
}

// One row makes every answer of its batch an error without class. The others must not wait for it, and it must not stay for ever.
func TestDeadLetter_PoisonousRowIsIsolatedAndBuried(t *testing.T) {
	t.Parallel()
	w := shared(t)
	const count, poison = 200, "77"
	w.fill(t, count)
	w.cfg.AttemptsMax, w.cfg.BackoffBase, w.cfg.BackoffMax = 3, 2*time.Millisecond, 10*time.Millisecond
	w.cfg.BreakerOpen = 5 * time.Millisecond
	w.places.Sources[sourceName] = sourceFunc(func(ctx context.Context, m *mapping.Mapping, pks [][]string) (map[string]*mapping.Row, error) {
		for _, pk := range pks {
			if pk[0] == poison {
				return nil, errors.New("staged: no class")
			}
		}
		return w.source.ReadRows(ctx, m, pks)
	})
	lead(t, w.task(t))
	w.redis(t, "SET "+w.key(77)+" stale")
	w.enqueueAll(t, count)
	w.drained(t)
	letter, ok := w.log.letter(row(77))
	if dead := w.log.dead(mappingName); !ok || dead != 1 || letter.Failure != outbox.ClassSourceUnexpected {
		t.Fatalf("%d dead letters, that of the poisonous row is %+v (%v)", dead, letter, ok)
	}
	if strings.Contains(letter.Detail, "staged") {
		t.Errorf("the detail %q quotes a driver", letter.Detail)
	}
	w.exec(t, "DELETE FROM items WHERE id = 77") // its key was removed
	w.agree(t, count)
}

func TestDeadLetter_KeyThatIsNoneOfTheTableIsBuried(t *testing.T) {
	t.Parallel()
	w := shared(t)
	w.fill(t, 2)
	lead(t, w.task(t))
	bad := fsm.RowRef{Mapping: mappingName, PK: `["one","two"]`}
	w.enqueue(t, row(1), bad, row(2))
	w.drained(t)
	if letter, ok := w.log.letter(bad); !ok || letter.Failure != outbox.ClassKeyInvalid {
		t.Errorf("dead letter %+v (%v), want class %s", letter, ok, outbox.ClassKeyInvalid)
	}
	w.agree(t, 2)
}
