package fsm

// InstanceState is where an instance stands between its start and its end.
type InstanceState string

const (
	InstanceRegistered InstanceState = "registered"
	InstanceReady      InstanceState = "ready"
	InstanceQueued     InstanceState = "queued"   // asked to drain and still serving
	InstanceDraining   InstanceState = "draining" // granted
	InstanceDrained    InstanceState = "drained"  // may exit; still counts against the budget
	InstanceLeft       InstanceState = "left"
	InstanceLost       InstanceState = "lost" // its session ended without a word; Phase says how far it was
)

func (st InstanceState) live() bool { return st != InstanceLeft && st != InstanceLost }

// unavailable tells whether the budget counts the instance: those that a grant took out of service.
func (st InstanceState) unavailable() bool { return st == InstanceDraining || st == InstanceDrained }

// Instance is one running process of a service. Its key is (service, name, incarnation): the same name started again is another
// incarnation, and whatever an older one still says is refused.
type Instance struct {
	ID          string        `cbor:"1,keyasint"`
	Service     string        `cbor:"2,keyasint"`
	Name        string        `cbor:"3,keyasint"`
	Incarnation uint64        `cbor:"4,keyasint"`
	Session     string        `cbor:"5,keyasint"`
	Address     string        `cbor:"6,keyasint,omitempty"`
	State       InstanceState `cbor:"7,keyasint"`
	Ticket      uint64        `cbor:"8,keyasint,omitempty"`  // place in the drain queue, from the token counter
	Grant       uint64        `cbor:"9,keyasint,omitempty"`  // token of the drain grant
	Overdraft   bool          `cbor:"10,keyasint,omitempty"` // drained without a grant: the platform would not wait
	Intent      string        `cbor:"11,keyasint,omitempty"` // restart or remove
	Reason      string        `cbor:"12,keyasint,omitempty"`
	Phase       string        `cbor:"13,keyasint,omitempty"` // last reported drain phase
	PhaseSeq    uint64        `cbor:"14,keyasint,omitempty"`
	Counters    []Counter     `cbor:"15,keyasint,omitempty"`
	History     []Moment      `cbor:"16,keyasint"`
	KeptUntil   uint64        `cbor:"17,keyasint,omitempty"` // cluster time at which an ended instance is forgotten
	Index       uint64        `cbor:"18,keyasint"`
}

// Counter is a number that an instance reports of itself, such as requests in flight.
type Counter struct {
	_     struct{} `cbor:",toarray"`
	Name  string
	Value uint64
}

// Moment is one step of an instance's history.
type Moment struct {
	_     struct{} `cbor:",toarray"`
	At    uint64   // cluster time
	State InstanceState
	Phase string
}

// InstanceResult answers the instance commands.
type InstanceResult struct {
	ID          string        `cbor:"1,keyasint,omitempty" json:",omitempty"`
	Incarnation uint64        `cbor:"2,keyasint,omitempty" json:",omitempty"`
	Session     string        `cbor:"3,keyasint,omitempty" json:",omitempty"`
	State       InstanceState `cbor:"4,keyasint,omitempty" json:",omitempty"`
	Ticket      uint64        `cbor:"5,keyasint,omitempty" json:",omitempty"`
	Grant       uint64        `cbor:"6,keyasint,omitempty" json:",omitempty"`
	Overdraft   bool          `cbor:"7,keyasint,omitempty" json:",omitempty"`
	Position    int           `cbor:"8,keyasint,omitempty" json:",omitempty"`
	Blockers    []string      `cbor:"9,keyasint,omitempty" json:",omitempty"`
}

// RegisterInstance starts an instance's life. ID and Session were drawn at random by the edge. An older live incarnation of the same
// name is superseded: it was drained far enough (left) or is lost.
type RegisterInstance struct {
	ID      string `cbor:"1,keyasint"`
	Session string `cbor:"2,keyasint"`
	Service string `cbor:"3,keyasint"`
	Name    string `cbor:"4,keyasint"`
	Address string `cbor:"5,keyasint,omitempty"`
	TTLMs   uint64 `cbor:"6,keyasint"`
}

