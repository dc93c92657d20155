package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client/quiescetest"
)

const batchPath = "/v1/batch"

// lockTogether takes as many locks as there are names while the coordinator hangs on the first, so that the others travel together.
func lockTogether(t *testing.T, coordinator *quiescetest.Coordinator, s *Session, names []string, prepare func()) []*Lock {
	t.Helper()
	coordinator.Hang()
	locks := make([]*Lock, len(names))
	var callers sync.WaitGroup
	call := func(i int) {
		callers.Go(func() {
			var err error
			if locks[i], err = s.Lock(t.Context(), names[i]); err != nil {
				t.Errorf("%s: %v", names[i], err)
			}
		})
	}
	call(0)
	synctest.Wait()
	for i := 1; i < len(names); i++ {
		call(i)
	}
	synctest.Wait()
	prepare()
	coordinator.Resume()
	callers.Wait()
	return locks
}

func numbered(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("lock-%d", i)
	}
	return names
}

func TestBatch_CallsThatComeMeanwhileShareARequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		coordinator := quiescetest.New()
		s, end := openSession(t, coordinator)
		defer end()
		before := len(coordinator.Requests(batchPath))
		locks := lockTogether(t, coordinator, s, numbered(100), func() {})
		if n := len(coordinator.Requests(batchPath)) - before; n != 2 {
			t.Errorf("%d requests, want the one on its way and one for all who came meanwhile", n)
		}
		for i, l := range locks {
			if holder, token := coordinator.Holder(numbered(100)[i]); holder != s.ID() || token != l.Token() {
				t.Fatalf("lock %d: told token %d, the coordinator has %d of %s", i, l.Token(), token, holder)
			}
		}
	})
}

func TestBatch_UnknownOutcomeIsAskedForAgainAsAWholeUnderTheSameKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		coordinator := quiescetest.New()
		s, end := openSession(t, coordinator)
		defer end()
		names := numbered(20)
		locks := lockTogether(t, coordinator, s, names, func() {
			coordinator.CutNext(2, batchPath)
			coordinator.HideNext(1, api.CodeOutcomeUnknown, batchPath)
			coordinator.FailNext(1, api.CodeNoLeader, batchPath)
		})
		asked := map[string]map[string]int{} // by body
		for _, o := range opsOf(t, coordinator, api.OpAcquire) {
			if asked[string(o.Body)] == nil {
				asked[string(o.Body)] = map[string]int{}
			}
			asked[string(o.Body)][o.Key]++
		}
		again := 0
		for body, keys := range asked {
			if len(keys) != 1 {
				t.Errorf("%s was sent under %d keys", body, len(keys))
			}
			for _, n := range keys {
				again += n - 1
			}
		}
		if len(asked) != len(names) || again < 4*(len(names)-1) {
			t.Fatalf("%d locks were asked for, %d times again: the faults have not met them", len(asked), again)
		}
		for i, l := range locks {
			if _, token := coordinator.Holder(names[i]); token != l.Token() {
				t.Errorf("%s: told token %d, granted %d: it was taken twice", names[i], l.Token(), token)
			}
		}
	})
}

func TestBatch_OneCallersRefusalIsNotTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		coordinator := quiescetest.New()
		s, end := openSession(t, coordinator)
		defer end()
		other, endOther := openSession(t, coordinator)
		defer endOther()
		if _, err := other.Lock(t.Context(), "taken"); err != nil {
			t.Fatal(err)
		}
		coordinator.Hang()
		var callers sync.WaitGroup
		for _, name := range []string{"a", "b", "taken", "c"} {
			callers.Go(func() {
				_, err := s.TryLock(t.Context(), name)
				if (name == "taken") != errors.Is(err, ErrLockHeld) {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		synctest.Wait()
		coordinator.Resume()
		callers.Wait()
	})
}

func TestBatch_RequestsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		coordinator := quiescetest.New()
		s, end := openSession(t, coordinator)
		defer end()
		const callers = 3_000 // more than keys may be outstanding
		coordinator.Hang()
		var done sync.WaitGroup
		for i := range callers {
			done.Go(func() {
				if _, err := s.Lock(t.Context(), fmt.Sprint(i), Value(strings.Repeat("<", i%api.ValueBytesMax))); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		coordinator.Resume()
		done.Wait()
		for _, r := range coordinator.Requests(batchPath) {
			var batch api.Batch
			if err := json.Unmarshal(r.Body, &batch); err != nil || len(batch.Ops) > batchOps || len(r.Body) > api.BodyBytesMax {
				t.Errorf("%d operations in %d bytes: %v", len(batch.Ops), len(r.Body), err)
			}
		}
	})
}

func TestBatch_OrderOfOneCallerIsKeptWhenItDoesNotWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		coordinator := quiescetest.New()
		s, end := openSession(t, coordinator)
		defer end()
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for range 50 {
			lock, err := s.TryLock(t.Context(), "a", Owner("me"))
			if err != nil {
				t.Fatalf("the lock was asked for before it was given back: %v", err)
			}
			if err := lock.Unlock(ended); err != nil && !errors.Is(err, context.Canceled) { // it may have been answered all the same
				t.Fatalf("got %v", err)
			}
		}
	})
}

