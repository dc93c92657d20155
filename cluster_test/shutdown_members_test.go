package cluster_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
)

// removeNode asks for the removal of a node, once, through the leader.
func removeNode(t *testing.T, c *harness.Cluster, id string) error {
	t.Helper()
	answer, err := c.Send(t.Context(), c.Leader(), harness.Request{Method: http.MethodDelete, Path: "/v1/cluster/nodes/" + id})
	return errors.Join(err, answer.Into(nil))
}

// refusedWith wants a refusal that names what to do.
func refusedWith(t *testing.T, err error, what string, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s was not refused", what)
		return
	}
	for _, word := range append(words, "409 "+string(api.CodeUnsafe)) {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%s: the refusal does not name %q: %v", what, word, err)
		}
	}
}

// With one voter dead, the removal of a healthy one would leave nobody who could decide anything. It is refused, and the refusal names the
// command that makes it safe; done in that order it works.
func TestLeave_WithADeadVoterIsRefusedUntilThatIsRemoved(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{Settings: map[string]string{"quorum_wait": "1s"}})
	load := startLoad(t, c)
	dead := c.Follower()
	dead.Kill()
	leader := c.Leader()
	other := c.Others(dead, leader)[0]
	refusedWith(t, removeNode(t, c, other.ID), "the removal of a healthy voter beside a dead one", "DELETE /v1/cluster/nodes/"+dead.ID)
	load.awaitMore(acksMin)
	refusedWith(t, removeNode(t, c, leader.ID), "the leader's removal of itself", "POST /v1/cluster/transfer", "SIGTERM")

	if err := removeNode(t, c, dead.ID); err != nil {
		t.Fatalf("the removal of the dead voter: %v", err)
	}
	load.awaitMore(acksMin)
	refusedWith(t, removeNode(t, c, other.ID), "the removal of one of two voters", "SIGTERM")
	load.awaitMore(acksMin)
	load.end()
	load.check()
}

// Where one voter is allowed to remain, the nodes leave one by one, and the last one does not.
func TestLeave_DownToOneWhereThatIsAllowed(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		goes func(t *testing.T, c *harness.Cluster, n *harness.Node)
	}{
		{"by SIGTERM", func(t *testing.T, _ *harness.Cluster, n *harness.Node) {
			n.Term()
			if code := n.Wait(); code != 0 {
				t.Errorf("%s: exit code %d", n.ID, code)
			}
		}},
		{"by DELETE", func(t *testing.T, c *harness.Cluster, n *harness.Node) {
			if err := removeNode(t, c, n.ID); err != nil {
				t.Errorf("%s: %v", n.ID, err)
			}
			n.Kill()
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := harness.Start(t, harness.Options{Settings: map[string]string{"min_voters": "1", "quorum_wait": "1s"}})
			load := startLoad(t, c)
			for range 2 {
				goes := c.Follower()
				tc.goes(t, c, goes)
				c.AwaitStatus(goes.ID+" to be no member", func(s api.Cluster) bool { return harness.StatusOf(s, goes.ID).Suffrage == "" })
				load.awaitMore(acksMin)
			}
			last := c.Leader()
			refusedWith(t, removeNode(t, c, last.ID), "the removal of the last voter", "SIGTERM")
			load.awaitMore(acksMin)
			load.end()
			load.check()
			last.Term()
			if code := last.Wait(); code != 0 || !strings.Contains(last.Output(), "the last voter cannot leave") {
				t.Errorf("the last voter exits with %d", code)
			}
			last.Start()
			c.AwaitReady(last)
		})
	}
}
