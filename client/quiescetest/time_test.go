package quiescetest_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client/quiescetest"
)

func TestAdvance_HolderLosesItsLockAfterTheTTLAndNotBefore(t *testing.T) {
	t.Parallel()
	c := quiescetest.New(quiescetest.ManualClock())
	ask := direct(t, c)
	holder, waiter := ask.session(ttl), ask.session(time.Minute)
	ask.post("/v1/locks/acquire", acquire(holder, "a", 0))
	granted := ask.park(ask.ticket(waiter, "a", time.Minute))
	c.Advance(ttl / 2)
	ask.keepalive(holder)
	c.Advance(ttl)
	if got, _ := c.Holder("a"); got != holder {
		t.Fatalf("%q holds the lock a TTL after the last keepalive of %q", got, holder)
	}
	c.Advance(tick)
	if got, _ := c.Holder("a"); got != waiter {
		t.Errorf("%q holds the lock, %q waited for it", got, waiter)
	}
	if r := <-granted; r.status != http.StatusOK {
		t.Errorf("the waiter was told %d %s", r.status, r.body)
	}
	if r := ask.keepalive(holder); r.code != api.CodeSessionNotFound {
		t.Errorf("a session that is over was told %d %s", r.status, r.body)
	}
}

func TestAdvance_WhatIsDueComesInTheOrderOfItsDeadlines(t *testing.T) {
	t.Parallel()
	c := quiescetest.New(quiescetest.ManualClock())
	ask := direct(t, c)
	holder, hasty, patient := ask.session(ttl), ask.session(time.Minute), ask.session(time.Minute)
	ask.post("/v1/locks/acquire", acquire(holder, "a", 0))
	first := ask.park(ask.ticket(hasty, "a", ttl-tick)) // gives up a moment before it could have the lock
	second := ask.park(ask.ticket(patient, "a", time.Minute))
	c.Advance(ttl + ttl/2)
	if r := <-first; r.code != api.CodeLockWaitTimeout {
		t.Errorf("the first in line was told %d %s", r.status, r.body)
	}
	if r := <-second; r.status != http.StatusOK {
		t.Errorf("the second in line was told %d %s", r.status, r.body)
	}
}

func TestManualClock_NothingEndsByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		manual, real := quiescetest.New(quiescetest.ManualClock()), quiescetest.New()
		held, lost := direct(t, manual), direct(t, real)
		a, b := held.session(ttl), lost.session(ttl)
		<-time.After(ttl + ttl/2)
		if r := held.keepalive(a); r.status != http.StatusOK {
			t.Errorf("a session ended although its clock stood still: %d %s", r.status, r.body)
		}
		if r := lost.keepalive(b); r.code != api.CodeSessionNotFound {
			t.Errorf("a session lives on half a TTL after its end: %d %s", r.status, r.body)
		}
	})
}

func TestRealClock_DeadlinesComeWithoutARequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := quiescetest.New()
		ask := direct(t, c)
		holder, waiter := ask.session(ttl), ask.session(time.Minute)
		ask.post("/v1/locks/acquire", acquire(holder, "a", 0))
		granted := ask.park(ask.ticket(waiter, "a", time.Minute))
		began := time.Now()
		if r := <-granted; r.status != http.StatusOK {
			t.Errorf("%d %s", r.status, r.body)
		}
		if took := time.Since(began); took < ttl || took > ttl+20*tick {
			t.Errorf("granted after %v, the lease was of %v", took, ttl)
		}
	})
}

func TestLoseLeader_TimeStandsStillAndPlacesAreKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := quiescetest.New()
		ask := direct(t, c)
		holder, waiter := ask.session(ttl), ask.session(ttl)
		ask.post("/v1/locks/acquire", acquire(holder, "a", 0))
		ticket := ask.ticket(waiter, "a", time.Minute)
		parked := ask.park(ticket)
		synctest.Wait()
		c.LoseLeader()
		if r := <-parked; r.status != http.StatusAccepted {
			t.Errorf("a parked request was told %d %s", r.status, r.body)
		}
		if r := ask.keepalive(holder); r.code != api.CodeNoLeader {
			t.Errorf("without a leader a keepalive was told %d %s", r.status, r.body)
		}
		<-time.After(10 * ttl)
		c.ElectLeader()
		if got, _ := c.Holder("a"); got != holder || c.Waiting("a") != 1 {
			t.Errorf("%q holds the lock, %d wait: time did not stand still", got, c.Waiting("a"))
		}
		<-time.After(ttl)
		if r := ask.keepalive(waiter); r.status != http.StatusOK {
			t.Errorf("the new term gave no full TTL: %d %s", r.status, r.body)
		}
		<-time.After(tick)
		if r := <-ask.park(ticket); r.status != http.StatusOK {
			t.Errorf("the wait that went on was told %d %s", r.status, r.body)
		}
	})
}

func TestLoseLeader_DeadHolderIsNotKeptAliveByElections(t *testing.T) {
	t.Parallel()
	c := quiescetest.New(quiescetest.ManualClock())
	ask := direct(t, c)
	dead, alive := ask.session(ttl), ask.session(ttl)
	for range 4 {
		c.Advance(ttl - tick)
		c.LoseLeader()
		c.ElectLeader()
		ask.keepalive(alive)
	}
	if r := ask.keepalive(dead); r.code != api.CodeSessionNotFound {
		t.Errorf("four terms after its only sign of life a session was told %d %s", r.status, r.body)
	}
	if r := ask.keepalive(alive); r.status != http.StatusOK {
		t.Errorf("a session with keepalives was told %d %s", r.status, r.body)
	}
}

func TestExpireSession_EndsOneAndItsInstance(t *testing.T) {
	t.Parallel()
	c := quiescetest.New()
	ask := direct(t, c)
	one := must[api.Registered](ask, "/v1/instances", api.RegisterInstance{Service: "orders", Name: "one", LeaseTTLMs: 10_000})
	other := ask.session(ttl)
	c.ExpireSession(one.Session)
	if v := c.Instances(); len(v) != 1 || v[0].State != api.StateLost {
		t.Errorf("%+v", v)
	}
	if r := ask.keepalive(other); r.status != http.StatusOK {
		t.Errorf("another session was told %d %s", r.status, r.body)
	}
}
