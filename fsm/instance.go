package fsm

import "slices"

// InstanceState is where an instance stands between its start and its end.
type InstanceState string

const (
	InstanceRegistered InstanceState = "registered"
	InstanceReady      InstanceState = "ready"
	InstancePaused     InstanceState = "paused"
	InstanceQueued     InstanceState = "queued"   // asked to drain and still serving
	InstanceDraining   InstanceState = "draining" // granted
	InstanceDrained    InstanceState = "drained"  // may exit
	InstanceLeft       InstanceState = "left"
	InstanceForced     InstanceState = "forced" // its drain passed its deadline
	InstanceLost       InstanceState = "lost"   // its session ended without a word; Phase says how far it was
)

// Live tells whether the instance has not ended.
func (st InstanceState) Live() bool { return st.live() }

func (st InstanceState) live() bool {
	return st != InstanceLeft && st != InstanceForced && st != InstanceLost
}

// InstanceStates are all of them, in the order of a life.
var InstanceStates = [...]InstanceState{InstanceRegistered, InstanceReady, InstancePaused, InstanceQueued, InstanceDraining, InstanceDrained,
	InstanceLeft, InstanceForced, InstanceLost}

// Drain intents.
const (
	IntentRestart = "restart"
	IntentRemove  = "remove"
)

// PlatformKubernetes takes a signalled instance out of service by itself.
const PlatformKubernetes = "kubernetes"

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
	Overdraft   bool          `cbor:"10,keyasint,omitempty"` // granted beyond the budget: the platform would not wait
	Intent      string        `cbor:"11,keyasint,omitempty"` // restart or remove
	Reason      string        `cbor:"12,keyasint,omitempty"`
	Phase       string        `cbor:"13,keyasint,omitempty"` // last reported drain phase
	PhaseSeq    uint64        `cbor:"14,keyasint,omitempty"`
	Counters    []Counter     `cbor:"15,keyasint,omitempty"`
	History     []Moment      `cbor:"16,keyasint"`
	KeptUntil   uint64        `cbor:"17,keyasint,omitempty"` // cluster time at which an ended instance is forgotten
	Index       uint64        `cbor:"18,keyasint"`

	GraceMs    uint64        `cbor:"19,keyasint,omitempty"` // from the platform's signal to its kill
	Phases     []PhaseLimit  `cbor:"20,keyasint,omitempty"`
	Platform   string        `cbor:"21,keyasint,omitempty"`
	Labels     []Label       `cbor:"22,keyasint,omitempty"` // in the order of their keys
	Served     bool          `cbor:"23,keyasint,omitempty"` // it was ready once: what never was takes nothing away by stopping
	SettleAt   uint64        `cbor:"24,keyasint,omitempty"` // it counts as available then; 0 when it does, or does not serve
	From       InstanceState `cbor:"25,keyasint,omitempty"` // what it was before the drain
	KillAt     uint64        `cbor:"26,keyasint,omitempty"` // its platform kills it then; 0: nobody does
	GrantBy    uint64        `cbor:"27,keyasint,omitempty"` // while queued: granted then at the latest
	GrantedAt  uint64        `cbor:"28,keyasint,omitempty"`
	DrainUntil uint64        `cbor:"29,keyasint,omitempty"` // forced then
	PhaseSince uint64        `cbor:"30,keyasint,omitempty"`
	EndedAt    uint64        `cbor:"31,keyasint,omitempty"`
	HoldUntil  uint64        `cbor:"32,keyasint,omitempty"` // of one that ended: its place in the budget is kept till then
	Abandoned  bool          `cbor:"42,keyasint,omitempty"` // nobody took the place while it was kept
	Successor  string        `cbor:"33,keyasint,omitempty"` // who took the place that was kept
	Follows    string        `cbor:"34,keyasint,omitempty"` // whose place it took
	Plan       uint64        `cbor:"35,keyasint,omitempty"` // that asked it to stop

	Keys        []RowRef       `cbor:"36,keyasint,omitempty"` // whose cache entries it said may be stale
	Notes       []string       `cbor:"37,keyasint,omitempty"` // what else it said is unfinished
	Connections []Connections  `cbor:"38,keyasint,omitempty"`
	LocksFreed  uint32         `cbor:"39,keyasint,omitempty"`
	Adoption    []AdoptionStep `cbor:"40,keyasint,omitempty"`
	Unadopted   bool           `cbor:"41,keyasint,omitempty"` // it ended and somebody has to look after what it left
}

