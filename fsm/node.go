package fsm

import "slices"

// Node is what the cluster knows of one of its members beside the Raft configuration.
type Node struct {
	ID           string  `cbor:"1,keyasint"`
	Incarnation  string  `cbor:"2,keyasint"` // of its data folder
	HTTPAddr     string  `cbor:"3,keyasint"`
	PeerAddr     string  `cbor:"4,keyasint"`
	Version      string  `cbor:"5,keyasint,omitempty"`
	Sources      []Place `cbor:"6,keyasint,omitempty"`
	Targets      []Place `cbor:"7,keyasint,omitempty"`
	LeavingUntil uint64  `cbor:"8,keyasint,omitempty"` // cluster time; it said that it is leaving
	Index        uint64  `cbor:"9,keyasint"`
}

// Place is a source or target that a node has in its file: the name, and a hash of where it leads.
type Place struct {
	_        struct{} `cbor:",toarray"`
	Name     string
	Identity string
}

// PutNode publishes a node's addresses and places.
type PutNode struct {
	Node Node `cbor:"1,keyasint"`
}

func (PutNode) kind() Kind { return kindPutNode }

func (c PutNode) apply(s *State) Result {
	n := c.Node
	if n.ID == "" || len(n.ID) > IDBytesMax {
		return refuse(CodeInvalid, "node id out of bounds")
	}
	old, known := s.nodes.get(n.ID)
	if !known && s.nodes.len() >= NodesMax {
		return refuse(CodeNodesFull, "the cluster knows as many nodes as it may")
	}
	n.LeavingUntil, n.Index = 0, old.Index
	if known && sameNode(old, n) {
		return Result{}
	}
	n.Index = s.nextRevision()
	s.nodes.set(n.ID, n)
	return Result{}
}

func sameNode(a, b Node) bool {
	return a.Incarnation == b.Incarnation && a.HTTPAddr == b.HTTPAddr && a.PeerAddr == b.PeerAddr && a.Version == b.Version &&
		a.LeavingUntil == b.LeavingUntil && slices.Equal(a.Sources, b.Sources) && slices.Equal(a.Targets, b.Targets)
}

// MarkLeaving records that a node is about to leave; the record lapses at the deadline if it never does.
type MarkLeaving struct {
	ID          string `cbor:"1,keyasint"`
	Incarnation string `cbor:"2,keyasint"`
	WithinMs    uint64 `cbor:"3,keyasint"`
}

func (MarkLeaving) kind() Kind { return kindMarkLeaving }

func (c MarkLeaving) apply(s *State) Result {
	n, ok := s.nodes.get(c.ID)
	if !ok || n.Incarnation != c.Incarnation || c.WithinMs > WaitMaxMs {
		return refuse(CodeInvalid, "no such node")
	}
	n.LeavingUntil = s.counters.Now + c.WithinMs
	n.Index = s.nextRevision()
	s.nodes.set(n.ID, n)
	s.setTimer(timer{due: n.LeavingUntil, what: timerLeaving, key: n.ID})
	return Result{}
}

func (s *State) leavingDue(id string, due uint64) {
	n, ok := s.nodes.get(id)
	if !ok || n.LeavingUntil != due {
		return
	}
	n.LeavingUntil = 0
	n.Index = s.nextRevision()
	s.nodes.set(id, n)
}

// Node gives a node by id.
func (s *State) Node(id string) (Node, bool) { return s.nodes.get(id) }

// Nodes visits the nodes in the order of their ids.
func (s *State) Nodes(visit func(Node) bool) {
	s.nodes.ascend("", func(_ string, n Node) bool { return visit(n) })
}
