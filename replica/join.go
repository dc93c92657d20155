package replica

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/transport"
)

// node is what this node publishes of itself.
func (r *Replica) node() fsm.Node {
	id := r.stores.Identity()
	return fsm.Node{ID: id.NodeID, Incarnation: id.Incarnation, HTTPAddr: r.cfg.HTTPAddr, PeerAddr: r.transport.Advertised(),
		Version: r.cfg.Version, Sources: r.cfg.Sources, Targets: r.cfg.Targets}
}

// peers are all addresses at which a member of the cluster may be found.
func (r *Replica) peers() []Peer {
	seen := map[Peer]bool{}
	var out []Peer
	add := func(p Peer) {
		if p.ID != r.cfg.NodeID && p.Addr != "" && !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	for _, s := range r.configuration().Servers {
		add(Peer{ID: string(s.ID), Addr: string(s.Address)})
	}
	r.View(func(s *fsm.State) {
		s.Nodes(func(n fsm.Node) bool { add(Peer{ID: n.ID, Addr: n.PeerAddr}); return true })
	})
	for _, p := range r.cfg.Expect {
		add(p)
	}
	return out
}

// findLeader asks the others who leads, and remembers it for forwarding while raft itself does not know: a node that has been removed, or
// has lost sight of the leader, still serves its last requests.
func (r *Replica) findLeader(ctx context.Context) (helloAnswer, bool) {
	var best helloAnswer
	for _, p := range r.peers() {
		h, err := r.greet(ctx, p)
		if err == nil && h.LeaderID != "" && h.LeaderID != r.cfg.NodeID && h.Term > best.Term {
			best = h
		}
	}
	if best.LeaderID == "" {
		r.hint.Store(nil)
		return best, false
	}
	if best.LeaderHTTP != "" {
		r.hint.Store(&Leader{ID: best.LeaderID, HTTPAddr: best.LeaderHTTP})
	}
	return best, true
}

// confirm asks the leader whether this node, which has a cluster, is still a voter of it, and asks to join if it is not.
func (r *Replica) confirm(ctx context.Context) {
	if l := r.leading.Load(); l != nil && l.ready.Load() {
		r.confirmed.Store(true) // leaders are voters
		r.wait("")
		return
	}
	h, ok := r.findLeader(ctx)
	if !ok {
		r.wait("a leader")
		return
	}
	r.join(ctx, h)
}

func (r *Replica) join(ctx context.Context, h helloAnswer) {
	if h.LeaderID == "" {
		r.wait("the cluster of node " + h.ID + " to have a leader")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	a, err := ask[joinAnswer](ctx, r.transport, Peer{ID: h.LeaderID, Addr: h.LeaderAddr}, callJoin, joinRequest{Node: r.node()})
	if err != nil {
		r.wait(fmt.Sprintf("the leader %s to admit this node: %v", h.LeaderID, err))
		return
	}
	if err := r.stores.SetClusterID(a.ClusterID); err != nil {
		r.wait(err.Error())
		return
	}
	if !a.Voter {
		r.wait("this node to catch up and become a voter")
		return
	}
	r.wait("")
	r.confirmed.Store(true)
}

// answerJoin is the leader's half: it publishes the node, and adds it as a non-voter if it is no member. promote makes it a voter later.
func (r *Replica) answerJoin(ctx context.Context, peer transport.Peer, q joinRequest) (joinAnswer, error) {
	l := r.leading.Load()
	if l == nil || !l.open.Load() {
		return joinAnswer{}, &RefusedError{Code: CodeNotLeader, Detail: "this node does not lead"}
	}
	n := q.Node
	if n.ID != peer.NodeID || n.Incarnation != peer.Incarnation || n.PeerAddr == "" {
		return joinAnswer{}, &RefusedError{Code: "malformed", Detail: "the request does not speak for its sender"}
	}
	end, err := r.beginChange(ctx)
	if err != nil {
		return joinAnswer{}, err
	}
	defer end()
	var known fsm.Node
	var isKnown bool
	r.View(func(s *fsm.State) { known, isKnown = s.Node(n.ID) })
	server, in := r.server(n.ID)
	if in && isKnown && known.Incarnation != n.Incarnation {
		return joinAnswer{}, &RefusedError{Code: CodeOtherFolder, Detail: fmt.Sprintf(
			"node %s is a member with another data folder; if that folder is lost, remove the node first: DELETE /v1/cluster/nodes/%s", n.ID, n.ID)}
	}
	if err := l.round(ctx); err != nil {
		return joinAnswer{}, err
	}
	if !in || string(server.Address) != n.PeerAddr {
		if err := r.admit(n, in && server.Suffrage == raft.Voter); err != nil {
			return joinAnswer{}, err
		}
	}
	if _, err := r.propose(ctx, l, []fsm.Op{{Command: fsm.PutNode{Node: n}}}); err != nil {
		return joinAnswer{}, err
	}
	return joinAnswer{ClusterID: r.stores.Identity().ClusterID, Voter: in && server.Suffrage == raft.Voter}, nil
}

// beginChange waits a moment for its turn: raft takes one change of the membership at a time, and most are over in milliseconds.
func (r *Replica) beginChange(ctx context.Context) (end func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, changeWait)
	defer cancel()
	select {
	case r.changing <- struct{}{}:
		return func() { <-r.changing }, nil
	case <-ctx.Done():
		return nil, &RefusedError{Code: CodeChangeRunning, Detail: "another change of the membership is under way; try again"}
	}
}

// admit changes an address in place (never remove-then-add, which shrinks the quorum), or adds a non-voter.
func (r *Replica) admit(n fsm.Node, voter bool) error {
	future := r.raft.GetConfiguration()
	add := r.raft.AddNonvoter
	if voter {
		add = r.raft.AddVoter
	}
	r.log.Info("admitting node", "peer", n.ID, "addr", n.PeerAddr, "voter", voter)
	return add(raft.ServerID(n.ID), raft.ServerAddress(n.PeerAddr), future.Index(), applyTimeout).Error()
}

func (r *Replica) server(id string) (raft.Server, bool) {
	servers := r.configuration().Servers
	i := slices.IndexFunc(servers, func(s raft.Server) bool { return s.ID == raft.ServerID(id) })
	if i < 0 {
		return raft.Server{}, false
	}
	return servers[i], true
}

// publishSelf puts the leader's own addresses into the state; the others' come with their join.
func (r *Replica) publishSelf(ctx context.Context) error {
	for {
		if _, err := r.Propose(ctx, fsm.Op{Command: fsm.PutNode{Node: r.node()}}); err == nil {
			return nil
		}
		if sleep(ctx, joinEvery) != nil {
			return nil
		}
	}
}

// promote makes a non-voter a voter when it has caught up twice in a row within one term: its last index was at or past this leader's
// commit index at the asking.
func (r *Replica) promote(ctx context.Context, l *leadership) error {
	caught := map[raft.ServerID]int{}
	for {
		if sleep(ctx, promoteEvery) != nil {
			return nil
		}
		for _, s := range r.configuration().Servers {
			if s.Suffrage == raft.Voter {
				continue
			}
			asked := r.raft.CommitIndex()
			st, err := r.askStatus(ctx, Peer{ID: string(s.ID), Addr: string(s.Address)})
			if err != nil || st.LastIndex < asked || st.Term != l.term {
				caught[s.ID] = 0
				continue
			}
			if caught[s.ID]++; caught[s.ID] >= 2 {
				delete(caught, s.ID)
				r.makeVoter(ctx, s)
			}
		}
	}
}

func (r *Replica) makeVoter(ctx context.Context, s raft.Server) {
	end, err := r.beginChange(ctx)
	if err != nil {
		return // the next round tries again
	}
	defer end()
	future := r.raft.GetConfiguration()
	if err := r.raft.AddVoter(s.ID, s.Address, future.Index(), applyTimeout).Error(); err != nil {
		r.log.Warn("node not promoted yet", "peer", string(s.ID), "error", err)
		return
	}
	r.log.Info("node is a voter", "peer", string(s.ID))
}

func (r *Replica) askStatus(ctx context.Context, p Peer) (statusAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	return ask[statusAnswer](ctx, r.transport, p, callStatus, struct{}{})
}

const statusTimeout = 500 * time.Millisecond

func (r *Replica) ownStatus() statusAnswer {
	a := statusAnswer{Term: r.raft.CurrentTerm(), LastIndex: r.raft.LastIndex(), Version: r.cfg.Version}
	r.machine.view(func(s *fsm.State, applied uint64) { a.Applied, a.Digest = applied, s.Digest().String() })
	return a
}