// Counter is a number that an instance reports of itself, such as requests in flight.
type Counter struct {
	_     struct{} `cbor:",toarray"`
	Name  string
	Value uint64
}

// Label is for people and filters.
type Label struct {
	_          struct{} `cbor:",toarray"`
	Key, Value string
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
	Outlook     *Outlook      `cbor:"8,keyasint,omitempty" json:",omitempty"`
	Blockers    []Blocker     `cbor:"9,keyasint,omitempty" json:",omitempty"` // of a refused pause
	Keys        int           `cbor:"10,keyasint,omitempty" json:",omitempty"`
}

// RegisterInstance starts an instance's life. ID and Session were drawn at random by the edge. An older live incarnation of the same
// name is superseded.
type RegisterInstance struct {
	ID       string       `cbor:"1,keyasint"`
	Session  string       `cbor:"2,keyasint"`
	Service  string       `cbor:"3,keyasint"`
	Name     string       `cbor:"4,keyasint"`
	Address  string       `cbor:"5,keyasint,omitempty"`
	TTLMs    uint64       `cbor:"6,keyasint"`
	GraceMs  uint64       `cbor:"7,keyasint,omitempty"`
	Phases   []PhaseLimit `cbor:"8,keyasint,omitempty"`
	Platform string       `cbor:"9,keyasint,omitempty"`
	Labels   []Label      `cbor:"10,keyasint,omitempty"`
}

func (RegisterInstance) kind() Kind { return kindRegisterInstance }

func (c RegisterInstance) apply(s *State) Result {
	switch {
	case !c.valid():
		return refuse(CodeInvalid, "instance id, service, name, address, TTL, labels or phases out of bounds")
	case s.instances.len() >= InstancesMax:
		return refuse(CodeInstancesFull, "the cluster knows as many instances as it may")
	case s.instances.has(c.ID) || s.sessions.has(c.Session):
		return refuse(CodeSessionExists, "an instance or session with this id exists")
	case s.sessions.len() >= SessionsMax:
		return refuse(CodeSessionsFull, "the cluster holds as many sessions as it may")
	}
	if !s.services.has(c.Service) {
		if r := (PutService{Name: c.Service}).apply(s); r.Refused() {
			return r
		}
	}
	s.supersede(c.Service, c.Name)
	s.openSession(c.Session, c.Name, c.TTLMs, c.ID)
	v := Instance{ID: c.ID, Service: c.Service, Name: c.Name, Incarnation: s.nextToken(), Session: c.Session, Address: c.Address,
		GraceMs: c.GraceMs, Phases: c.Phases, Platform: c.Platform, Labels: c.Labels}
	v = s.moveInstance(v, InstanceRegistered)
	s.stopCleanups(v.Service)
	return Result{Instance: &InstanceResult{ID: v.ID, Incarnation: v.Incarnation, Session: v.Session, State: v.State}}
}

func (c RegisterInstance) valid() bool {
	return c.ID != "" && len(c.ID) <= IDBytesMax && c.Session != "" && len(c.Session) <= IDBytesMax &&
		c.Service != "" && len(c.Service) <= NameBytesMax && c.Name != "" && len(c.Name) <= NameBytesMax &&
		len(c.Address) <= AddressBytesMax && c.TTLMs >= SessionTTLMinMs && c.TTLMs <= SessionTTLMaxMs &&
		c.GraceMs <= GraceMaxMs && (c.Platform == "" || c.Platform == PlatformKubernetes) && validLabels(c.Labels) && validPhases(c.Phases)
}

