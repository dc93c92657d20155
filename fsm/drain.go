package fsm

// Drains: who may leave service now. The budget is decided here and nowhere else, inside the entry that asks or that frees a place.

// DrainInstance asks to stop an instance. It is granted at once when the service's budget allows, else the instance queues and keeps
// serving. An instance that does not serve yet never waits. Asking again answers how the first asking stands.
type DrainInstance struct {
	ID          string `cbor:"1,keyasint"`
	Incarnation uint64 `cbor:"2,keyasint"` // 0: an operator's wish, whatever the incarnation
	Intent      string `cbor:"3,keyasint"`
	Reason      string `cbor:"4,keyasint,omitempty"`
}

func (DrainInstance) kind() Kind { return kindDrainInstance }

func (c DrainInstance) apply(s *State) Result {
	if (c.Intent != "restart" && c.Intent != "remove") || len(c.Reason) > ReasonBytesMax {
		return refuse(CodeInvalid, "intent must be restart or remove, and the reason short")
	}
	v, ok := s.instances.get(c.ID)
	if !ok {
		return refuseInstance(CodeInstanceNotFound)
	}
	if !v.State.live() || (c.Incarnation != 0 && c.Incarnation != v.Incarnation) {
		return refuseInstance(CodeStaleIncarnation)
	}
	if v.State != InstanceReady && v.State != InstanceRegistered {
		return s.instanceResult(v)
	}
	serving := v.State == InstanceReady
	v.Intent, v.Reason, v.Ticket = c.Intent, c.Reason, s.nextToken()
	if !serving {
		return s.instanceResult(s.grantDrain(v))
	}
	v = s.moveInstance(v, InstanceQueued)
	s.drains.add(pair{group: v.Service, num: v.Ticket, name: v.ID})
	s.grantDrains(v.Service)
	v, _ = s.instances.get(v.ID)
	return s.instanceResult(v)
}

func (s *State) grantDrain(v Instance) Instance {
	v.Grant = s.nextToken()
	return s.moveInstance(v, InstanceDraining)
}

// grantDrains grants the head of the queue while the budget allows.
func (s *State) grantDrains(service string) {
	budget, _ := s.services.get(service)
	for {
		next, waiting := s.drains.first(service)
		if !waiting || s.unavailable(service) >= int(budget.MaxUnavailable) {
			return
		}
		v, _ := s.instances.get(next.name)
		s.grantDrain(v)
	}
}

func (s *State) unavailable(service string) int {
	n := 0
	s.Members(service, func(v Instance) bool {
		if v.State.unavailable() {
			n++
		}
		return true
	})
	return n
}

// Unavailable is how many instances of a service its budget counts now.
func (s *State) Unavailable(service string) int { return s.unavailable(service) }

// DrainPosition is the place of a queued instance, from 1, and the ids of the instances that it waits for.
func (s *State) DrainPosition(id string) (int, []string) {
	v, ok := s.instances.get(id)
	if !ok || v.State != InstanceQueued {
		return 0, nil
	}
	position := 0
	s.drains.each(v.Service, func(p pair) bool { position++; return p.name != id })
	var blockers []string
	s.Members(v.Service, func(m Instance) bool {
		if m.State.unavailable() {
			blockers = append(blockers, m.ID)
		}
		return true
	})
	return position, blockers
}

// ReportPhase records how far a drain is. Reports carry a rising sequence number; an old one changes nothing. An instance that reports
// a phase while it queues has begun without a grant, because its platform would not wait: that is recorded as an overdraft.
type ReportPhase struct {
	ID          string    `cbor:"1,keyasint"`
	Incarnation uint64    `cbor:"2,keyasint"`
	Phase       string    `cbor:"3,keyasint"`
	Seq         uint64    `cbor:"4,keyasint"`
	Counters    []Counter `cbor:"5,keyasint,omitempty"`
}

func (ReportPhase) kind() Kind { return kindReportPhase }

// Phases of a drain, in order.
var Phases = [...]string{"announce", "lameduck", "reject", "consumers", "transactions", "flush", "locks", "close", "leave"}

func (c ReportPhase) apply(s *State) Result {
	if !c.valid() {
		return refuse(CodeInvalid, "unknown phase, or counters out of bounds")
	}
	v, code := s.liveInstance(c.ID, c.Incarnation)
	switch {
	case code != "":
		return refuseInstance(code)
	case c.Seq <= v.PhaseSeq && v.PhaseSeq != 0:
		return s.instanceResult(v)
	case v.State == InstanceRegistered || v.State == InstanceReady:
		return refuse(CodeInstanceState, "ask for a drain before reporting its phases")
	}
	v.Phase, v.PhaseSeq, v.Counters = c.Phase, c.Seq, c.Counters
	switch {
	case v.State == InstanceQueued && c.Phase != "announce":
		v.Overdraft = true
		v = s.moveInstance(v, InstanceDraining)
	default:
		v = s.remember(v)
		s.instances.set(v.ID, v)
	}
	return s.instanceResult(v)
}

func (c ReportPhase) valid() bool {
	if len(c.Counters) > CountersMax {
		return false
	}
	for _, n := range c.Counters {
		if n.Name == "" || len(n.Name) > IDBytesMax {
			return false
		}
	}
	for _, p := range Phases {
		if p == c.Phase {
			return true
		}
	}
	return false
}
