package cluster_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
)

func TestTerm_NodeLeavesUnderLoadUnnoticedAndRejoins(t *testing.T) {
	for _, role := range []string{"follower", "leader"} {
		t.Run(role, func(t *testing.T) {
			c := harness.Start(t, harness.Options{})
			before := c.AwaitWhole()
			if before.FailureTolerance != 1 {
				t.Errorf("three nodes tolerate %d failures", before.FailureTolerance)
			}
			goes := c.Leader()
			if role == "follower" {
				goes = c.Follower()
			}
			load := startLoad(t, c)
			elections := countElections(c, goes)
			goes.Term()
			if code := goes.Wait(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			status := c.AwaitStatus(goes.ID+" to have left", func(s api.Cluster) bool { return harness.StatusOf(s, goes.ID).Status == "left" })
			if status.FailureTolerance != 0 || status.Leader == goes.ID {
				t.Errorf("after the departure: tolerance %d, leader %s", status.FailureTolerance, status.Leader)
			}
			if n := countElections(c, goes) - elections; n != 0 {
				t.Errorf("%d times a node found by itself that the leader had gone: the leadership was not handed over", n)
			}
			load.awaitMore(acksMin)
			goes.Start()
			c.AwaitReady(goes)
			if status := c.AwaitWhole(); status.FailureTolerance != 1 {
				t.Errorf("after the return: tolerance %d", status.FailureTolerance)
			}
			load.awaitMore(acksMin)
			load.end()
			load.check()
			c.AwaitSameState()
		})
	}
}

// countElections counts how often raft began an election because no leader was heard. One that is asked for by the leader itself is not
// among them, and takes no time that clients would notice.
func countElections(c *harness.Cluster, but *harness.Node) (n int) {
	for _, node := range c.Others(but) {
		n += strings.Count(node.Output(), "heartbeat timeout reached, starting election")
	}
	return n
}

func TestTerm_SecondInARowStopsInPlace(t *testing.T) {
	c := harness.Start(t, harness.Options{Settings: map[string]string{"quorum_wait": "1s"}})
	load := startLoad(t, c)
	first := c.Leader()
	first.Term()
	if code := first.Wait(); code != 0 {
		t.Errorf("first: exit code %d", code)
	}
	load.awaitMore(acksMin)
	second := c.Leader()
	second.Term()
	if code := second.Wait(); code != 0 {
		t.Errorf("second: exit code %d", code)
	}
	// The one that remains cannot write alone. That it says so, and that the second brings the quorum back without being admitted anew,
	// shows that the membership was kept.
	last := c.Others(first, second)[0]
	harness.Eventually(t, harness.ReadyWithin, "the last node to miss the quorum", func() error {
		if c.Ready(last) == nil {
			return fmt.Errorf("%s is ready", last.ID)
		}
		return nil
	})
	second.Start()
	c.AwaitReady(second, last)
	load.awaitMore(acksMin)
	status := c.AwaitStatus("two voters", func(s api.Cluster) bool {
		return harness.StatusOf(s, second.ID).Suffrage == "voter" && harness.StatusOf(s, last.ID).Suffrage == "voter"
	})
	if got := harness.StatusOf(status, first.ID).Status; got != "left" {
		t.Errorf("the first is %s", got)
	}
	first.Start()
	c.AwaitReady(first)
	c.AwaitWhole()
	load.awaitMore(acksMin)
	load.end()
	load.check()
	c.AwaitSameState()
}
