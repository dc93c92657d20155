package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/transport"
)

// DepartConfig bounds a departure.
type DepartConfig struct {
	DrainDelay time.Duration // between announcing and doing: clients and balancers turn away, and other nodes that stop show themselves
	QuorumWait time.Duration // for another voter to come back, when stopping would cost the quorum
	StopOnly   bool          // keep the membership
}

// Departure says how a node went.
type Departure struct {
	Left   bool   // removed from the cluster, and that is committed
	Reason string // why it stopped in place instead, with the next safe step
}

// Announce tells the leader that this node is about to stop. It is best effort: it makes the departure visible and lets nodes that
// stop at the same time see each other.
func (r *Replica) Announce(ctx context.Context, within time.Duration) error {
	return r.untilLeader(ctx, func(to Peer) error {
		if to.ID == r.cfg.NodeID {
			_, err := r.answerStop(ctx, r.self(), stopRequest{WithinMs: uint64(within.Milliseconds())})
			return err
		}
		_, err := ask[struct{}](ctx, r.transport, to, callStop, stopRequest{WithinMs: uint64(within.Milliseconds())})
		return err
	})
}

func (r *Replica) self() transport.Peer {
	id := r.stores.Identity()
	return transport.Peer{Identity: transport.Identity{NodeID: id.NodeID, Incarnation: id.Incarnation}, ClusterID: id.ClusterID}
}

// Depart takes this node out of the cluster if that is safe. It serves and forwards all the while, and may be stopped when Depart
// returns. The order: announce, wait, hand over leadership, be removed by the new leader. A leader never removes itself.
func (r *Replica) Depart(ctx context.Context, cfg DepartConfig) Departure {
	window := cfg.DrainDelay + cfg.QuorumWait + 2*applyTimeout
	if err := r.Announce(ctx, window); err != nil {
		r.log.Warn("the departure could not be announced", "error", err)
	}
	if sleep(ctx, cfg.DrainDelay) != nil {
		return Departure{Reason: "there was no time left to leave"}
	}
	if len(r.voters()) == 1 {
		return Departure{Reason: "the last voter cannot leave; its data folder keeps the state"}
	}
	others := r.stopping(r.cfg.NodeID)
	if others == 0 { // those who said that they stop will not come back for this node
		r.awaitQuorum(ctx, cfg.QuorumWait)
	}
	if err := r.handOver(ctx); err != nil {
		return Departure{Reason: fmt.Sprintf("leadership could not be handed over, stopping in place: %v", err)}
	}
	switch {
	case cfg.StopOnly:
		return Departure{Reason: "membership is kept by configuration"}
	case others > 0:
		return Departure{Reason: "several nodes are stopping; all keep their membership, so that any of them can start the cluster again"}
	}
	return r.beRemoved(ctx)
}

// stopping counts the voters, but for one, that have announced to stop.
func (r *Replica) stopping(except string) int {
	n := 0
	r.View(func(s *fsm.State) {
		for _, v := range r.voters() {
			node, ok := s.Node(string(v.ID))
			if ok && node.ID != except && node.LeavingUntil > s.Now() {
				n++
			}
		}
	})
	return n
}

// awaitQuorum waits while the other voters that answer could not go on without this one.
func (r *Replica) awaitQuorum(ctx context.Context, limit time.Duration) {
	deadline := time.Now().Add(limit)
	for warned := false; time.Now().Before(deadline); warned = true {
		voters := r.voters()
		if healthy := r.healthy(ctx, r.cfg.NodeID); len(healthy) >= len(voters)/2+1 {
			return
		}
		if !warned {
			r.log.Warn("stopping now would cost the quorum; waiting for another voter", "limit", limit)
		}
		if sleep(ctx, joinEvery) != nil {
			return
		}
	}
	if limit > 0 {
		r.log.Warn("no other voter came back; stopping all the same")
	}
}

