package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
)

const (
	actorTTL   = 4 * time.Second
	actorBeat  = 400 * time.Millisecond
	leaderAway = 2 * time.Second // stopped: longer than an election, shorter than a lease
	planSize   = 4
	drainTakes = 600 * time.Millisecond // of one that follows a plan, so that the plan outlasts the loss of a leader
)

// drainPhases are all phases, in order.
var drainPhases = []string{"announce", "lameduck", "reject", "consumers", "transactions", "flush", "locks", "close", "leave"}

// The leader leaves, is stopped and is killed while a drain is in each phase and a plan restarts another service. Nobody's lease ends, nobody's
// grant changes, every drain goes on where it was, and the plan goes on by itself.
func TestShutdown_DrainsAndPlansOutliveTheirLeader(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	b := watchInstances(t, c)
	actors := drainingInEachPhase(t, c, b)
	ctx, cancel := context.WithCancel(t.Context())
	var joined sync.WaitGroup
	t.Cleanup(func() { cancel(); joined.Wait() })
	for _, a := range actors {
		joined.Go(func() { a.beat(ctx) })
	}
	plan := startPlan(t, c, ctx, &joined)

	for _, fault := range []struct {
		name   string
		strike func(*harness.Node)
	}{
		{"leaves", func(n *harness.Node) { n.Term(); n.Wait() }},
		{"is stopped", func(n *harness.Node) { n.Pause(); rest(t.Context(), leaderAway); n.Resume() }},
		{"is killed", (*harness.Node).Kill},
	} {
		leader := c.Leader()
		fault.strike(leader)
		struck := time.Now()
		together(t, actors, func(a *drainer) error { return a.goOn(c) })
		t.Logf("the leader %s: all drains went on within %s", fault.name, time.Since(struck).Round(time.Millisecond))
		if !leader.Running() {
			leader.Start()
		}
		c.AwaitReady()
		c.AwaitWhole()
	}
	var ended api.Plan
	c.Await("the plan to succeed by itself", func() error {
		if err := request(c, http.MethodGet, fmt.Sprintf("/v1/plans/%d", plan), nil, &ended); err != nil {
			return err
		}
		if ended.State == api.PlanRunning {
			return fmt.Errorf("%w: %d of %d are through", errUnseen, ended.Done, ended.Total)
		}
		return nil
	})
	if ended.State != api.PlanSucceeded || ended.Done != planSize || ended.Failures != 0 {
		t.Errorf("the plan is %s (%s): %d of %d, %d failures", ended.State, ended.Why, ended.Done, ended.Total, ended.Failures)
	}
	together(t, actors, func(a *drainer) error { return a.end(b) })
	for _, name := range []string{"phases", "planned"} {
		var s api.Service
		c.Must(harness.Request{Method: http.MethodGet, Path: "/v1/services/" + name}, &s)
		if d := s.Drains; d.Lost+d.Forced+d.Overdrafts != 0 {
			t.Errorf("%s: %+v", name, d)
		}
	}
	cancel()
	joined.Wait()
	c.AwaitSameState()
}

// drainer is an actor in one phase of its drain.
type drainer struct {
	*actor
	phase string
	seq   uint64
	grant uint64
}

func (a *drainer) String() string { return a.phase }