func (RegisterInstance) kind() Kind { return kindRegisterInstance }

func (c RegisterInstance) apply(s *State) Result {
	if !c.valid() {
		return refuse(CodeInvalid, "instance id, service, name, address or TTL out of bounds")
	}
	if s.instances.len() >= InstancesMax {
		return refuse(CodeInstancesFull, "the cluster knows as many instances as it may")
	}
	if s.instances.has(c.ID) || s.sessions.has(c.Session) {
		return refuse(CodeSessionExists, "an instance or session with this id exists")
	}
	if s.sessions.len() >= SessionsMax {
		return refuse(CodeSessionsFull, "the cluster holds as many sessions as it may")
	}
	if !s.services.has(c.Service) {
		if r := (PutService{Name: c.Service, MaxUnavailable: MaxUnavailableDefault}).apply(s); r.Refused() {
			return r
		}
	}
	s.supersede(c.Service, c.Name)
	s.openSession(c.Session, c.Name, c.TTLMs, c.ID)
	v := Instance{ID: c.ID, Service: c.Service, Name: c.Name, Incarnation: s.nextToken(), Session: c.Session, Address: c.Address}
	v = s.moveInstance(v, InstanceRegistered)
	s.members.add(pair{group: v.Service, num: v.Incarnation, name: v.ID})
	return Result{Instance: &InstanceResult{ID: v.ID, Incarnation: v.Incarnation, Session: v.Session, State: v.State}}
}

func (c RegisterInstance) valid() bool {
	return c.ID != "" && len(c.ID) <= IDBytesMax && c.Session != "" && len(c.Session) <= IDBytesMax &&
		c.Service != "" && len(c.Service) <= NameBytesMax && c.Name != "" && len(c.Name) <= NameBytesMax &&
		len(c.Address) <= AddressBytesMax && c.TTLMs >= SessionTTLMinMs && c.TTLMs <= SessionTTLMaxMs
}

func (s *State) supersede(service, name string) {
	for _, p := range s.members.all(service) {
		if v, _ := s.instances.get(p.name); v.Name == name {
			s.endSession(v.Session, sessionExpired)
		}
	}
}

// moveInstance stores an instance in a new state, with a line of history.
func (s *State) moveInstance(v Instance, to InstanceState) Instance {
	if v.State == InstanceQueued && to != InstanceQueued {
		s.drains.remove(pair{group: v.Service, num: v.Ticket, name: v.ID})
	}
	v.State = to
	v = s.remember(v)
	if !to.live() {
		v.KeptUntil = s.counters.Now + instanceKeepMs
		s.setTimer(timer{due: v.KeptUntil, what: timerInstance, key: v.ID})
		s.members.remove(pair{group: v.Service, num: v.Incarnation, name: v.ID})
	}
	s.instances.set(v.ID, v)
	return v
}

func (s *State) remember(v Instance) Instance {
	history := make([]Moment, 0, InstanceHistoryMax)
	history = append(history, v.History...)
	if len(history) == InstanceHistoryMax {
		history = append(history[:1], history[2:]...)
	}
	v.History = append(history, Moment{At: s.counters.Now, State: v.State, Phase: v.Phase})
	v.Index = s.nextRevision()
	return v
}

func (s *State) indexInstance(v Instance) {
	if v.State.live() {
		s.members.add(pair{group: v.Service, num: v.Incarnation, name: v.ID})
	} else {
		s.setTimer(timer{due: v.KeptUntil, what: timerInstance, key: v.ID})
	}
	if v.State == InstanceQueued {
		s.drains.add(pair{group: v.Service, num: v.Ticket, name: v.ID})
	}
}

func (s *State) instanceDue(id string, due uint64) {
	if v, ok := s.instances.get(id); ok && v.KeptUntil == due {
		s.instances.delete(id)
	}
}