func TestBatch_CallerThatTurnsAwayWhileItsRequestIsUnderWayLeavesNothingHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		coordinator := quiescetest.New()
		s, end := openSession(t, coordinator)
		defer end()
		coordinator.Hang()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if _, err := s.Lock(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("got %v", err)
		}
		if held := time.Since(began); held != time.Second {
			t.Errorf("the caller was held up for %v", held)
		}
		coordinator.Resume()
		alone(t, time.Second)
		if len(opsOf(t, coordinator, api.OpAcquire)) == 0 {
			t.Fatal("nothing was asked for, so the test shows nothing")
		}
		if holder, _ := coordinator.Holder("a"); holder != "" {
			t.Error("the lock is held by a caller that does not know it")
		}
	})
}

func TestBatch_CallerThatTurnsAwayBeforeItsRequestWentOutAsksForNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		coordinator := quiescetest.New()
		s, end := openSession(t, coordinator)
		defer end()
		coordinator.Hang()
		var first sync.WaitGroup
		first.Go(func() { _, _ = s.Lock(t.Context(), "a") })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Lock(ctx, "b"); !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		coordinator.Resume()
		first.Wait()
		if n := len(opsOf(t, coordinator, api.OpAcquire)); n != 1 {
			t.Errorf("%d locks were asked for", n)
		}
	})
}

func TestBatch_WhatWasTakenWithAnUnknownOutcomeIsGivenBackOnceItIsKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		coordinator := quiescetest.New()
		s, end := openSession(t, coordinator)
		defer end()
		coordinator.HideNext(10_000, api.CodeOutcomeUnknown, batchPath)
		if _, err := s.Lock(t.Context(), "a"); !errors.Is(err, ErrOutcomeUnknown) {
			t.Fatalf("got %v", err)
		}
		if holder, _ := coordinator.Holder("a"); holder != s.ID() {
			t.Fatal("it was not taken, so the test shows nothing")
		}
		coordinator.ClearFaults()
		alone(t, 5*time.Second)
		if holder, _ := coordinator.Holder("a"); holder != "" {
			t.Error("the lock is held, and nobody knows of it")
		}
		keys := map[string]bool{}
		for _, o := range opsOf(t, coordinator, api.OpAcquire) {
			keys[o.Key] = true
		}
		if len(keys) != 1 {
			t.Errorf("it was asked for under %d keys", len(keys))
		}
	})
}

func TestOp_TakesTheFormOfTheAPI(t *testing.T) {
	t.Parallel()
	body := &api.AcquireLocks{Session: "s", Locks: Exclusive("a\"b\\c\n<ü>"), Value: "\x7f "}
	for _, tc := range []struct {
		name, id string
		body     any
		acked    uint64
	}{
		{api.OpAcquire, "", body, 0}, {api.OpAcquire, "", body, 7}, {api.OpCloseSession, `odd "id"`, nil, 1},
	} {
		o, err := newOp(tc.name, tc.body)
		if err != nil {
			t.Fatal(err)
		}
		o.id, o.seq = tc.id, 42
		var got api.BatchOp
		if err := json.Unmarshal(o.append(nil, "client", tc.acked), &got); err != nil {
			t.Fatalf("%s: %v", o.append(nil, "client", tc.acked), err)
		}
		want := api.BatchOp{Op: tc.name, ID: tc.id, Key: "client/42", Acked: tc.acked}
		if tc.body != nil {
			want.Body, _ = json.Marshal(tc.body)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestClient_RefusesAnIDThatWouldNotFitIntoAKey(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"a/b", `a"b`, `a\b`, "a b", "ä", strings.Repeat("x", api.IdempotencyClients+1)} {
		if _, err := New(Config{Addrs: []string{"a:1"}, ClientID: id}); !errors.Is(err, ErrConfig) {
			t.Errorf("%q: %v", id, err)
		}
	}
}
