package cluster_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
)

// A machine that shuts down ends all nodes at once, and may lose one disk. The load goes on all the while: its requests wait.
func TestTerm_AllTogetherKeepEverythingThoughOneDiskIsLost(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	load := startLoad(t, c)
	lost := c.Leader() // its disk is the one that is ahead of the others, if any is
	for _, n := range c.Nodes {
		n.Term()
	}
	for _, n := range c.Nodes {
		if code := n.Wait(); code != 0 {
			t.Errorf("%s: exit code %d", n.ID, code)
		}
		if out := n.Output(); !strings.Contains(out, "stopping in place") {
			t.Errorf("%s does not say that it keeps its membership", n.ID)
		}
	}
	lost.Wipe()
	for _, n := range c.Others(lost) {
		n.Start()
	}
	c.AwaitReady(c.Others(lost)...)
	load.awaitMore(acksMin)

	lost.Start()
	remedy := "DELETE /v1/cluster/nodes/" + lost.ID
	harness.Eventually(t, harness.ReadyWithin, "the wiped node to say what to do", func() error {
		err := c.Ready(lost)
		if err == nil {
			t.Fatal("a node with an empty folder was taken for the member of its name")
		}
		if !strings.Contains(err.Error(), remedy) {
			return err
		}
		return nil
	})
	if status, err := c.Status(); err != nil || harness.StatusOf(status, lost.ID).Suffrage != "voter" {
		t.Errorf("the wiped node's membership was changed without an operator: %+v, %v", status, err)
	}
	removed, err := c.Send(t.Context(), c.Leader(), harness.Request{Method: http.MethodDelete, Path: "/v1/cluster/nodes/" + lost.ID})
	if err = errors.Join(err, removed.Into(nil)); err != nil {
		t.Fatal(err)
	}
	c.AwaitReady(lost)
	c.AwaitStatus("the node to be a voter again", func(s api.Cluster) bool {
		n := harness.StatusOf(s, lost.ID)
		return n.Suffrage == "voter" && n.Status == "alive"
	})
	load.awaitMore(acksMin)
	load.end()
	load.check()
	c.AwaitSameState()
}