// healthy are the voters, but for one, that answer now.
func (r *Replica) healthy(ctx context.Context, except string) []raft.Server {
	var asked []raft.Server
	for _, v := range r.voters() {
		if string(v.ID) != except {
			asked = append(asked, v)
		}
	}
	answers := make(chan int, len(asked))
	for i, v := range asked {
		go func() { // ends within statusTimeout, and the channel takes every answer
			if v.ID == raft.ServerID(r.cfg.NodeID) {
				answers <- i
			} else if _, err := r.askStatus(ctx, Peer{ID: string(v.ID), Addr: string(v.Address)}); err == nil {
				answers <- i
			} else {
				answers <- -1
			}
		}()
	}
	var out []raft.Server
	for range asked {
		if i := <-answers; i >= 0 {
			out = append(out, asked[i])
		}
	}
	return out
}

// handOver gives leadership to the most advanced healthy voter. Own proposals are fenced first: entries that arrive during a transfer
// make it fail. It is tried once: a second transfer after a failed one can leave raft refusing commands for ever.
func (r *Replica) handOver(ctx context.Context) error {
	l := r.leading.Load()
	if l == nil {
		return nil
	}
	l.open.Store(false)
	var best raft.Server
	var last uint64
	for _, v := range r.healthy(ctx, r.cfg.NodeID) {
		st, err := r.askStatus(ctx, Peer{ID: string(v.ID), Addr: string(v.Address)})
		if err == nil && st.LastIndex >= last {
			best, last = v, st.LastIndex
		}
	}
	if best.ID == "" {
		return errors.New("no other voter answers")
	}
	future := r.raft.LeadershipTransferToServer(best.ID, best.Address)
	done := make(chan error, 1)
	go func() { done <- future.Error() }() // raft bounds it by the election timeout, but for its own faults
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("transfer to %s: %w", best.ID, err)
		}
	case <-time.After(applyTimeout):
		return fmt.Errorf("transfer to %s: no answer", best.ID)
	}
	select {
	case <-l.ended:
		return nil
	case <-time.After(applyTimeout):
		return errors.New("still leading after the transfer")
	}
}

// Transfer hands leadership over at an operator's wish. This node takes proposals again if it fails.
func (r *Replica) Transfer(ctx context.Context) error {
	l := r.leading.Load()
	if l == nil {
		return ErrNotLeader
	}
	if err := r.handOver(ctx); err != nil {
		l.open.Store(l.ready.Load())
		return &RefusedError{Code: "transfer_failed", Detail: err.Error()}
	}
	return nil
}

// beRemoved asks the leader to remove this node until there is an answer, across leader changes. Where the answer is unknown it looks at the
// configuration that the others have.
func (r *Replica) beRemoved(ctx context.Context) Departure {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	err := r.untilLeader(ctx, func(to Peer) error {
		_, err := ask[removeAnswer](ctx, r.transport, to, callRemove, struct{}{})
		return err
	})
	var refused *RefusedError
	switch {
	case err == nil:
		return Departure{Left: true}
	case errors.As(err, &refused):
		return Departure{Reason: "stopping in place, leaving is not safe: " + refused.Detail}
	default:
		return Departure{Reason: fmt.Sprintf("stopping in place, the removal could not be confirmed: %v", err)}
	}
}

// untilLeader calls the leader until it answers, or refuses for a reason that time does not heal.
func (r *Replica) untilLeader(ctx context.Context, call func(to Peer) error) error {
	var last error
	for {
		h := r.hello()
		if h.LeaderID == "" {
			h, _ = r.findLeader(ctx)
		}
		if h.LeaderID != "" {
			err := call(Peer{ID: h.LeaderID, Addr: h.LeaderAddr})
			var refused *RefusedError
			if err == nil || errors.As(err, &refused) && refused.Code != CodeNotLeader && refused.Code != CodeChangeRunning {
				return err
			}
			last = err
		}
		if err := sleep(ctx, tickEvery); err != nil {
			return errors.Join(last, err)
		}
	}
}

