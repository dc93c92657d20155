package store

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// A leader cut off with a long tail of its own comes back behind a snapshot that is shorter than that tail: raft
// installs the snapshot, keeps the tail (boltdb) or its idea of it (raft-wal), and installs again, without end.
// A restart heals that on raft-wal only.
func TestRejoin_FollowerInAnInstallLoopFollowsAgain(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, kind Kind) {
		stuck, leader, third := installLoop(t, kind)
		noError(t, stuck.stores.MarkRejoin())
		term := stuck.raft.CurrentTerm()
		stuck = stuck.restart(t)
		all := []*node{stuck, leader, third}
		connect(all...)
		applyAnywhere(t, all, 3)
		eventually(t, "the follower holds what the others hold", func() bool {
			n := stuck.fsm.count()
			return n >= 18 && n == leader.fsm.count() && n == third.fsm.count()
		})
		if stuck.raft.CurrentTerm() < term {
			t.Fatal("the term went back")
		}
	})
}

// The negative control, and the reason for the marker.
func TestRejoin_WithoutTheMarkerBoltDBLoopsOn(t *testing.T) {
	t.Parallel()
	stuck, leader, third := installLoop(t, BoltDB)
	stuck = stuck.restart(t)
	connect(stuck, leader, third)
	eventually(t, "the loop goes on after a restart", func() bool { return stuck.fsm.restores() > 5 })
}

// installLoop returns the follower in the loop, the leader and the third node.
func installLoop(t *testing.T, kind Kind) (stuck, leader, third *node) {
	t.Helper()
	nodes := []*node{}
	for _, id := range []string{"n1", "n2", "n3"} {
		nodes = append(nodes, startNode(t, id, testConfig(t, t.TempDir(), kind)))
	}
	connect(nodes...)
	nodes[0].bootstrap(t, nodes[1:]...)
	stuck = anyLeader(t, nodes)
	stuck.apply(t, 10)
	var rest []*node
	for _, n := range nodes {
		if n != stuck {
			n.counts(t, 10)
			n.transport.Disconnect(stuck.addr())
			rest = append(rest, n)
		}
	}
	stuck.transport.DisconnectAll()
	for range 60 {
		stuck.raft.Apply([]byte("diverges"), 0)
	}
	leader, third = anyLeader(t, rest), rest[0]
	if third == leader {
		third = rest[1]
	}
	applyAnywhere(t, rest, 5)
	noError(t, leader.raft.Snapshot().Error())
	connect(nodes...)
	eventually(t, "the same snapshot is installed again and again", func() bool { return stuck.fsm.restores() > 5 })
	return stuck, leader, third
}

// applyAnywhere survives elections on a loaded machine.
func applyAnywhere(t *testing.T, nodes []*node, count int) {
	t.Helper()
	for done := 0; done < count; {
		if anyLeader(t, nodes).raft.Apply([]byte("x"), time.Second).Error() == nil {
			done++
		}
	}
}

func anyLeader(t *testing.T, nodes []*node) (leader *node) {
	t.Helper()
	eventually(t, "a leader", func() bool {
		for _, n := range nodes {
			if n.raft.State() == raft.Leader && n.raft.Barrier(time.Second).Error() == nil {
				leader = n
				return true
			}
		}
		return false
	})
	return leader
}
