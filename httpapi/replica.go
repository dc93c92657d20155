package httpapi

import (
	"context"
	"errors"
	"fmt"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/replica"
)

// Over lets the edge use a replica.Replica. What differs is only in whose words errors and answers stand.
func Over(r *replica.Replica) Replica { return over{r} }

type over struct{ *replica.Replica }

func (o over) Propose(ctx context.Context, ops ...fsm.Op) ([]fsm.Result, error) {
	results, err := o.Replica.Propose(ctx, ops...)
	return results, translated(err)
}

func (o over) RemoveNode(ctx context.Context, id string) error {
	return translated(o.Replica.RemoveNode(ctx, id))
}

func (o over) Transfer(ctx context.Context) error { return translated(o.Replica.Transfer(ctx)) }

func (o over) Read(ctx context.Context) error { return translated(o.Replica.Read(ctx)) }

func (o over) Keepalive(ctx context.Context, ids []string) ([]Lease, error) {
	leases, err := o.Replica.Keepalive(ctx, ids)
	if err != nil {
		return nil, translated(err)
	}
	out := make([]Lease, len(leases))
	for i, l := range leases {
		out[i] = Lease(l)
	}
	return out, nil
}

func (o over) Leader() Leader { return Leader(o.Replica.Leader()) }

func (o over) Status(ctx context.Context) api.Cluster {
	st := o.Replica.Status(ctx)
	out := api.Cluster{ID: st.ClusterID, Node: st.NodeID, Leader: st.Leader.ID, Term: st.Term, Index: st.Revision, AppliedIndex: st.Applied,
		Digest: st.Digest, FailureTolerance: st.FailureTolerance, Nodes: make([]api.Node, 0, len(st.Nodes))}
	if st.Leader.HTTPAddr != "" {
		out.LeaderURL = baseURL(Leader(st.Leader))
	}
	for _, n := range st.Nodes {
		out.Nodes = append(out.Nodes, api.Node{ID: n.ID, Status: n.Status, Suffrage: n.Suffrage, PeerAddr: n.PeerAddr, HTTPAddr: n.HTTPAddr,
			AppliedIndex: n.Applied, Digest: n.Digest, Version: n.Version})
	}
	return out
}

type watch struct{ *replica.Watch }

func (w watch) Wake() <-chan struct{} { return w.C }

func (o over) Watch(table, key string) Watch { return watch{o.Replica.Watch(table, key)} }

// translated puts the replica's outcomes into the edge's words; both stay in the chain.
func translated(err error) error {
	var refused *replica.RefusedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused) && refused.Code == replica.CodeNotLeader:
		return fmt.Errorf("%w: %w", ErrNotApplied, err)
	case errors.As(err, &refused):
		return &RefusedError{Code: refused.Code, Detail: refused.Detail}
	case errors.Is(err, replica.ErrNoLeader):
		return fmt.Errorf("%w: %w", ErrNoLeader, err)
	case errors.Is(err, replica.ErrNotApplied):
		return fmt.Errorf("%w: %w", ErrNotApplied, err)
	}
	return err
}
