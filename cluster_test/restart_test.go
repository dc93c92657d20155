package cluster_test

import (
	"testing"

	"github.com/quiescehq/quiesce/cluster_test/harness"
)

func TestRestart_KillOfAllNodesKeepsEverything(t *testing.T) {
	for _, logStore := range []string{"wal", "boltdb"} {
		t.Run(logStore, func(t *testing.T) {
			c := harness.Start(t, harness.Options{Settings: map[string]string{"log_store": logStore}})
			load := startLoad(t, c)
			for range 2 {
				for _, n := range c.Nodes {
					n.Kill()
				}
				for _, n := range c.Nodes {
					n.Start()
				}
				c.AwaitReady()
				load.awaitMore(acksMin)
			}
			load.end()
			load.check()
			c.AwaitWhole()
			c.AwaitSameState()
		})
	}
}