// instanceSessionEnded is called when the session of an instance is gone.
func (s *State) instanceSessionEnded(id string, how sessionEnd) {
	v, ok := s.instances.get(id)
	if !ok || !v.State.live() {
		return
	}
	to := InstanceLost
	if v.State == InstanceDrained || how == sessionClosed {
		to = InstanceLeft
	}
	s.moveInstance(v, to)
	s.grantDrains(v.Service)
}

// liveInstance finds the instance that a command speaks for.
func (s *State) liveInstance(id string, incarnation uint64) (Instance, Code) {
	v, ok := s.instances.get(id)
	switch {
	case !ok:
		return v, CodeInstanceNotFound
	case !v.State.live() || v.Incarnation != incarnation:
		return v, CodeStaleIncarnation
	}
	return v, ""
}

func refuseInstance(code Code) Result {
	if code == CodeInstanceNotFound {
		return refuse(code, "no such instance")
	}
	return refuse(code, "this incarnation is over: another one has taken its name, or it left or was lost")
}

// SetInstanceReady says that the instance serves.
type SetInstanceReady struct {
	ID          string `cbor:"1,keyasint"`
	Incarnation uint64 `cbor:"2,keyasint"`
}

func (SetInstanceReady) kind() Kind { return kindSetInstanceReady }

func (c SetInstanceReady) apply(s *State) Result {
	v, code := s.liveInstance(c.ID, c.Incarnation)
	switch {
	case code != "":
		return refuseInstance(code)
	case v.State == InstanceReady:
		return s.instanceResult(v)
	case v.State != InstanceRegistered:
		return refuse(CodeInstanceState, "an instance that is stopping does not become ready")
	}
	return s.instanceResult(s.moveInstance(v, InstanceReady))
}

// FinishInstance says that an instance is drained (it may exit) or has left.
type FinishInstance struct {
	ID          string `cbor:"1,keyasint"`
	Incarnation uint64 `cbor:"2,keyasint"`
	Left        bool   `cbor:"3,keyasint,omitempty"`
}

func (FinishInstance) kind() Kind { return kindFinishInstance }

func (c FinishInstance) apply(s *State) Result {
	v, code := s.liveInstance(c.ID, c.Incarnation)
	if code == CodeStaleIncarnation && v.State == InstanceLeft && v.Incarnation == c.Incarnation {
		return s.instanceResult(v)
	}
	if code != "" {
		return refuseInstance(code)
	}
	if c.Left {
		s.endSession(v.Session, sessionClosed)
		v, _ = s.instances.get(c.ID)
		return s.instanceResult(v)
	}
	if v.State == InstanceDrained {
		return s.instanceResult(v)
	}
	if v.State != InstanceDraining {
		return refuse(CodeInstanceState, "only a draining instance becomes drained")
	}
	return s.instanceResult(s.moveInstance(v, InstanceDrained))
}

func (s *State) instanceResult(v Instance) Result {
	r := &InstanceResult{ID: v.ID, Incarnation: v.Incarnation, Session: v.Session, State: v.State, Ticket: v.Ticket, Grant: v.Grant, Overdraft: v.Overdraft}
	if v.State == InstanceQueued {
		r.Position, r.Blockers = s.DrainPosition(v.ID)
	}
	return Result{Instance: r}
}

// Instance gives an instance by id.
func (s *State) Instance(id string) (Instance, bool) { return s.instances.get(id) }

// Instances visits all instances in the order of their ids, from the given one.
func (s *State) Instances(from string, visit func(Instance) bool) {
	s.instances.ascend(from, func(_ string, v Instance) bool { return visit(v) })
}

// Members visits the live instances of a service in the order of their registration.
func (s *State) Members(service string, visit func(Instance) bool) {
	s.members.each(service, func(p pair) bool {
		v, _ := s.instances.get(p.name)
		return visit(v)
	})
}
