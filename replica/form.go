package replica

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/quiescehq/quiesce/transport"
)

// belong makes this node a member: it forms the cluster with the expected nodes, once, or joins the one that exists. It then keeps looking
// for the leader whenever raft does not know it.
func (r *Replica) belong(ctx context.Context) error {
	if err := r.resumeForming(ctx); err != nil {
		return ignoreDone(ctx, err)
	}
	for {
		switch {
		case r.stores.Identity().ClusterID == "":
			r.formOrJoin(ctx)
		case !r.confirmed.Load():
			r.confirm(ctx)
		case r.raftKnowsLeader():
			r.hint.Store(nil)
		default:
			r.findLeader(ctx)
		}
		if sleep(ctx, joinEvery) != nil {
			return nil
		}
	}
}

func (r *Replica) raftKnowsLeader() bool {
	_, id := r.raft.LeaderWithID()
	return id != ""
}

func ignoreDone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// wait records what this node is waiting for, for readiness and the log.
func (r *Replica) wait(reason string) {
	if old := r.waiting.Swap(&reason); reason != "" && (old == nil || *old != reason) {
		r.log.Info("waiting", "for", reason)
	}
}

func (r *Replica) hello() helloAnswer {
	id := r.stores.Identity()
	h := helloAnswer{ID: id.NodeID, Incarnation: id.Incarnation, ClusterID: id.ClusterID, Expect: r.expected(), Term: r.raft.CurrentTerm()}
	if l := r.leading.Load(); l != nil && l.open.Load() {
		h.LeaderID, h.LeaderAddr, h.LeaderHTTP = r.cfg.NodeID, r.transport.Advertised(), r.cfg.HTTPAddr
	} else if addr, id := r.raft.LeaderWithID(); id != "" && string(id) != r.cfg.NodeID {
		h.LeaderID, h.LeaderAddr, h.LeaderHTTP = string(id), string(addr), r.Leader().HTTPAddr
	}
	return h
}

func (r *Replica) expected() []Peer {
	peers := slices.Clone(r.cfg.Expect)
	slices.SortFunc(peers, func(a, b Peer) int { return cmp.Compare(a.ID, b.ID) })
	return peers
}

// formOrJoin is one attempt of a node that belongs to no cluster. Any node with a cluster means join, for ever; forming needs the word of
// all expected nodes that they are empty and expect the same set.
func (r *Replica) formOrJoin(ctx context.Context) {
	expected := r.expected()
	members := make([]member, 0, len(expected))
	var missing, differing []string
	for _, p := range expected {
		if p.ID == r.cfg.NodeID {
			members = append(members, member{ID: p.ID, Incarnation: r.stores.Identity().Incarnation, Addr: p.Addr})
			continue
		}
		h, err := r.greet(ctx, p)
		switch {
		case err != nil:
			missing = append(missing, p.ID+" at "+p.Addr)
		case h.ClusterID != "":
			r.join(ctx, h)
			return
		case !slices.Equal(h.Expect, expected):
			differing = append(differing, p.ID)
		default:
			members = append(members, member{ID: p.ID, Incarnation: h.Incarnation, Addr: p.Addr})
		}
	}
	switch {
	case len(missing) > 0:
		r.wait("the first start needs all expected nodes; no answer from " + strings.Join(missing, ", "))
	case len(differing) > 0:
		r.wait("these nodes expect another set of nodes: " + strings.Join(differing, ", "))
	case expected[0].ID != r.cfg.NodeID:
		r.wait("node " + expected[0].ID + " to found the cluster")
	default:
		if err := r.found(ctx, members); err != nil && ctx.Err() == nil {
			r.log.Error("the cluster could not be founded", "error", err)
		}
	}
}

func (r *Replica) greet(ctx context.Context, p Peer) (helloAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	return ask[helloAnswer](ctx, r.transport, p, callHello, struct{}{})
}

// found creates the cluster. The intent is durable before anybody hears of it, so that a founder that dies in the middle goes on after its
// restart: a cluster that only some know of could never elect.
func (r *Replica) found(ctx context.Context, members []member) error {
	form := formRequest{ClusterID: "c-" + strings.ToLower(rand.Text()), Members: members}
	if err := r.stores.SetForming(form); err != nil {
		return err
	}
	return r.resumeForming(ctx)
}

func (r *Replica) resumeForming(ctx context.Context) error {
	var form formRequest
	found, err := r.stores.Forming(&form)
	if err != nil || !found {
		return err
	}
	if err := r.adopt(ctx, form); err != nil {
		return err
	}
	for _, m := range form.Members {
		for m.ID != r.cfg.NodeID {
			callCtx, cancel := context.WithTimeout(ctx, roundTimeout)
			_, err := ask[struct{}](callCtx, r.transport, Peer{ID: m.ID, Addr: m.Addr}, callForm, form)
			cancel()
			if err == nil {
				break
			}
			r.wait(fmt.Sprintf("node %s to accept the new cluster: %v", m.ID, err))
			if err := sleep(ctx, joinEvery); err != nil {
				return err
			}
		}
	}
	r.log.Info("cluster founded", "cluster", form.ClusterID)
	return r.stores.ClearForming()
}

func (r *Replica) answerForm(ctx context.Context, _ transport.Peer, form formRequest) (struct{}, error) {
	self := r.stores.Identity()
	if self.ClusterID != "" && self.ClusterID != form.ClusterID {
		return struct{}{}, &RefusedError{Code: "member", Detail: "this node belongs to another cluster"}
	}
	peers := make([]Peer, 0, len(form.Members))
	mine := false
	for _, m := range form.Members {
		peers = append(peers, Peer{ID: m.ID, Addr: m.Addr})
		mine = mine || m.ID == self.NodeID && m.Incarnation == self.Incarnation
	}
	switch {
	case !mine:
		return struct{}{}, &RefusedError{Code: CodeOtherFolder, Detail: "this node's data folder is not the one that agreed to form"}
	case !slices.Equal(peers, r.expected()):
		return struct{}{}, &RefusedError{Code: "expect", Detail: "this node expects another set of nodes"}
	}
	return struct{}{}, r.adopt(ctx, form)
}

// adopt makes this node a founding member, durably. It may be repeated.
func (r *Replica) adopt(ctx context.Context, form formRequest) error {
	end, err := r.beginChange(ctx)
	if err != nil {
		return err
	}
	defer end()
	if err := r.stores.SetClusterID(form.ClusterID); err != nil {
		return err
	}
	var conf raft.Configuration
	for _, m := range form.Members {
		conf.Servers = append(conf.Servers, raft.Server{ID: raft.ServerID(m.ID), Address: raft.ServerAddress(m.Addr)})
	}
	err = r.raft.BootstrapCluster(conf).Error()
	if err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
		return fmt.Errorf("store the first configuration: %w", err)
	}
	return nil
}

// ClusterID is the id of the cluster that this node belongs to; empty before it does.
func (r *Replica) ClusterID() string { return r.stores.Identity().ClusterID }
