package fsm

import "slices"

// Phases of a drain, in order.
var Phases = [...]string{"announce", "lameduck", "reject", "consumers", "transactions", "flush", "locks", "close", "leave"}

// PointOfNoReturn is the phase from which on a drain cannot be undone: others may hold its locks.
const PointOfNoReturn = "locks"

// phaseNumber is the place of a phase in the order; -1 of none.
func phaseNumber(phase string) int { return slices.Index(Phases[:], phase) }

// PhaseLimit is how long one phase may take.
type PhaseLimit struct {
	_       struct{} `cbor:",toarray"`
	Phase   string
	LimitMs uint64
}

func validPhases(limits []PhaseLimit) bool {
	var sum uint64
	last := 0 // announce has no limit of its own
	for _, p := range limits {
		n := phaseNumber(p.Phase)
		if n <= last || p.LimitMs > GraceMaxMs {
			return false
		}
		last, sum = n, sum+p.LimitMs
	}
	return sum <= GraceMaxMs
}

// drainMs is how long the instance needs after its grant.
func (v Instance) drainMs() uint64 {
	var sum uint64
	for _, p := range v.Phases {
		sum += p.LimitMs
	}
	return sum
}

// TransactionsOverdue tells whether the instance has had the time for its transactions: it drains, and the phase that waits for them is over.
func (v Instance) TransactionsOverdue(now uint64) bool {
	at := phaseNumber(v.Phase) - phaseNumber("transactions")
	if v.State != InstanceDraining || at < 0 {
		return false
	}
	limit := uint64(0)
	for _, p := range v.Phases {
		if p.Phase == "transactions" {
			limit = p.LimitMs
		}
	}
	return at > 0 || now > v.PhaseSince+limit
}

// ReportPhase records how far a drain is. Reports carry a rising sequence number; an old one changes nothing. An instance that reports
// a phase while it queues has begun without a grant, because it could not ask or its platform would not wait: that is an overdraft.
type ReportPhase struct {
	ID          string    `cbor:"1,keyasint"`
	Incarnation uint64    `cbor:"2,keyasint"`
	Phase       string    `cbor:"3,keyasint"`
	Seq         uint64    `cbor:"4,keyasint"`
	Counters    []Counter `cbor:"5,keyasint,omitempty"`
	Unfinished  bool      `cbor:"6,keyasint,omitempty"` // Keys and Notes are meant
	Keys        []RowRef  `cbor:"7,keyasint,omitempty"`
	Notes       []string  `cbor:"8,keyasint,omitempty"`
}

func (ReportPhase) kind() Kind { return kindReportPhase }

func (c ReportPhase) apply(s *State) Result {
	if !c.valid() {
		return refuse(CodeInvalid, "unknown phase, or counters or leftovers out of bounds")
	}
	v, code := s.liveInstance(c.ID, c.Incarnation)
	switch {
	case code != "":
		return refuseInstance(code)
	case c.Seq <= v.PhaseSeq && v.PhaseSeq != 0:
		return s.instanceResult(v)
	case v.State == InstanceRegistered || v.State == InstanceReady || v.State == InstancePaused:
		return refuse(CodeInstanceState, "no drain is under way: it was undone, or nobody asked for one")
	}
	if v.Phase != c.Phase {
		v.PhaseSince = s.counters.Now
	}
	v.Phase, v.PhaseSeq, v.Counters = c.Phase, c.Seq, c.Counters
	if c.Unfinished {
		v.Keys, v.Notes = c.Keys, c.Notes
	}
	if v.State == InstanceQueued && c.Phase != Phases[0] {
		return s.instanceResult(s.reconsidered(s.grantDrain(v, !s.mayTake(v))))
	}
	return s.instanceResult(s.putInstance(remembered(v, s.counters.Now)))
}

func (c ReportPhase) valid() bool {
	if c.Incarnation == 0 || len(c.Counters) > CountersMax || len(c.Keys) > LeftoversMax || len(c.Notes) > NotesMax {
		return false
	}
	return phaseNumber(c.Phase) >= 0 &&
		!slices.ContainsFunc(c.Counters, func(n Counter) bool { return n.Name == "" || len(n.Name) > IDBytesMax }) &&
		!slices.ContainsFunc(c.Keys, func(k RowRef) bool {
			return k.PK == "" || len(k.PK) > PKBytesMax || len(k.Mapping) > NameBytesMax
		}) &&
		!slices.ContainsFunc(c.Notes, func(n string) bool { return len(n) > NameBytesMax })
}

// Connections are what an instance has open to a source, by the ids that the server gave them.
type Connections struct {
	_      struct{} `cbor:",toarray"`
	Source string
	IDs    []uint64 // rising
	At     uint64   // cluster time of the report
}

// ReportConnections replaces the connections of an instance. Whatever was not reported is not known to be its own.
type ReportConnections struct {
	ID          string        `cbor:"1,keyasint"`
	Incarnation uint64        `cbor:"2,keyasint"`
	Connections []Connections `cbor:"3,keyasint,omitempty"` // At is set when it is applied
}

func (ReportConnections) kind() Kind { return kindReportConnections }

func (c ReportConnections) apply(s *State) Result {
	if len(c.Connections) > SourcesShownMax || slices.ContainsFunc(c.Connections, func(x Connections) bool {
		return x.Source == "" || len(x.Source) > NameBytesMax || len(x.IDs) > ConnectionsMax
	}) {
		return refuse(CodeInvalid, "too many connections, or sources")
	}
	v, code := s.liveInstance(c.ID, c.Incarnation)
	if code != "" {
		return refuseInstance(code)
	}
	v.Connections = nil
	for _, x := range c.Connections {
		v.Connections = append(v.Connections, Connections{Source: x.Source, IDs: x.IDs, At: s.counters.Now})
	}
	return s.instanceResult(s.putInstance(v))
}

// SameConnections tells whether a report says what is known.
func (v Instance) SameConnections(of []Connections) bool {
	return slices.EqualFunc(v.Connections, of, func(a, b Connections) bool { return a.Source == b.Source && slices.Equal(a.IDs, b.IDs) })
}
