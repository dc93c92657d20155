package cluster_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
)

const (
	beatTTL   = 4 * time.Second
	beatEvery = 500 * time.Millisecond
)

// Three instances of a service with a budget of one ask to stop at once. Who stops, who waits and in which order is in the log, so the loss
// of the leader changes none of it; an instance that falls silent in the middle is lost where it was, and frees its place.
func TestDrain_BudgetAndOrderSurviveTheLeaderAndASilentInstance(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	c.Must(harness.Request{Method: http.MethodPut, Path: "/v1/services/shop", Body: api.PutService{MaxUnavailable: 1,
		SettleMs: new(uint64), RestartHoldMs: new(uint64), LostHoldMs: new(uint64)}}, nil)
	first, second, third := register(t, c, "first", longSession), register(t, c, "second", beatTTL), register(t, c, "third", longSession)
	silence := second.beat()
	for _, i := range []*instance{first, second, third} {
		i.say("ready", api.Incarnation{Incarnation: i.Incarnation})
		i.drain()
	}
	granted := first.expect(api.StateDraining, 0)
	second.expect(api.StateQueued, 1)
	third.expect(api.StateQueued, 2)

	leader := c.Leader()
	leader.Kill()
	if now := first.expect(api.StateDraining, 0); now.Grant != granted.Grant {
		t.Errorf("the grant was %d and is %d", granted.Grant, now.Grant)
	}
	second.expect(api.StateQueued, 1)
	third.expect(api.StateQueued, 2)
	leader.Start()

	first.say("drained", api.Incarnation{Incarnation: first.Incarnation})
	second.expect(api.StateQueued, 1) // what has not left is not available again
	first.say("left", api.Incarnation{Incarnation: first.Incarnation})
	next := second.expect(api.StateDraining, 0)
	if next.Grant <= granted.Grant {
		t.Errorf("the second grant has token %d, the first had %d", next.Grant, granted.Grant)
	}
	third.expect(api.StateQueued, 1)

	second.say("phase", api.ReportPhase{Incarnation: second.Incarnation, Phase: "flush", Seq: 1, Counters: map[string]uint64{"dirty_keys": 41}})
	silence()
	third.expect(api.StateDraining, 0)
	if lost := second.get(); lost.State != api.StateLost || lost.Phase != "flush" || lost.Counters["dirty_keys"] != 41 {
		t.Errorf("the silent instance is %+v", lost)
	}
	refused, err := c.Caller().Do(t.Context(), harness.Request{Method: http.MethodPost, Path: "/v1/instances/" + second.ID + "/keepalive",
		Body: api.Incarnation{Incarnation: second.Incarnation}})
	if err != nil || refused.Status != http.StatusGone {
		t.Errorf("a lost instance's keepalive is answered %d, %v", refused.Status, err)
	}
	c.AwaitReady(leader)
	c.AwaitSameState()
}

// instance speaks for an application instance.
type instance struct {
	api.Registered
	t *testing.T
	c *harness.Cluster
}

func register(t *testing.T, c *harness.Cluster, name string, ttl time.Duration) *instance {
	t.Helper()
	i := &instance{t: t, c: c}
	c.Must(harness.Request{Method: http.MethodPost, Path: "/v1/instances",
		Body: api.RegisterInstance{Service: "shop", Name: name, LeaseTTLMs: uint64(ttl.Milliseconds())}}, &i.Registered)
	return i
}

func (i *instance) say(what string, body any) {
	i.t.Helper()
	i.c.Must(harness.Request{Method: http.MethodPost, Path: "/v1/instances/" + i.ID + "/" + what, Body: body}, nil)
}

func (i *instance) drain() {
	i.t.Helper()
	i.say("drain", api.DrainInstance{Incarnation: i.Incarnation, Intent: api.IntentRestart, Reason: "test"})
}

func (i *instance) get() (now api.Instance) {
	i.t.Helper()
	i.c.Must(harness.Request{Method: http.MethodGet, Path: "/v1/instances/" + i.ID}, &now)
	return now
}

// expect waits until the instance is in a state, and at a place of the queue.
func (i *instance) expect(state string, position int) (now api.Instance) {
	i.t.Helper()
	i.c.Await(i.ID+" to be "+state, func() error {
		if now = i.get(); now.State != state || now.Position != position {
			return fmt.Errorf("it is %s at %d, blocked by %v", now.State, now.Position, now.Blockers)
		}
		return nil
	})
	return now
}

// beat keeps the instance alive until the returned function is called.
func (i *instance) beat() (silence func()) {
	ctx, cancel := context.WithCancel(context.Background())
	caller := i.c.Caller()
	var joined sync.WaitGroup
	joined.Go(func() {
		ticker := time.NewTicker(beatEvery)
		defer ticker.Stop()
		for ctx.Err() == nil {
			_, _ = caller.Do(ctx, harness.Request{Method: http.MethodPost, Path: "/v1/instances/" + i.ID + "/keepalive",
				Body: api.Incarnation{Incarnation: i.Incarnation}})
			select {
			case <-ticker.C:
			case <-ctx.Done():
			}
		}
	})
	silence = func() { cancel(); joined.Wait() }
	i.t.Cleanup(silence)
	return silence
}
