package quiescetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/httpapi"
)

const (
	nodeID           = "test"
	expiriesPerEntry = 100
	lazyMs           = 1_000 // how late housekeeping may be, as on a real leader
)

var errDoubtfulEntry = errors.New("quiescetest: an entry does not survive its encoding")

// node is the replicated state without replication: entries are applied one at a time, in the form in which a log would have them. It is
// the httpapi.Replica behind the edge.
type node struct {
	mu       sync.RWMutex
	state    *fsm.State
	term     uint64
	leading  bool
	seen     *seen
	closed   bool
	alarm    *time.Timer
	alarmFor uint64 // cluster time
	alarms   sync.WaitGroup

	clock   *clock
	leases  *leases
	watches *watches
	addr    string
	leader  atomic.Pointer[httpapi.Leader]
}

func newNode(manual bool) *node {
	return &node{state: fsm.New(), seen: newSeen(), clock: newClock(manual), leases: newLeases(), watches: newWatches(), addr: host}
}

// lead begins a term. The node leads until resign.
func (n *node) lead() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.leading {
		return
	}
	n.term++
	n.leading = true
	n.clock.start()
	n.applyLocked(fsm.Op{Command: fsm.TermStart{Node: nodeID}})
	n.leases.load(n.state)
	n.leader.Store(&httpapi.Leader{ID: nodeID, HTTPAddr: n.addr, Self: true})
	n.settleLocked()
	n.rearmLocked()
}

// resign ends the term: nothing is applied, nothing expires and time stands still.
func (n *node) resign() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leading = false
	n.clock.stop()
	n.leader.Store(&httpapi.Leader{})
	n.disarmLocked()
}

// close ends the alarm for good. Parked requests are ended by the edge.
func (n *node) close() {
	n.mu.Lock()
	n.closed = true
	n.disarmLocked()
	n.mu.Unlock()
	n.alarms.Wait()
}

// Propose implements httpapi.Replica: one call, one entry.
func (n *node) Propose(_ context.Context, ops ...fsm.Op) ([]fsm.Result, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.leading {
		return nil, httpapi.ErrNoLeader
	}
	results := n.applyLocked(ops...)
	n.rearmLocked()
	return results, nil
}

func (n *node) applyLocked(ops ...fsm.Op) []fsm.Result {
	entry, err := fsm.DecodeEntry(fsm.EncodeEntry(fsm.Entry{Now: n.clock.now(), Ops: ops}))
	if err != nil {
		panic(fmt.Errorf("%w: %w", errDoubtfulEntry, err)) // a node of a cluster would halt
	}
	results, changes := n.state.Apply(n.term, entry)
	for i, op := range entry.Ops {
		n.seen.note(op.Command, results[i])
	}
	n.leases.changed(n.state, changes)
	n.watches.wake(changes)
	return results
}

// Read implements httpapi.Replica: what was acknowledged is applied already.
func (n *node) Read(context.Context) error {
	if !n.Leader().Self {
		return httpapi.ErrNoLeader
	}
	return nil
}

// View implements httpapi.Replica.
func (n *node) View(f func(*fsm.State)) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	f(n.state)
}

// Watch implements httpapi.Replica.
func (n *node) Watch(table, key string) httpapi.Watch { return n.watches.add(table, key) }

// Now implements httpapi.Replica.
func (n *node) Now() uint64 { return n.clock.now() }

// Keepalive implements httpapi.Replica.
func (n *node) Keepalive(_ context.Context, ids []string) ([]httpapi.Lease, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.leading {
		return nil, httpapi.ErrNoLeader
	}
	if first := n.leases.unlogged(ids); len(first) > 0 {
		n.applyLocked(fsm.Op{Command: fsm.RenewSessions{IDs: first}})
		n.rearmLocked()
	}
	return n.leases.extend(ids, n.clock.now()), nil
}

// LeaseRemaining implements httpapi.Replica. It is called under View.
func (n *node) LeaseRemaining(session string) (uint64, bool) {
	if !n.Leader().Self {
		return 0, false
	}
	return n.leases.remaining(session, n.clock.now())
}

// Leader implements httpapi.Replica.
func (n *node) Leader() httpapi.Leader { return *n.leader.Load() }

// ClusterID implements httpapi.Replica.
func (n *node) ClusterID() string { return "quiescetest" }

// Status implements httpapi.Replica: a cluster of one.
func (n *node) Status(context.Context) api.Cluster {
	l := n.Leader()
	n.mu.RLock()
	defer n.mu.RUnlock()
	digest := fmt.Sprint(n.state.Digest())
	out := api.Cluster{ID: "quiescetest", Node: nodeID, Leader: l.ID, Term: n.term, Index: n.state.Revision(), AppliedIndex: n.state.Revision(),
		Digest: digest, Nodes: []api.Node{{ID: nodeID, Status: "alive", Suffrage: "voter", HTTPAddr: n.addr, AppliedIndex: n.state.Revision(), Digest: digest}}}
	if l.HTTPAddr != "" {
		out.LeaderURL = "http://" + l.HTTPAddr
	}
	return out
}

// RemoveNode implements httpapi.Replica.
func (n *node) RemoveNode(_ context.Context, id string) error {
	if id != nodeID {
		return &httpapi.RefusedError{Code: string(api.CodeNodeNotFound), Detail: "no such node"}
	}
	return &httpapi.RefusedError{Code: string(api.CodeUnsafe), Detail: "it is the only node"}
}

// Transfer implements httpapi.Replica.
func (n *node) Transfer(context.Context) error {
	return &httpapi.RefusedError{Code: string(api.CodeUnsafe), Detail: "there is no other node"}
}

// listensAt tells where the leader can be reached.
func (n *node) listensAt(addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addr = addr
	if n.leading {
		n.leader.Store(&httpapi.Leader{ID: nodeID, HTTPAddr: addr, Self: true})
	}
}
