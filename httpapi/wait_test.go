package httpapi

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// contended gives an edge on which the first session holds "l" with the token.
func contended(t *testing.T) (e *edge, holder, waiter string, token uint64) {
	e = newEdge(t)
	holder, waiter = e.session(), e.session()
	token = into[api.Acquired](t, e.do(post, "/v1/locks/acquire", e.acquireBody(holder, "l", 0))).Grants[0].Token
	return e, holder, waiter, token
}

func (e *edge) release(session string, token uint64) {
	e.t.Helper()
	if r := e.do(post, "/v1/locks/release", fmt.Sprintf(`{"session":%q,"locks":[{"name":"l","token":%d}]}`, session, token)); r.status != 204 {
		e.t.Fatalf("%d %s", r.status, r.body)
	}
}

func (e *edge) ticket(id uint64) fsm.Ticket {
	var t fsm.Ticket
	e.rep.View(func(s *fsm.State) { t, _ = s.Ticket(id) })
	return t
}

func TestWait_AnswersTheGrantAndLogsThatItWasTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, holder, waiter, token := contended(t)
		got := later(e, post, "/v1/locks/acquire", e.acquireBody(waiter, "l", 30_000))
		synctest.Wait()
		e.release(holder, token)
		a := into[api.Acquired](t, <-got)
		if len(a.Grants) != 1 || a.Grants[0].Token <= token || a.LeaseRemainingMs == 0 {
			t.Fatalf("%+v", a)
		}
		if !e.ticket(a.Ticket).Claimed {
			t.Fatal("the grant was told and would lapse")
		}
		if e.rep.watching() != 0 {
			t.Fatal("a watch stayed open")
		}
	})
}

func TestWait_InVainAnswersTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, _, waiter, _ := contended(t)
		got := later(e, post, "/v1/locks/acquire", e.acquireBody(waiter, "l", 2_000))
		synctest.Wait()
		e.rep.advance(2_000)
		if p := (<-got).problem(t); p.Code != api.CodeLockWaitTimeout {
			t.Fatalf("%+v", p)
		}
	})
}

func TestWait_ParksAMinuteAndIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, holder, waiter, token := contended(t)
		begun := time.Now()
		r := e.do(post, "/v1/locks/acquire", e.acquireBody(waiter, "l", 600_000))
		parked := into[api.Acquired](t, r)
		if r.status != 202 || parked.Ticket == 0 || parked.Position != 1 || time.Since(begun) != api.ParkMaxMs*time.Millisecond {
			t.Fatalf("%d %+v after %s", r.status, parked, time.Since(begun))
		}
		begun = time.Now()
		if r := e.do(post, "/v1/locks/acquire", fmt.Sprintf(`{"ticket":%d,"wait_ms":5000}`, parked.Ticket)); r.status != 202 || time.Since(begun) != 5*time.Second {
			t.Fatalf("%d after %s", r.status, time.Since(begun))
		}
		got := later(e, post, "/v1/locks/acquire", fmt.Sprintf(`{"ticket":%d}`, parked.Ticket))
		synctest.Wait()
		e.release(holder, token)
		first := into[api.Acquired](t, <-got)
		again := into[api.Acquired](t, e.do(post, "/v1/locks/acquire", fmt.Sprintf(`{"ticket":%d}`, parked.Ticket)))
		if len(first.Grants) != 1 || len(again.Grants) != 1 || first.Grants[0] != again.Grants[0] {
			t.Fatalf("%+v, then %+v", first, again)
		}
	})
}

func TestWait_DroppedConnectionKeepsThePlaceInTheQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, _, waiter, _ := contended(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		e.doCtx(ctx, post, "/v1/locks/acquire", e.acquireBody(waiter, "l", 30_000), api.HeaderIdempotencyKey, "c/1")
		r := e.do(get, "/v1/locks?name=l", "")
		if q := into[api.Locks](t, r).Locks[0].Queue; len(q) != 1 {
			t.Fatalf("%s", r.body)
		}
	})
}

// TestWait_RetriedAcquireAnswersThePresentState: the key's stored result is the ticket, and the ticket knows what became of it.
func TestWait_RetriedAcquireAnswersThePresentState(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, holder, waiter, token := contended(t)
		body := e.acquireBody(waiter, "l", 10_000)
		send := func() reply {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return e.doCtx(ctx, post, "/v1/locks/acquire", body, api.HeaderIdempotencyKey, "c/1")
		}
		first := into[api.Acquired](t, send())
		second := into[api.Acquired](t, send())
		if first.Ticket == 0 || first.Ticket != second.Ticket {
			t.Fatalf("%+v, then %+v", first, second)
		}
		e.release(holder, token)
		third := into[api.Acquired](t, send())
		if len(third.Grants) != 1 || third.Ticket != first.Ticket {
			t.Fatalf("%+v", third)
		}
		e.release(waiter, third.Grants[0].Token)
		if p := send().problem(t); p.Code != api.CodeTicketEnded {
			t.Fatalf("%+v", p)
		}
	})
}

