package cluster_test

import (
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
)

// writeGapMax is what clients may notice of the loss of any one node.
const writeGapMax = 5 * time.Second

func TestKill_NothingAcknowledgedIsLostAndWritesGoOn(t *testing.T) {
	for _, role := range []string{"follower", "leader"} {
		t.Run(role, func(t *testing.T) {
			c := harness.Start(t, harness.Options{})
			load := startLoad(t, c)
			for range 2 {
				victim := c.Leader()
				if role == "follower" {
					victim = c.Follower()
				}
				victim.Kill()
				load.awaitMore(acksMin)
				victim.Start()
				c.AwaitReady(victim)
				c.AwaitWhole()
			}
			if gap := load.end(); gap > writeGapMax {
				t.Errorf("no write was acknowledged for %s", gap)
			}
			load.check()
			c.AwaitSameState()
		})
	}
}

// Whatever a departure had reached, the node comes back and nothing is lost.
func TestKill_InMidLeave(t *testing.T) {
	cases := []struct {
		name   string
		leader bool // leaves
		until  func(t *testing.T, c *harness.Cluster, leaver, leader *harness.Node)
		status string // of the leaver afterwards
	}{
		{"follower in its drain delay", false, awaitLeaving, "failed"},
		{"leader in its drain delay", true, awaitLeaving, "failed"},
		{"follower whose removal was asked", false, awaitRemoval, ""},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			c := harness.Start(t, harness.Options{Settings: map[string]string{"drain_delay": "2s"}})
			load := startLoad(t, c)
			leader := c.Leader()
			leaver := leader
			if !tc.leader {
				leaver = c.Follower()
			}
			leaver.Term()
			tc.until(t, c, leaver, leader)
			leaver.Kill()
			status := c.AwaitStatus("the cluster to see what became of "+leaver.ID, func(s api.Cluster) bool {
				now := harness.StatusOf(s, leaver.ID).Status
				return now == "failed" || now == "left"
			})
			got := harness.StatusOf(status, leaver.ID).Status
			t.Logf("%s is %s", leaver.ID, got)
			if tc.status != "" && got != tc.status {
				t.Errorf("%s is %s, not %s", leaver.ID, got, tc.status)
			}
			load.awaitMore(acksMin)
			leaver.Start()
			c.AwaitReady(leaver)
			c.AwaitWhole()
			load.awaitMore(acksMin)
			if gap := load.end(); gap > writeGapMax {
				t.Errorf("no write was acknowledged for %s", gap)
			}
			load.check()
			c.AwaitSameState()
		})
	}
}

func awaitLeaving(t *testing.T, c *harness.Cluster, leaver, _ *harness.Node) {
	c.AwaitStatus(leaver.ID+" to be leaving", func(s api.Cluster) bool { return harness.StatusOf(s, leaver.ID).Status == "leaving" })
}

func awaitRemoval(t *testing.T, _ *harness.Cluster, leaver, leader *harness.Node) {
	leader.AwaitOutput("removing node", harness.ReadyWithin)
}

// The leader dies while it removes another: the one that wanted to leave asks on, finds that it is needed, and stops in place.
func TestKill_LeaderWhileAnotherLeaves(t *testing.T) {
	c := harness.Start(t, harness.Options{Settings: map[string]string{"drain_delay": "2s", "quorum_wait": "1s"}})
	load := startLoad(t, c)
	leader, leaver := c.Leader(), c.Follower()
	leaver.Term()
	awaitLeaving(t, c, leaver, leader)
	leader.Kill()
	if code := leaver.Wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if out := leaver.Output(); !strings.Contains(out, "stopping in place") {
		t.Error("the leaver does not say that it keeps its membership")
	}
	leader.Start()
	leaver.Start()
	c.AwaitReady()
	c.AwaitWhole()
	load.awaitMore(acksMin)
	load.end()
	load.check()
	c.AwaitSameState()
}