func (r *Replica) answerStop(ctx context.Context, peer transport.Peer, q stopRequest) (struct{}, error) {
	l := r.leading.Load()
	if l == nil || !l.open.Load() {
		return struct{}{}, &RefusedError{Code: CodeNotLeader, Detail: "this node does not lead"}
	}
	_, err := r.propose(ctx, l, []fsm.Op{{Command: fsm.MarkLeaving{ID: peer.NodeID, Incarnation: peer.Incarnation, WithinMs: q.WithinMs}}})
	return struct{}{}, err
}

func (r *Replica) answerRemove(ctx context.Context, peer transport.Peer, _ struct{}) (removeAnswer, error) {
	if others := r.stopping(peer.NodeID); others > 0 {
		return removeAnswer{}, &RefusedError{Code: CodeManyStopping, Detail: "another voter is stopping too; all keep their membership, so that any of them can start the cluster again"}
	}
	err := r.removeSafely(ctx, peer.NodeID)
	return removeAnswer{Removed: err == nil}, err
}

// RemoveNode removes a member for good, at an operator's wish, if that is safe.
func (r *Replica) RemoveNode(ctx context.Context, id string) error {
	_, known := r.server(id)
	r.View(func(s *fsm.State) {
		if _, ok := s.Node(id); ok {
			known = true // it left; asking again is no mistake, a name that was never heard is one
		}
	})
	if !known {
		return &RefusedError{Code: CodeNodeNotFound, Detail: "the cluster knows no node " + id}
	}
	return r.removeSafely(ctx, id)
}

// removeSafely removes a member if what remains can go on at once: the configuration counts from the moment it is appended, so the voters
// that answer must be a quorum of the new one, and MinVoters must stay so that an acknowledged write is on two disks.
func (r *Replica) removeSafely(ctx context.Context, id string) error {
	l := r.leading.Load()
	if l == nil || !l.open.Load() {
		return &RefusedError{Code: CodeNotLeader, Detail: "this node does not lead"}
	}
	if id == r.cfg.NodeID {
		return &RefusedError{Code: CodeUnsafe, Detail: "a leader does not remove itself; transfer leadership first: POST /v1/cluster/transfer, or send the node SIGTERM"}
	}
	end, err := r.beginChange(ctx)
	if err != nil {
		return err
	}
	defer end()
	server, in := r.server(id)
	if !in {
		return nil // removed already
	}
	future := r.raft.GetConfiguration()
	if server.Suffrage == raft.Voter {
		if err := r.checkRemoval(ctx, id); err != nil {
			return err
		}
	}
	if err := l.round(ctx); err != nil {
		return err
	}
	r.log.Info("removing node", "peer", id)
	if err := r.raft.RemoveServer(raft.ServerID(id), future.Index(), applyTimeout).Error(); err != nil {
		return outcome(err)
	}
	return nil
}

func (r *Replica) checkRemoval(ctx context.Context, id string) error {
	voters := len(r.voters())
	remain := voters - 1
	if remain < r.cfg.MinVoters {
		return &RefusedError{Code: CodeUnsafe, Detail: fmt.Sprintf("%d voters would remain, at least %d must; stop the node in place instead: send it SIGTERM", remain, r.cfg.MinVoters)}
	}
	healthy := r.healthy(ctx, id)
	if len(healthy) >= remain/2+1 {
		return nil
	}
	dead := ""
	for _, v := range r.voters() {
		if string(v.ID) != id && !contains(healthy, v) {
			dead = string(v.ID)
		}
	}
	return &RefusedError{Code: CodeUnsafe, Detail: fmt.Sprintf(
		"only %d of the %d voters that would remain answer; first bring node %s back, or remove it: DELETE /v1/cluster/nodes/%s", len(healthy), remain, dead, dead)}
}

func contains(servers []raft.Server, s raft.Server) bool {
	for _, have := range servers {
		if have.ID == s.ID {
			return true
		}
	}
	return false
}
