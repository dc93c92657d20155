package client

import (
	"errors"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/client/quiescetest"
)

func TestLock_RevocationIsToldAndDoneClosesBeforeItIsTaken(t *testing.T) {
	bubble(t, func(t *testing.T, coordinator *quiescetest.Coordinator, s, _ *Session) {
		lock, err := s.Lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		ask(t, coordinator, "/v1/locks/revoke", `{"name":"a","within_ms":8000,"reason":"maintenance"}`)
		<-lock.Revoked()
		if heard := time.Since(began); heard > testTTL/keepalivesPerTTL {
			t.Errorf("heard after %v", heard)
		}
		if r := lock.Revocation(); r.Reason != "maintenance" || r.Until.After(began.Add(8*time.Second)) || lock.Err() != nil {
			t.Errorf("told %+v, and %v", r, lock.Err())
		}
		<-lock.Done()
		if holder, _ := coordinator.Holder("a"); holder != s.ID() {
			t.Error("it was taken before the holder was told")
		}
		if !errors.Is(lock.Err(), ErrLockRevoked) || !errors.Is(lock.Err(), ErrLockLost) {
			t.Errorf("Err is %v", lock.Err())
		}
		alone(t, testTTL)
		if holder, _ := coordinator.Holder("a"); holder != "" || s.Err() != nil {
			t.Errorf("held by %q, session %v", holder, s.Err())
		}
	})
}

func TestLock_RevocationThatIsHeededTakesNothingAway(t *testing.T) {
	bubble(t, func(t *testing.T, coordinator *quiescetest.Coordinator, s, _ *Session) {
		lock, err := s.Lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		ask(t, coordinator, "/v1/locks/revoke", `{"name":"a","within_ms":8000,"reason":"maintenance"}`)
		<-lock.Revoked()
		if err := lock.Unlock(t.Context()); err != nil {
			t.Error(err)
		}
		alone(t, testTTL)
		if !errors.Is(lock.Err(), ErrUnlocked) {
			t.Errorf("Err is %v", lock.Err())
		}
	})
}
