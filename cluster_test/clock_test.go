package cluster_test

import (
	"testing"
	"time"

	"github.com/quiescehq/quiesce/cluster_test/harness"
)

const clockStep = time.Hour

// The wall clock of one node jumps an hour ahead and an hour back, of the leader once and of a follower once. Nothing that is decided by
// time may notice: no live lock is lost, no dead one is kept, nobody is elected. That the clock does jump is shown by StepClock, which
// returns when the node dates its answers so.
func TestClock_HourStepsOnOneNodeChangeNothing(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	for _, n := range c.Nodes {
		n.StartSteppable()
	}
	c.AwaitReady()
	leader := c.Leader()
	follower := c.Others(leader)[0]
	before, err := c.Status()
	if err != nil {
		t.Fatal(err)
	}
	tokens := &ledger{}
	live := keepAlive(t, c, tokens, holderTTL)
	for _, step := range []struct {
		on  *harness.Node
		off time.Duration
	}{{leader, clockStep}, {leader, -clockStep}, {leader, 0}, {follower, clockStep}, {follower, -clockStep}} {
		dead := leaveDead(t, c, tokens, holderTTL)
		step.on.StepClock(step.off)
		dead.awaitEnd(0)
		live.check()
	}
	live.end()
	tokens.check(t)
	after, err := c.Status()
	if err != nil || after.Term != before.Term {
		t.Errorf("a step of one clock made an election: term %d, then %d (%v)", before.Term, after.Term, err)
	}
	c.AwaitSameState()
}
