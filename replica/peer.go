package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/transport"
)

// Calls between nodes. The numbers travel on the wire.
const (
	callTerm   transport.CallKind = iota + 1 // what is your term?
	callHello                                // who are you? (open: before a cluster exists)
	callForm                                 // found this cluster with me (open)
	callJoin                                 // I want to be, or am, a member (open)
	callStatus                               // how far are you?
	callStop                                 // I am about to stop (to the leader)
	callRemove                               // remove me if that is safe (to the leader)
)

type termAnswer struct {
	Term uint64 `json:"term"`
}

// helloAnswer is what a node tells to anybody who finds it.
type helloAnswer struct {
	ID          string `json:"id"`
	Incarnation string `json:"incarnation"`
	ClusterID   string `json:"cluster_id"` // "" while it belongs to no cluster
	Expect      []Peer `json:"expect"`
	LeaderID    string `json:"leader_id"`
	LeaderAddr  string `json:"leader_addr"` // of its transport
	LeaderHTTP  string `json:"leader_http"`
	Term        uint64 `json:"term"`
}

type formRequest struct {
	ClusterID string   `json:"cluster_id"`
	Members   []member `json:"members"`
}

type member struct {
	ID          string `json:"id"`
	Incarnation string `json:"incarnation"`
	Addr        string `json:"addr"`
}

type joinAnswer struct {
	ClusterID string `json:"cluster_id"`
	Voter     bool   `json:"voter"` // in the committed configuration
}

type joinRequest struct {
	Node fsm.Node `json:"node"`
}

type statusAnswer struct {
	Term      uint64 `json:"term"`
	LastIndex uint64 `json:"last_index"`
	Applied   uint64 `json:"applied"`
	Digest    string `json:"digest"`
	Version   string `json:"version"`
}

type stopRequest struct {
	WithinMs uint64 `json:"within_ms"`
}

type removeAnswer struct {
	Removed bool `json:"removed"`
}

// Codes of refusals that travel between nodes and to the edge.
const (
	CodeNotLeader     = "not_leader"
	CodeOtherFolder   = "other_data_folder"
	CodeUnsafe        = "unsafe"
	CodeManyStopping  = "several_nodes_stopping"
	CodeNodeNotFound  = "node_not_found"
	CodeChangeRunning = "change_running"
)

func (r *Replica) registerCalls() {
	t := r.transport
	t.Handle(callTerm, func(context.Context, transport.Peer, []byte) ([]byte, error) {
		return json.Marshal(termAnswer{Term: r.raft.CurrentTerm()})
	})
	t.HandleOpen(callHello, func(context.Context, transport.Peer, []byte) ([]byte, error) { return json.Marshal(r.hello()) })
	t.HandleOpen(callForm, respond(r.answerForm))
	t.HandleOpen(callJoin, respond(r.answerJoin))
	t.Handle(callStatus, func(context.Context, transport.Peer, []byte) ([]byte, error) { return json.Marshal(r.ownStatus()) })
	t.Handle(callStop, respond(r.answerStop))
	t.Handle(callRemove, respond(r.answerRemove))
}

// respond adapts a typed handler: JSON in, JSON out, a RefusedError as the transport's.
func respond[Q, A any](answer func(ctx context.Context, peer transport.Peer, q Q) (A, error)) transport.Handler {
	return func(ctx context.Context, peer transport.Peer, b []byte) ([]byte, error) {
		var q Q
		if len(b) > 0 {
			if err := json.Unmarshal(b, &q); err != nil {
				return nil, &transport.RemoteError{Code: "malformed", Message: err.Error()}
			}
		}
		a, err := answer(ctx, peer, q)
		var refused *RefusedError
		if errors.As(err, &refused) {
			return nil, &transport.RemoteError{Code: refused.Code, Message: refused.Detail}
		}
		if err != nil {
			return nil, err
		}
		return json.Marshal(a)
	}
}

// ask calls another node: JSON out, JSON in, its refusals as RefusedError. Other errors wrap transport's.
func ask[A any](ctx context.Context, t *transport.Transport, to Peer, kind transport.CallKind, q any) (A, error) {
	var a A
	body, err := json.Marshal(q)
	if err != nil {
		return a, fmt.Errorf("encode call: %w", err)
	}
	b, err := t.Call(ctx, to.Addr, to.ID, kind, body)
	var remote *transport.RemoteError
	if errors.As(err, &remote) && !errors.Is(err, transport.ErrNotSent) {
		return a, &RefusedError{Code: remote.Code, Detail: remote.Message}
	}
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return a, fmt.Errorf("decode answer: %w", err)
	}
	return a, nil
}