func validLabels(labels []Label) bool {
	return len(labels) <= LabelsMax && !slices.ContainsFunc(labels, func(l Label) bool {
		return l.Key == "" || len(l.Key) > IDBytesMax || len(l.Value) > NameBytesMax
	})
}

// serviceName is what at most one live instance has.
type serviceName struct{ service, name string }

// supersede ends the live incarnation of a name, if there is one.
func (s *State) supersede(service, name string) {
	if id, live := s.named[serviceName{service, name}]; live {
		v, _ := s.instances.get(id)
		s.endSession(v.Session, sessionSuperseded)
	}
}

// moveInstance stores an instance in a new state, with a line of history.
func (s *State) moveInstance(v Instance, to InstanceState) Instance {
	v.State = to
	if to != InstanceReady && to != InstanceQueued {
		v.SettleAt = 0
	}
	if to != InstanceQueued {
		v.GrantBy = 0
	}
	return s.putInstance(remembered(v, s.counters.Now))
}

// remembered adds a line when there is something new: a drain that reports its counters for a while does not push out how it came to it.
func remembered(v Instance, now uint64) Instance {
	if n := len(v.History); n > 0 && v.History[n-1].State == v.State && v.History[n-1].Phase == v.Phase {
		return v
	}
	history := make([]Moment, 0, InstanceHistoryMax)
	history = append(history, v.History...)
	if len(history) == InstanceHistoryMax {
		history = append(history[:1], history[2:]...)
	}
	v.History = append(history, Moment{At: now, State: v.State, Phase: v.Phase})
	return v
}

// putInstance is the only way to store an instance: the indexes, the occupancy of its service and its timers follow.
func (s *State) putInstance(v Instance) Instance {
	if old, known := s.instances.get(v.ID); known {
		s.unindexInstance(old)
	}
	v.Index = s.nextRevision()
	s.instances.set(v.ID, v)
	s.indexInstance(v)
	return v
}

func (s *State) indexInstance(v Instance) {
	s.occupy(v, 1)
	if v.State.live() {
		s.members.add(pair{group: v.Service, num: v.Incarnation, name: v.ID})
		s.named[serviceName{v.Service, v.Name}] = v.ID
	} else {
		s.setTimer(timer{due: v.KeptUntil, what: timerInstance, key: v.ID})
	}
	if v.State == InstanceQueued {
		s.drains.add(queuePair(v))
	}
	if v.HoldUntil != 0 {
		s.held.add(pair{group: v.Service, num: v.Incarnation, name: v.ID})
	}
	if v.Unadopted {
		s.orphans.add(pair{num: v.Incarnation, name: v.ID})
	}
	s.timeInstance(timerSettle, v.SettleAt, v.ID)
	s.timeInstance(timerOverdraft, v.GrantBy, v.ID)
	s.timeInstance(timerHold, v.HoldUntil, v.ID)
	if v.State == InstanceDraining {
		s.timeInstance(timerForce, v.DrainUntil, v.ID)
	}
}

func (s *State) timeInstance(what timerKind, due uint64, id string) {
	if due != 0 {
		s.setTimer(timer{due: due, what: what, key: id})
	}
}

func (s *State) unindexInstance(v Instance) {
	s.occupy(v, -1)
	s.members.remove(pair{group: v.Service, num: v.Incarnation, name: v.ID})
	if s.named[serviceName{v.Service, v.Name}] == v.ID {
		delete(s.named, serviceName{v.Service, v.Name})
	}
	s.held.remove(pair{group: v.Service, num: v.Incarnation, name: v.ID})
	s.orphans.remove(pair{num: v.Incarnation, name: v.ID})
	if v.State == InstanceQueued {
		s.drains.remove(queuePair(v))
	}
}

// voluntaryBand puts those that nobody kills behind those that a platform will kill.
const voluntaryBand = 1 << 60

