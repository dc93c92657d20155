package client

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client/quiescetest"
)

// bubble runs a test in a bubble with a coordinator and two sessions of two clients.
func bubble(t *testing.T, test func(t *testing.T, coordinator *quiescetest.Coordinator, first, second *Session)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		coordinator := quiescetest.New()
		first, endFirst := openSession(t, coordinator)
		defer endFirst()
		second, endSecond := openSession(t, coordinator)
		defer endSecond()
		test(t, coordinator, first, second)
	})
}

func ask(t *testing.T, coordinator *quiescetest.Coordinator, path, body string) {
	t.Helper()
	response, err := coordinator.HTTPClient().Post(quiescetest.Addr+path, api.ContentJSON, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil || response.StatusCode >= 300 {
		t.Fatalf("%s: %d, %v", path, response.StatusCode, err)
	}
}

func TestLock_ContextEndsWithTheLock(t *testing.T) {
	bubble(t, func(t *testing.T, coordinator *quiescetest.Coordinator, s, _ *Session) {
		lost, err := s.Lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		given, err := s.Lock(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		parent, cancel := context.WithCancel(t.Context())
		forParent, forGiven, forLost := lost.Context(parent), given.Context(t.Context()), lost.Context(t.Context())
		cancel()
		if err := given.Unlock(t.Context()); err != nil {
			t.Error(err)
		}
		coordinator.Hang()
		<-forLost.Done()
		if holder, _ := coordinator.Holder("a"); holder != s.ID() {
			t.Error("the coordinator had freed the lock before its holder was told")
		}
		synctest.Wait()
		for _, tc := range []struct {
			ctx  context.Context
			want error
		}{{forParent, context.Canceled}, {forGiven, ErrUnlocked}, {forLost, ErrLockLost}} {
			if got := context.Cause(tc.ctx); !errors.Is(got, tc.want) {
				t.Errorf("cause %v, want %v", got, tc.want)
			}
		}
	})
}

func TestLock_LossIsToldOnceAndStays(t *testing.T) {
	bubble(t, func(t *testing.T, coordinator *quiescetest.Coordinator, s, _ *Session) {
		lock, err := s.Lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		told := 0
		context.AfterFunc(lock.Context(t.Context()), func() { told++ })
		coordinator.Hang()
		<-lock.Done()
		coordinator.Resume()
		alone(t, time.Minute)
		if err := lock.Unlock(t.Context()); err != nil {
			t.Errorf("unlock after the loss, and after the release that followed it: %v", err)
		}
		if told != 1 || !errors.Is(lock.Err(), ErrLockLost) {
			t.Errorf("told %d times, then %v", told, lock.Err())
		}
		if n := len(opsOf(t, coordinator, api.OpRelease)); n != 1 {
			t.Errorf("released %d times", n)
		}
	})
}

func TestLock_UnlockWithAContextThatHasEndedStillGivesBack(t *testing.T) {
	bubble(t, func(t *testing.T, coordinator *quiescetest.Coordinator, s, _ *Session) {
		lock, err := s.Lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := lock.Unlock(ended); !errors.Is(err, context.Canceled) || !errors.Is(lock.Err(), ErrUnlocked) {
			t.Errorf("got %v, then %v", err, lock.Err())
		}
		alone(t, time.Second)
		if holder, _ := coordinator.Holder("a"); holder != "" {
			t.Error("still held")
		}
		if err := lock.Unlock(t.Context()); err != nil {
			t.Errorf("waiting for the same release: %v", err)
		}
	})
}

func TestLock_ReleaseThatFoundNobodyIsMadeUpFor(t *testing.T) {
	bubble(t, func(t *testing.T, coordinator *quiescetest.Coordinator, s, _ *Session) {
		lock, err := s.Lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		coordinator.FailNext(10_000, api.CodeNoLeader, batchPath)
		if err := lock.Unlock(t.Context()); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("got %v", err)
		}
		coordinator.ClearFaults()
		alone(t, testTTL)
		if holder, _ := coordinator.Holder("a"); holder != "" {
			t.Error("the lock is held for as long as its session lives")
		}
	})
}

func TestLock_ReentrantOwnerIsCountedDownOnceForEachHandle(t *testing.T) {
	bubble(t, func(t *testing.T, coordinator *quiescetest.Coordinator, s, _ *Session) {
		take := func() *Lock {
			l, err := s.Lock(t.Context(), "a", Owner("job"), Reentrant())
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		outer, inner := take(), take()
		if outer.Token() != inner.Token() {
			t.Errorf("tokens %d and %d", outer.Token(), inner.Token())
		}
		coordinator.HideNext(10_000, api.CodeOutcomeUnknown, batchPath)
		if err := inner.Unlock(t.Context()); !errors.Is(err, ErrOutcomeUnknown) {
			t.Fatalf("got %v", err)
		}
		coordinator.ClearFaults()
		_ = inner.Unlock(t.Context())
		alone(t, 2*testTTL)
		if holder, _ := coordinator.Holder("a"); holder != s.ID() || outer.Err() != nil {
			t.Fatalf("the outer hold went with the inner one: %v", outer.Err())
		}
		if err := outer.Unlock(t.Context()); err != nil {
			t.Error(err)
		}
		if holder, _ := coordinator.Holder("a"); holder != "" {
			t.Error("still held")
		}
	})
}

func TestLock_ReentrantNeedsAnOwner(t *testing.T) {
	bubble(t, func(t *testing.T, _ *quiescetest.Coordinator, s, _ *Session) {
		if _, err := s.Lock(t.Context(), "a", Reentrant()); !errors.Is(err, ErrLockOptions) {
			t.Errorf("got %v", err)
		}
	})
}

func TestRWLock_ReadersShareAndADowngradedWriterKeepsItsToken(t *testing.T) {
	bubble(t, func(t *testing.T, coordinator *quiescetest.Coordinator, first, second *Session) {
		writer, err := first.RWLock("a").Lock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := second.RWLock("a").RLock(t.Context(), NoWait()); !errors.Is(err, ErrLockHeld) {
			t.Errorf("a reader beside a writer: %v", err)
		}
		token := writer.Token()
		if err := writer.Downgrade(t.Context()); err != nil {
			t.Fatal(err)
		}
		reader, err := second.RWLock("a").RLock(t.Context(), NoWait())
		if err != nil || writer.Token() != token || writer.Err() != nil {
			t.Fatalf("%v; token %d after %d, %v", err, writer.Token(), token, writer.Err())
		}
		if got := coordinator.LockState("a"); got.Mode != api.ModeShared || len(got.Holders) != 2 || got.Holders[0].Token != token {
			t.Errorf("the coordinator has %+v", got)
		}
		if err := errors.Join(writer.Unlock(t.Context()), reader.Unlock(t.Context())); err != nil {
			t.Error(err)
		}
	})
}

func TestSemaphore_PermitsAddUpToTheLimit(t *testing.T) {
	bubble(t, func(t *testing.T, _ *quiescetest.Coordinator, first, second *Session) {
		two, err := first.Semaphore("a", 3).Acquire(t.Context(), 2)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := second.Semaphore("a", 3).Acquire(t.Context(), 2, NoWait()); !errors.Is(err, ErrLockHeld) {
			t.Errorf("four of three: %v", err)
		}
		if _, err := second.Semaphore("a", 3).Acquire(t.Context(), 1, NoWait()); err != nil {
			t.Errorf("the third of three: %v", err)
		}
		if _, err := second.Semaphore("a", 4).Acquire(t.Context(), 1, NoWait()); !errors.Is(err, ErrLimitMismatch) {
			t.Errorf("another limit: %v", err)
		}
		if err := two.Unlock(t.Context()); err != nil {
			t.Error(err)
		}
		for _, n := range []int{0, -1, 4} {
			if _, err := second.Semaphore("a", 3).Acquire(t.Context(), n); !errors.Is(err, ErrLockOptions) {
				t.Errorf("%d permits of 3: %v", n, err)
			}
		}
	})
}

func TestLockMany_AllOrNone(t *testing.T) {
	bubble(t, func(t *testing.T, coordinator *quiescetest.Coordinator, first, second *Session) {
		held, err := second.Lock(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		want := slices.Concat(Exclusive("a", "b"), Shared("c"), Permits("d", 2, 5))
		if _, err := first.LockMany(t.Context(), want, NoWait()); !errors.Is(err, ErrLockHeld) {
			t.Errorf("got %v", err)
		}
		if holder, _ := coordinator.Holder("a"); holder != "" {
			t.Error("one was granted without the others")
		}
		var waiting sync.WaitGroup
		waiting.Go(func() {
			locks, err := first.LockMany(t.Context(), want)
			if err != nil {
				t.Error(err)
				return
			}
			for _, name := range []string{"a", "b", "c", "d"} {
				if _, token := coordinator.Holder(name); token != locks.Token(name) || token == 0 {
					t.Errorf("%s: told token %d, granted %d", name, locks.Token(name), token)
				}
			}
			if n := len(slices.Collect(maps.Keys(locks.Tokens()))); n != 4 {
				t.Errorf("%d tokens", n)
			}
			if err := locks.Unlock(t.Context()); err != nil {
				t.Error(err)
			}
		})
		alone(t, time.Second)
		if err := held.Unlock(t.Context()); err != nil {
			t.Error(err)
		}
		waiting.Wait()
		if n := coordinator.LockState("d").HoldersTotal; n != 0 {
			t.Errorf("%d holders are left", n)
		}
	})
}

func TestLockMany_NameThatWasTakenAwayDoesNotKeepTheOthers(t *testing.T) {
	bubble(t, func(t *testing.T, coordinator *quiescetest.Coordinator, s, _ *Session) {
		locks, err := s.LockMany(t.Context(), Exclusive("a", "b"))
		if err != nil {
			t.Fatal(err)
		}
		ask(t, coordinator, "/v1/locks/force-release", `{"name":"a","reason":"test"}`)
		if err := locks.Unlock(t.Context()); !errors.Is(err, ErrNotHolder) {
			t.Errorf("got %v", err)
		}
		alone(t, time.Second)
		if holder, _ := coordinator.Holder("b"); holder != "" {
			t.Error("the other name is held for as long as the session lives")
		}
	})
}

func TestLock_HandOffGivesItToTheNamedOrTheFirst(t *testing.T) {
	bubble(t, func(t *testing.T, coordinator *quiescetest.Coordinator, first, second *Session) {
		lock, err := first.Lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if err := lock.HandOff(t.Context(), ""); !errors.Is(err, ErrNoSuccessor) || lock.Err() != nil {
			t.Fatalf("nobody waits: %v, and then %v", err, lock.Err())
		}
		got := make(chan *Lock, 1)
		go func() {
			l, err := second.Lock(t.Context(), "a")
			if err != nil {
				t.Error(err)
			}
			got <- l
		}()
		alone(t, time.Second)
		if err := lock.HandOff(t.Context(), second.ID()); err != nil {
			t.Fatal(err)
		}
		if l := <-got; l.Token() <= lock.Token() || !errors.Is(lock.Err(), ErrUnlocked) {
			t.Errorf("token %d after %d; the old handle says %v", l.Token(), lock.Token(), lock.Err())
		}
	})
}

func TestLock_CircleOfWaitsIsToldAndCanEndTheWait(t *testing.T) {
	bubble(t, func(t *testing.T, coordinator *quiescetest.Coordinator, s, _ *Session) {
		x, err := s.Lock(t.Context(), "x", Owner("one"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Lock(t.Context(), "y", Owner("two")); err != nil {
			t.Fatal(err)
		}
		var waiting sync.WaitGroup
		waiting.Go(func() {
			if _, err := s.Lock(t.Context(), "x", Owner("two")); err != nil {
				t.Error(err)
			}
		})
		alone(t, time.Second)
		_, err = s.Lock(t.Context(), "y", Owner("one"), FailOnDeadlock())
		var circle *DeadlockError
		if !errors.As(err, &circle) || len(circle.Waits) != 2 || !strings.Contains(err.Error(), `"x"`) {
			t.Fatalf("got %v", err)
		}
		alone(t, time.Second)
		if n := coordinator.Waiting("y"); n != 0 {
			t.Errorf("%d still wait", n)
		}
		if err := x.Unlock(t.Context()); err != nil {
			t.Error(err)
		}
		waiting.Wait()
	})
}

func TestLock_DelayAndValueReachTheCoordinator(t *testing.T) {
	bubble(t, func(t *testing.T, coordinator *quiescetest.Coordinator, first, second *Session) {
		if _, err := first.Lock(t.Context(), "a", LockDelay(time.Minute), Value("10.0.0.1")); err != nil {
			t.Fatal(err)
		}
		if got := coordinator.LockState("a"); len(got.Holders) != 1 || got.Holders[0].Value != "10.0.0.1" {
			t.Errorf("the coordinator has %+v", got)
		}
		coordinator.ExpireSession(first.ID())
		if _, err := second.TryLock(t.Context(), "a"); !errors.Is(err, ErrLockHeld) {
			t.Errorf("within the delay: %v", err)
		}
		alone(t, time.Minute)
		if _, err := second.TryLock(t.Context(), "a"); err != nil {
			t.Errorf("after the delay: %v", err)
		}
	})
}
