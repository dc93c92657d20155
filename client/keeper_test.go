package client

import (
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client/quiescetest"
)

const keepalivePath = "/v1/sessions/keepalive"

func openMany(t *testing.T, coordinator *quiescetest.Coordinator, ttls ...time.Duration) (sessions []*Session, end func()) {
	t.Helper()
	c, err := New(Config{Addrs: []string{quiescetest.Addr}, HTTPClient: coordinator.HTTPClient()})
	if err != nil {
		t.Fatal(err)
	}
	for _, ttl := range ttls {
		s, err := c.OpenSession(t.Context(), "test", ttl)
		if err != nil {
			t.Fatal(err)
		}
		sessions = append(sessions, s)
	}
	return sessions, func() {
		coordinator.Resume()
		c.Close()
	}
}

func repeated(ttl time.Duration, n int) []time.Duration {
	all := make([]time.Duration, n)
	for i := range all {
		all[i] = ttl
	}
	return all
}

func TestKeeper_SessionsOfOneClientShareKeepalives(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		coordinator := quiescetest.New()
		const many = 2*api.KeepaliveIDsMax + 500
		sessions, end := openMany(t, coordinator, repeated(testTTL, many)...)
		defer end()
		alone(t, time.Minute)
		requests := coordinator.Requests(keepalivePath)
		beats := int(time.Minute/testTTL) * keepalivesPerTTL * jitterParts / (jitterParts - 1)
		if len(requests) > 3*beats+6 {
			t.Errorf("%d keepalives for %d sessions in %d beats", len(requests), many, beats)
		}
		for _, r := range requests {
			var asked api.KeepaliveSessions
			if err := json.Unmarshal(r.Body, &asked); err != nil || len(asked.IDs) > api.KeepaliveIDsMax {
				t.Fatalf("%d sessions in one request: %v", len(asked.IDs), err)
			}
		}
		for i, s := range sessions {
			if s.Err() != nil {
				t.Fatalf("session %d: %v", i, s.Err())
			}
		}
	})
}

func TestKeeper_EverySessionIsRenewedInItsOwnTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		coordinator := quiescetest.New()
		sessions, end := openMany(t, coordinator, time.Second, 10*time.Minute, 3*time.Second, time.Minute, time.Second)
		defer end()
		var locks []*Lock
		for i, s := range sessions {
			l, err := s.Lock(t.Context(), numbered(5)[i])
			if err != nil {
				t.Fatal(err)
			}
			locks = append(locks, l)
		}
		alone(t, 30*time.Minute)
		for i, l := range locks {
			if l.Err() != nil {
				t.Errorf("the lock of session %d: %v", i, l.Err())
			}
		}
	})
}

func TestKeeper_SessionThatIsGoneDoesNotTakeTheOthersAlong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		coordinator := quiescetest.New()
		sessions, end := openMany(t, coordinator, repeated(testTTL, 3)...)
		defer end()
		coordinator.ExpireSession(sessions[1].ID())
		<-sessions[1].Done()
		alone(t, time.Minute)
		if !errors.Is(sessions[1].Err(), ErrSessionGone) || sessions[0].Err() != nil || sessions[2].Err() != nil {
			t.Errorf("they say %v, %v, %v", sessions[0].Err(), sessions[1].Err(), sessions[2].Err())
		}
	})
}

func TestKeeper_LossIsToldThoughTheKeepaliveHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		coordinator := quiescetest.New()
		sessions, end := openMany(t, coordinator, repeated(testTTL, 20)...)
		defer end()
		var locks []*Lock
		for i, s := range sessions {
			l, err := s.Lock(t.Context(), numbered(20)[i])
			if err != nil {
				t.Fatal(err)
			}
			locks = append(locks, l)
		}
		coordinator.Hang()
		for i, l := range locks {
			<-l.Done()
			if holder, _ := coordinator.Holder(numbered(20)[i]); holder != sessions[i].ID() {
				t.Errorf("lock %d was free before its holder was told", i)
			}
		}
	})
}

func TestKeeper_RenewalsOfTwoProcessesDoNotKeepStep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		coordinator := quiescetest.New()
		_, endOne := openMany(t, coordinator, testTTL)
		defer endOne()
		_, endTwo := openMany(t, coordinator, testTTL)
		defer endTwo()
		began, moments := time.Now(), map[time.Duration]int{}
		for last := 0; time.Since(began) < 10*time.Minute; alone(t, 10*time.Millisecond) {
			n := len(coordinator.Requests(keepalivePath))
			moments[time.Since(began)] += n - last
			last = n
		}
		together, total := 0, 0
		for _, n := range moments {
			total += n
			if n > 1 {
				together += n
			}
		}
		if total < 300 || together > total/4 {
			t.Errorf("%d of %d keepalives within 10 ms of another", together, total)
		}
	})
}

func TestSession_LeaseCountsFromTheFirstSendingOfItsOpening(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		coordinator := quiescetest.New()
		coordinator.CutNext(1, batchPath)                           // opened
		coordinator.FailNext(20, api.CodeOutcomeUnknown, batchPath) // and long not heard of
		began := time.Now()
		s, end := openSession(t, coordinator)
		defer end()
		if time.Since(began) < time.Second {
			t.Fatalf("it took %v only, so the test shows nothing", time.Since(began))
		}
		s.lease.mu.Lock()
		defer s.lease.mu.Unlock()
		if want := began.Add(testTTL - testTTL/leaseMargin); s.lease.until.After(want) {
			t.Errorf("relied on until %v after the first sending", s.lease.until.Sub(began))
		}
	})
}

func TestBackoff_IsSpreadAndBounded(t *testing.T) {
	t.Parallel()
	for n := 1; n < 100; n++ {
		if d := backoff(n); d < 0 || d > backoffMax {
			t.Fatalf("attempt %d waits %v", n, d)
		}
	}
	lowest, highest := time.Hour, time.Duration(0)
	for range 1000 {
		d := jittered(time.Hour)
		lowest, highest = min(lowest, d), max(highest, d)
	}
	if highest > time.Hour || lowest < time.Hour*(jitterParts-1)/jitterParts || highest-lowest < time.Hour/jitterParts/2 {
		t.Errorf("an hour became %v to %v", lowest, highest)
	}
}