// drainingInEachPhase gives one drain in each phase. The one in phase announce waits for its grant.
func drainingInEachPhase(t *testing.T, c *harness.Cluster, b *board) []*drainer {
	t.Helper()
	if err := declare(c, "phases", uint32(len(drainPhases)-1), 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	actors := make([]*drainer, len(drainPhases))
	for i, phase := range drainPhases {
		a, err := enter(c, "phases", phase, actorTTL)
		if err != nil {
			t.Fatal(err)
		}
		actors[i] = &drainer{actor: a, phase: phase}
	}
	for i := len(actors) - 1; i >= 0; i-- { // announce comes last: the places are taken then
		a := actors[i]
		if err := errors.Join(a.drain(api.IntentRemove), a.report(a.phase)); err != nil {
			t.Fatal(err)
		}
		want := api.StateDraining
		if a.phase == "announce" {
			want = api.StateQueued
		}
		now, err := b.awaitOne(a.ID, "to be "+want, seenWithin, inState(want))
		if err != nil {
			t.Fatal(err)
		}
		a.grant = now.Grant
	}
	return actors
}

func (a *drainer) report(phase string) error {
	a.seq++
	return sayOf(a.c, a.ID, "phase", api.ReportPhase{Incarnation: a.Incarnation, Phase: phase, Seq: a.seq})
}

// beat keeps the lease alive through whichever node answers.
func (a *actor) beat(ctx context.Context) {
	caller := a.c.Caller()
	ticker := time.NewTicker(actorBeat)
	defer ticker.Stop()
	for {
		_, _ = caller.Do(ctx, harness.Request{Method: http.MethodPost, Path: "/v1/instances/" + a.ID + "/keepalive", Body: api.KeepaliveInstance{Incarnation: a.Incarnation}})
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// goOn reports once more and finds everything as it was.
func (a *drainer) goOn(c *harness.Cluster) error {
	if err := a.report(a.phase); err != nil {
		return err
	}
	var now api.Instance
	if err := request(c, http.MethodGet, "/v1/instances/"+a.ID, nil, &now); err != nil {
		return err
	}
	if now.Grant != a.grant || now.Phase != a.phase {
		return fmt.Errorf("%w: %s in phase %q, its grant was %d and is %d", errOther, now.State, now.Phase, a.grant, now.Grant)
	}
	return nil
}

// end goes through the rest of the drain.
func (a *drainer) end(b *board) error {
	if a.grant == 0 { // somebody else leaves meanwhile
		if _, err := b.awaitOne(a.ID, "to be granted", seenWithin, inState(api.StateDraining)); err != nil {
			return err
		}
	}
	from := 0
	for drainPhases[from] != a.phase {
		from++
	}
	for _, phase := range drainPhases[from:] {
		if err := a.report(phase); err != nil {
			return err
		}
	}
	if err := errors.Join(a.say("drained"), a.say("left")); err != nil {
		return err
	}
	_, err := b.awaitOne(a.ID, "to have left", seenWithin, inState(api.StateLeft))
	return err
}

// startPlan starts the restart of a service whose instances do what they are told, and come back.
func startPlan(t *testing.T, c *harness.Cluster, ctx context.Context, joined *sync.WaitGroup) uint64 {
	t.Helper()
	if err := declare(c, "planned", 1, 200, keptPlaceMs, keptPlaceMs); err != nil {
		t.Fatal(err)
	}
	for i := range planSize {
		name := fmt.Sprintf("planned-%d", i+1)
		a, err := enter(c, "planned", name, actorTTL)
		if err != nil {
			t.Fatal(err)
		}
		joined.Go(func() { a.obey(ctx, "planned", name) })
	}
	var plan api.PlanStatus
	c.Must(harness.Request{Method: http.MethodPost, Path: "/v1/plans",
		Body: api.NewPlan{PlanRules: api.PlanRules{Intent: api.PlanRestart, Services: []string{"planned"}}, Start: true}}, &plan)
	return plan.ID
}

// obey drains when it is granted, and enters again under the same name, until ctx ends.
func (a *actor) obey(ctx context.Context, service, name string) {
	caller := a.c.Caller()
	for ctx.Err() == nil {
		var lease api.InstanceLease
		answer, err := caller.Do(ctx, harness.Request{Method: http.MethodPost, Path: "/v1/instances/" + a.ID + "/keepalive",
			Body: api.KeepaliveInstance{Incarnation: a.Incarnation}})
		if err != nil || answer.Into(&lease) != nil || lease.Directive != api.DirectiveDrain {
			rest(ctx, actorBeat/4)
			continue
		}
		d := &drainer{actor: a}
		for _, phase := range drainPhases[1:] {
			_ = d.report(phase)
			rest(ctx, drainTakes/time.Duration(len(drainPhases)))
		}
		_ = errors.Join(a.say("drained"), a.say("left"))
		next, err := enter(a.c, service, name, actorTTL)
		if err != nil {
			return // the plan will miss it
		}
		a = next
	}
}

func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