func TestWait_EveryOtherEndHasItsCode(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		do   func(e *edge, holder, waiter string, token, ticket uint64)
		want api.Code
	}{
		"cancelled": {func(e *edge, _, _ string, _, ticket uint64) {
			e.do(post, "/v1/locks/cancel", fmt.Sprintf(`{"ticket":%d}`, ticket))
		}, api.CodeTicketEnded},
		"session closed": {func(e *edge, _, waiter string, _, _ uint64) { e.do(remove, "/v1/sessions/"+waiter, "") }, api.CodeSessionNotFound},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				e, holder, waiter, token := contended(t)
				got := later(e, post, "/v1/locks/acquire", e.acquireBody(waiter, "l", 30_000))
				synctest.Wait()
				ticket := into[api.Locks](t, e.do(get, "/v1/locks?name=l", "")).Locks[0].Queue[0].Ticket
				c.do(e, holder, waiter, token, ticket)
				if p := (<-got).problem(t); p.Code != c.want {
					t.Fatalf("%+v", p)
				}
			})
		})
	}
}

// TestWait_GrantThatCannotBeLoggedIsNotTold: a deposed leader sees the grant of the next one, and must not hand it out.
func TestWait_GrantThatCannotBeLoggedIsNotTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, holder, waiter, token := contended(t)
		got := later(e, post, "/v1/locks/acquire", e.acquireBody(waiter, "l", 30_000))
		synctest.Wait()
		e.rep.fail(ErrNotApplied)
		e.rep.apply(fsm.Op{Command: fsm.ReleaseLock{Session: holder, Locks: []fsm.HeldLock{{Name: "l", Token: token}}}})
		r := <-got
		if a := into[api.Acquired](t, r); r.status != 202 || a.Ticket == 0 || len(a.Grants) != 0 {
			t.Fatalf("%d %s", r.status, r.body)
		}
	})
}

func TestWait_LostLeadershipAnswersTheTicket(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, _, waiter, _ := contended(t)
		got := later(e, post, "/v1/locks/acquire", e.acquireBody(waiter, "l", 30_000))
		synctest.Wait()
		begun := time.Now()
		e.rep.leader.Store(&Leader{ID: "n2", HTTPAddr: "127.0.0.1:9"})
		r := <-got
		if r.status != 202 || time.Since(begun) > 2*leadRecheck {
			t.Fatalf("%d after %s", r.status, time.Since(begun))
		}
	})
}

func TestDrain_EndsParkedRequestsWithTheirResumeAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, _, waiter, _ := contended(t)
		wait := later(e, post, "/v1/locks/acquire", e.acquireBody(waiter, "l", 30_000))
		synctest.Wait()
		poll := later(e, get, "/v1/instances?index=5&wait_ms=60000", "")
		synctest.Wait()
		begun := time.Now()
		if err := e.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took > 100*time.Millisecond {
			t.Errorf("took %s", took)
		}
		r := <-wait
		if a := into[api.Acquired](t, r); r.status != 202 || a.Ticket == 0 || r.header.Get("Connection") == "close" {
			t.Errorf("%d %s", r.status, r.body)
		}
		if r := <-poll; r.status != 200 {
			t.Errorf("%d %s", r.status, r.body)
		}
		if r := e.do(get, "/healthz", ""); r.status != 200 || r.header.Get("Connection") != "close" {
			t.Errorf("a new request: %d %v", r.status, r.header)
		}
	})
}

func TestDrain_SaysWhenRequestsOutlastIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEdge(t)
		e.inFlight.Add(1) // a request that never ends
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := e.Drain(ctx); err == nil {
			t.Fatal("drained with a request in flight")
		}
	})
}

// A wait that this node sees waiting is parked without a proof that it leads. How a wait ended, and that there is none, is not said
// without one: the node may have been succeeded and know less than its successor.
func TestWait_OnlyWhatIsSaidAtOnceIsProven(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, holder, waiter, token := contended(t)
		ticket := into[api.Acquired](t, e.do(post, "/v1/elections/campaign", fmt.Sprintf(`{"session":%q,"name":"l","wait_ms":600000}`, waiter))).Ticket
		again := fmt.Sprintf(`{"ticket":%d,"wait_ms":100}`, ticket)
		e.rep.fail(ErrNotApplied)
		if r := e.do(post, "/v1/locks/acquire", again); r.status != 202 {
			t.Fatalf("waiting: %d %s", r.status, r.body)
		}
		if p := e.do(post, "/v1/locks/acquire", `{"ticket":99999}`).problem(t); p.Code != api.CodeNotApplied {
			t.Fatalf("unknown: %+v", p)
		}
		e.rep.fail(nil)
		e.release(holder, token)
		e.rep.fail(ErrNotApplied)
		if p := e.do(post, "/v1/locks/acquire", again).problem(t); p.Code != api.CodeNotApplied {
			t.Fatalf("granted: %+v", p)
		}
	})
}