func queuePair(v Instance) pair {
	p := pair{group: v.Service, num: v.Ticket, name: v.ID}
	if v.KillAt == 0 {
		p.num += voluntaryBand
	}
	return p
}

// instanceDue forgets an ended instance, unless what it left behind is still to be looked after.
func (s *State) instanceDue(id string, due uint64) {
	v, ok := s.instances.get(id)
	if !ok || v.KeptUntil != due || v.State.live() {
		return
	}
	if v.Unadopted {
		v.KeptUntil = s.counters.Now + instanceKeepMs
		s.putInstance(v)
		return
	}
	s.unindexInstance(v)
	s.instances.delete(id)
}

// instanceSessionEnded is called when the session of an instance is gone.
func (s *State) instanceSessionEnded(id string, how sessionEnd, freed int) {
	v, ok := s.instances.get(id)
	if !ok || !v.State.live() {
		return
	}
	v.LocksFreed = uint32(freed)
	s.hurryPrepared(v.ID)
	s.endInstance(v, endOf(v, how))
}

func endOf(v Instance, how sessionEnd) InstanceState {
	switch {
	case how == sessionForced:
		return InstanceForced
	case how == sessionClosed || v.State == InstanceDrained:
		return InstanceLeft
	case how == sessionSuperseded && v.State == InstanceDraining && (v.Phase == "close" || v.Phase == "leave"):
		return InstanceLeft // it was as good as gone
	}
	return InstanceLost
}

func (s *State) endInstance(v Instance, to InstanceState) {
	s.recordEnd(v, to)
	v.EndedAt = s.counters.Now
	v.HoldUntil = s.holdOf(v, to)
	v.KeptUntil = max(v.EndedAt+instanceKeepMs, v.HoldUntil)
	if to != InstanceLeft || len(v.Keys) > 0 {
		v.Unadopted = true
		v.Adoption = append(slices.Clip(v.Adoption), AdoptionStep{Step: AdoptLocks, Detail: locksFreed(v), At: s.counters.Now})
	}
	v = s.moveInstance(v, to)
	s.planSawEnd(v)
	s.reconsider(v.Service)
	s.considerCleanups(v.Service)
}

// liveInstance finds the instance that a command speaks for. Incarnation 0 is an operator's word about whatever has the id.
func (s *State) liveInstance(id string, incarnation uint64) (Instance, Code) {
	v, ok := s.instances.get(id)
	switch {
	case !ok:
		return v, CodeInstanceNotFound
	case !v.State.live() || (incarnation != 0 && v.Incarnation != incarnation):
		return v, CodeStaleIncarnation
	}
	return v, ""
}

func refuseInstance(code Code) Result {
	if code == CodeInstanceNotFound {
		return refuse(code, "no such instance")
	}
	return refuse(code, "this incarnation is over: another one has taken its name, or it left, or was forced or lost")
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
	switch {
	case c.Incarnation == 0:
		return refuse(CodeInvalid, "which incarnation?")
	case code == CodeStaleIncarnation && v.State == InstanceLeft && v.Incarnation == c.Incarnation:
		return s.instanceResult(v)
	case code != "":
		return refuseInstance(code)
	case c.Left:
		s.endSession(v.Session, sessionClosed)
		v, _ = s.instances.get(c.ID)
		return s.instanceResult(v)
	case v.State == InstanceDrained:
		return s.instanceResult(v)
	case v.State != InstanceDraining:
		return refuse(CodeInstanceState, "only a draining instance becomes drained")
	}
	return s.instanceResult(s.moveInstance(v, InstanceDrained))
}

func (s *State) instanceResult(v Instance) Result {
	r := &InstanceResult{ID: v.ID, Incarnation: v.Incarnation, Session: v.Session, State: v.State, Ticket: v.Ticket, Grant: v.Grant, Overdraft: v.Overdraft}
	if v.State == InstanceQueued {
		o := s.Outlook(v)
		r.Outlook = &o
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
