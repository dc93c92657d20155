package client

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quiescehq/quiesce/client/quiescetest"
)

const testTTL = 10 * time.Second

// openSession opens a session in a bubble; the returned function ends session and client.
func openSession(t *testing.T, coordinator *quiescetest.Coordinator) (*Session, func()) {
	t.Helper()
	s, end := openSessionOver(t, coordinator.HTTPClient())
	return s, func() {
		coordinator.Resume()
		end()
	}
}

func openSessionOver(t *testing.T, transport *http.Client) (*Session, func()) {
	t.Helper()
	c, err := New(Config{Addrs: []string{quiescetest.Addr}, HTTPClient: transport})
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.OpenSession(t.Context(), "test", testTTL)
	if err != nil {
		t.Fatal(err)
	}
	return s, func() {
		_ = s.Close(t.Context())
		c.Close()
	}
}

func TestLock_DoneClosesBeforeTheCoordinatorCanGrantToAnother(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		coordinator := quiescetest.New()
		s, end := openSession(t, coordinator)
		defer end()
		lock, err := s.Lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		alone(t, time.Minute) // keepalives keep it
		if lock.Err() != nil {
			t.Fatalf("lost under a coordinator that answers: %v", lock.Err())
		}
		coordinator.Hang()
		<-lock.Done()
		if holder, _ := coordinator.Holder("a"); holder != s.ID() {
			t.Error("the coordinator had freed the lock before its holder was told")
		}
		if !errors.Is(lock.Err(), ErrLockLost) {
			t.Errorf("Err is %v", lock.Err())
		}
		alone(t, testTTL)
		if holder, _ := coordinator.Holder("a"); holder != "" {
			t.Error("the lock never became free, so the test has shown nothing")
		}
	})
}

// alone lets time pass in a bubble.
func alone(t *testing.T, d time.Duration) {
	t.Helper()
	<-time.After(d)
	synctest.Wait()
}

func TestLease_DeadlineCountsFromTheSendingOfTheKeepalive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sent := time.Now()
		<-time.After(3 * time.Second) // the answer is slow
		l := newLease("s", testTTL, sent)
		defer l.end(ErrSessionClosed)
		if want := sent.Add(testTTL - testTTL/leaseMargin); !l.until.Equal(want) {
			t.Errorf("ends %v after sending, want %v", l.until.Sub(sent), want.Sub(sent))
		}
		sent = time.Now()
		<-time.After(2 * time.Second)
		l.renew(sent, testTTL, nil)
		if want := sent.Add(testTTL - testTTL/leaseMargin); !l.until.Equal(want) {
			t.Errorf("renewed until %v after sending, want %v", l.until.Sub(sent), want.Sub(sent))
		}
		l.renew(sent.Add(-time.Second), testTTL, nil)
		if want := sent.Add(testTTL - testTTL/leaseMargin); !l.until.Equal(want) {
			t.Error("an answer to an older keepalive shortened the lease")
		}
	})
}

func TestLock_StaysLostWhenTheLeaseIsRenewedLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		coordinator := quiescetest.New()
		s, end := openSession(t, coordinator)
		defer end()
		lock, err := s.Lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		coordinator.Hang()
		<-lock.Done()
		coordinator.Resume() // just before it would have expired
		alone(t, 5*time.Second)
		if s.Err() != nil {
			t.Fatalf("the session is over: %v", s.Err())
		}
		if !errors.Is(lock.Err(), ErrLockLost) {
			t.Errorf("a lock came back to life: %v", lock.Err())
		}
		again, err := s.Lock(t.Context(), "a", NoWait())
		if err != nil {
			t.Fatalf("the session stands in its own way: %v", err)
		}
		if again.Token() <= lock.Token() {
			t.Errorf("token %d after %d", again.Token(), lock.Token())
		}
	})
}

func TestLock_ProcessThatWasStoppedKnowsAtOnce(t *testing.T) {
	t.Parallel()
	l := newLease("s", time.Minute, time.Now())
	defer l.end(ErrSessionClosed)
	lock := &Lock{newHold(nil, l)}
	if !l.add(lock.hold) || lock.Err() != nil {
		t.Fatal("not held")
	}
	// After SIGCONT the clock is ahead of the timers: no goroutine has closed Done yet.
	l.mu.Lock()
	l.until = time.Now().Add(-time.Second)
	l.mu.Unlock()
	select {
	case <-lock.Done():
		t.Fatal("Done is closed, so the test shows nothing")
	default:
	}
	if !errors.Is(lock.Err(), ErrLockLost) {
		t.Errorf("Err is %v", lock.Err())
	}
	l.renew(time.Now(), time.Minute, nil)
	if !errors.Is(lock.Err(), ErrLockLost) {
		t.Errorf("a renewal after the lapse revived the lock: %v", lock.Err())
	}
}

