package replica

import (
	"context"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/quiescehq/quiesce/fsm"
)

// Status is the cluster as this node sees it.
type Status struct {
	ClusterID        string
	NodeID           string
	Leader           Leader
	Term             uint64
	Applied          uint64 // raft index
	Revision         uint64
	Digest           string
	FailureTolerance int // voters that may be lost with the cluster going on
	Nodes            []NodeStatus
}

// NodeStatus is one node, member or not.
type NodeStatus struct {
	ID       string
	PeerAddr string
	HTTPAddr string
	Suffrage string // voter, nonvoter, "" when it is no member
	Status   string // alive, leaving, left, failed
	Applied  uint64
	Digest   string
	Version  string
}

// Status asks every node how it is. Bounded by ctx and by half a second for each node, all at once.
func (r *Replica) Status(ctx context.Context) Status {
	id := r.stores.Identity()
	st := Status{ClusterID: id.ClusterID, NodeID: id.NodeID, Leader: r.Leader(), Term: r.raft.CurrentTerm()}
	nodes := map[string]fsm.Node{}
	var now uint64
	r.machine.view(func(s *fsm.State, applied uint64) {
		st.Applied, st.Revision, st.Digest, now = applied, s.Revision(), s.Digest().String(), s.Now()
		s.Nodes(func(n fsm.Node) bool {
			nodes[n.ID] = n
			st.Nodes = append(st.Nodes, NodeStatus{ID: n.ID, PeerAddr: n.PeerAddr, HTTPAddr: n.HTTPAddr, Version: n.Version, Status: "left"})
			return true
		})
	})
	for _, s := range r.configuration().Servers {
		st.Nodes = withServer(st.Nodes, s)
	}
	var calls sync.WaitGroup
	for i := range st.Nodes {
		calls.Go(func() { r.examine(ctx, &st.Nodes[i], nodes[st.Nodes[i].ID].LeavingUntil > now) })
	}
	calls.Wait()
	st.FailureTolerance = tolerance(st.Nodes)
	return st
}

func withServer(nodes []NodeStatus, s raft.Server) []NodeStatus {
	suffrage := "nonvoter"
	if s.Suffrage == raft.Voter {
		suffrage = "voter"
	}
	for i := range nodes {
		if nodes[i].ID == string(s.ID) {
			nodes[i].Suffrage, nodes[i].PeerAddr = suffrage, string(s.Address)
			return nodes
		}
	}
	return append(nodes, NodeStatus{ID: string(s.ID), PeerAddr: string(s.Address), Suffrage: suffrage})
}

func (r *Replica) examine(ctx context.Context, n *NodeStatus, leaving bool) {
	if n.Suffrage == "" {
		return // left
	}
	answer, err := r.ownStatus(), error(nil)
	if n.ID != r.cfg.NodeID {
		answer, err = r.askStatus(ctx, Peer{ID: n.ID, Addr: n.PeerAddr})
	}
	switch {
	case err != nil:
		n.Status = "failed"
		return
	case leaving:
		n.Status = "leaving"
	default:
		n.Status = "alive"
	}
	n.Applied, n.Digest, n.Version = answer.Applied, answer.Digest, answer.Version
}

func tolerance(nodes []NodeStatus) int {
	voters, healthy := 0, 0
	for _, n := range nodes {
		if n.Suffrage == "voter" {
			voters++
			if n.Status == "alive" || n.Status == "leaving" {
				healthy++
			}
		}
	}
	return max(0, healthy-(voters/2+1))
}

// Ready tells whether this node is a voter that knows a leader, and if not, what it waits for.
func (r *Replica) Ready() (bool, string) {
	if reason := r.waiting.Load(); reason != nil && *reason != "" {
		return false, "waiting for " + *reason
	}
	s, in := r.server(r.cfg.NodeID)
	switch {
	case !r.confirmed.Load():
		return false, "waiting for a leader to confirm this node as a member"
	case !in || s.Suffrage != raft.Voter:
		return false, "this node is not a voter of the cluster"
	case r.Leader().ID == "":
		return false, "waiting for a leader"
	}
	return true, ""
}