func TestLock_SecondWaitsAndGetsAHigherToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		coordinator := quiescetest.New()
		first, endFirst := openSession(t, coordinator)
		defer endFirst()
		second, endSecond := openSession(t, coordinator)
		defer endSecond()
		held, err := first.Lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := second.Lock(t.Context(), "a", NoWait()); !errors.Is(err, ErrLockHeld) {
			t.Errorf("got %v", err)
		}
		var refused *Error
		_, err = second.Lock(t.Context(), "a", NoWait())
		if !errors.As(err, &refused) || refused.Holder != first.ID() || refused.Token != held.Token() {
			t.Errorf("the refusal does not name the holder: %+v", refused)
		}
		got := make(chan *Lock, 1)
		go func() {
			lock, err := second.Lock(t.Context(), "a")
			if err != nil {
				t.Error(err)
			}
			got <- lock
		}()
		alone(t, 3*parkMax) // longer than one request parks
		if err := held.Unlock(t.Context()); err != nil {
			t.Error(err)
		}
		if lock := <-got; lock.Token() <= held.Token() {
			t.Errorf("token %d after %d", lock.Token(), held.Token())
		}
		if !errors.Is(held.Err(), ErrUnlocked) {
			t.Errorf("Err after Unlock is %v", held.Err())
		}
	})
}

func TestLock_WaitEndsInVain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		coordinator := quiescetest.New()
		first, endFirst := openSession(t, coordinator)
		defer endFirst()
		second, endSecond := openSession(t, coordinator)
		defer endSecond()
		if _, err := first.Lock(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if _, err := second.Lock(t.Context(), "a", WaitAtMost(time.Second)); !errors.Is(err, ErrLockWaitTimeout) {
			t.Errorf("got %v", err)
		}
	})
}

func TestSession_GoneAtTheCoordinatorEndsItsLocks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		coordinator := quiescetest.New()
		s, end := openSession(t, coordinator)
		defer end()
		lock, err := s.Lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		coordinator.ExpireAll()
		<-s.Done()
		<-lock.Done()
		if !errors.Is(s.Err(), ErrSessionGone) {
			t.Errorf("got %v", s.Err())
		}
		if _, err := s.Lock(t.Context(), "a"); !errors.Is(err, ErrSessionGone) {
			t.Errorf("got %v", err)
		}
	})
}

func TestLock_CallersOfOneSessionWaitForEachOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		coordinator := quiescetest.New()
		s, end := openSession(t, coordinator)
		defer end()
		var inside, grants int
		var last uint64
		var callers sync.WaitGroup
		for range 5 {
			callers.Go(func() {
				lock, err := s.Lock(t.Context(), "a")
				if err != nil {
					t.Error(err)
					return
				}
				if inside++; inside != 1 || lock.Token() <= last {
					t.Errorf("%d inside, token %d after %d", inside, lock.Token(), last)
				}
				<-time.After(time.Second)
				inside, grants, last = inside-1, grants+1, lock.Token()
				if err := lock.Unlock(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		callers.Wait()
		if grants != 5 || coordinator.Waiting("a") != 0 {
			t.Errorf("%d grants, %d still wait", grants, coordinator.Waiting("a"))
		}
	})
}

func TestLock_CallerOfTheSameSessionCanRefuseToWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		coordinator := quiescetest.New()
		s, end := openSession(t, coordinator)
		defer end()
		lock, err := s.Lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Lock(t.Context(), "a", NoWait()); !errors.Is(err, ErrLockHeld) {
			t.Errorf("got %v", err)
		}
		if _, err := s.Lock(t.Context(), "a", WaitAtMost(time.Second)); !errors.Is(err, ErrLockWaitTimeout) {
			t.Errorf("got %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := s.Lock(ctx, "a"); !errors.Is(err, context.Canceled) || !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		if err := lock.Unlock(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := s.Lock(t.Context(), "a", NoWait()); err != nil {
			t.Errorf("those who left their turn hold up the next: %v", err)
		}
	})
}
