package fsm

// Drains: who may leave service now. The budget is asked inside the entry that asks or that frees a place.

// DrainInstance asks to stop an instance. It is granted at once when the service's budget allows, else the instance queues and keeps
// serving. An instance that is not in service never waits. Asking again answers how the first asking stands; with KillInMs it moves the
// ticket to the band of those that a platform will kill.
type DrainInstance struct {
	ID          string `cbor:"1,keyasint"`
	Incarnation uint64 `cbor:"2,keyasint"` // 0: an operator's wish, whatever the incarnation
	Intent      string `cbor:"3,keyasint"`
	Reason      string `cbor:"4,keyasint,omitempty"`
	KillInMs    uint64 `cbor:"5,keyasint,omitempty"` // the platform has signalled and kills it then
	WallMs      uint64 `cbor:"6,keyasint,omitempty"` // when it was asked, to be shown only

	plan uint64 // that asks; never in the log
}

func (DrainInstance) kind() Kind { return kindDrainInstance }

func (c DrainInstance) apply(s *State) Result {
	if (c.Intent != IntentRestart && c.Intent != IntentRemove) || len(c.Reason) > ReasonBytesMax || c.KillInMs > GraceMaxMs {
		return refuse(CodeInvalid, "intent must be restart or remove, the reason short, and the time to the kill within an hour")
	}
	v, code := s.liveInstance(c.ID, c.Incarnation)
	if code != "" {
		return refuseInstance(code)
	}
	if c.Incarnation == 0 {
		s.auditInstance("instances.drain", v, c.WallMs, c.Reason)
	}
	return s.instanceResult(s.askDrain(v, c))
}

func (s *State) askDrain(v Instance, c DrainInstance) Instance {
	switch v.State {
	case InstanceReady, InstanceRegistered, InstancePaused:
		s.takeTicket(v, c)
	case InstanceQueued, InstanceDraining:
		if c.KillInMs == 0 || v.KillAt != 0 {
			return v
		}
		s.putInstance(s.killedAt(v, c.KillInMs))
	default:
		return v
	}
	s.reconsider(v.Service)
	s.grantOverdue(v.ID)
	v, _ = s.instances.get(v.ID)
	return v
}

// takeTicket puts an instance into the queue; one that is not in service has nothing to wait for.
func (s *State) takeTicket(v Instance, c DrainInstance) {
	v.From, v.Intent, v.Reason, v.Plan, v.Ticket = v.State, c.Intent, c.Reason, c.plan, s.nextToken()
	v = s.killedAt(v, c.KillInMs)
	if v.State == InstanceReady {
		s.moveInstance(v, InstanceQueued)
	} else {
		s.grantDrain(v, false)
	}
}

// killedAt notes when the platform kills an instance, and so when it must be granted at the latest.
func (s *State) killedAt(v Instance, inMs uint64) Instance {
	if inMs == 0 {
		return v
	}
	v.KillAt = s.counters.Now + inMs
	if v.State == InstanceDraining {
		return v
	}
	v.GrantBy = max(s.counters.Now, minus(v.KillAt, v.drainMs()))
	if v.Platform == PlatformKubernetes {
		v.GrantBy = s.counters.Now // the signal has taken it out of the endpoints: waiting protects nobody
	}
	return v
}

func minus(a, b uint64) uint64 {
	if a <= b {
		return 0
	}
	return a - b
}

// grantDrain lets an instance go out of service.
func (s *State) grantDrain(v Instance, overdraft bool) Instance {
	v.Grant, v.GrantedAt, v.Overdraft = s.nextToken(), s.counters.Now, overdraft
	v.DrainUntil = s.counters.Now + v.drainMs() + drainSlackMs
	s.recordGrant(v.Service, overdraft)
	v = s.moveInstance(v, InstanceDraining)
	if s.onGrant != nil {
		s.onGrant(v)
	}
	return v
}

func (s *State) overdraftDue(id string, due uint64) {
	if v, ok := s.instances.get(id); ok && v.GrantBy == due {
		s.grantOverdue(id)
	}
}

// grantOverdue grants what the platform would kill otherwise.
func (s *State) grantOverdue(id string) {
	v, ok := s.instances.get(id)
	if !ok || v.State != InstanceQueued || v.GrantBy == 0 || v.GrantBy > s.counters.Now {
		return
	}
	s.grantDrain(v, !s.mayTake(v))
	s.reconsider(v.Service)
}

// forceDue ends a drain that is not over in time: its process hangs, or its reports do not come through.
func (s *State) forceDue(id string, due uint64) {
	v, ok := s.instances.get(id)
	if !ok || v.State != InstanceDraining || v.DrainUntil != due {
		return
	}
	s.endSession(v.Session, sessionForced)
}

// reconsider does for a service what has become possible: grants, and the next steps of its plan.
func (s *State) reconsider(service string) {
	for {
		s.grantQueued(service)
		if !s.advancePlan(service) {
			return
		}
	}
}

func (s *State) grantQueued(service string) {
	for {
		next, waiting := s.drains.first(service)
		v, _ := s.instances.get(next.name)
		if !waiting || !s.mayTake(v) {
			return
		}
		s.grantDrain(v, false)
	}
}

// UndoDrain takes a drain back, until the point of no return.
type UndoDrain struct {
	ID          string `cbor:"1,keyasint"`
	Incarnation uint64 `cbor:"2,keyasint,omitempty"` // 0: an operator's wish
	Reason      string `cbor:"3,keyasint,omitempty"`
	WallMs      uint64 `cbor:"4,keyasint,omitempty"`
}

func (UndoDrain) kind() Kind { return kindUndoDrain }

func (c UndoDrain) apply(s *State) Result {
	v, code := s.liveInstance(c.ID, c.Incarnation)
	switch {
	case len(c.Reason) > ReasonBytesMax:
		return refuse(CodeInvalid, "the reason is too long")
	case code != "":
		return refuseInstance(code)
	case v.State != InstanceQueued && v.State != InstanceDraining && v.State != InstanceDrained:
		return refuse(CodeInstanceState, "the instance is not stopping")
	case v.KillAt != 0:
		return refuse(CodeNotUndoable, "its platform has signalled it and will kill it")
	case !v.undoable():
		return refuse(CodeNotUndoable, "it has given its locks back: the point of no return is behind it")
	}
	if c.Incarnation == 0 {
		s.auditInstance("instances.undo", v, c.WallMs, c.Reason)
	}
	return s.instanceResult(s.reconsidered(s.undo(v)))
}

// undoable tells whether a drain is before the point of no return, and nobody will kill the instance.
func (v Instance) undoable() bool {
	return v.KillAt == 0 && (v.State == InstanceQueued || v.State == InstanceDraining && phaseNumber(v.Phase) < phaseNumber(PointOfNoReturn))
}

// undo returns an instance to what it was. One that was only queued served on, and has not to settle anew.
func (s *State) undo(v Instance) Instance {
	queued, settleAt := v.State == InstanceQueued, v.SettleAt
	s.recordUndo(v.Service)
	v.Ticket, v.Grant, v.Overdraft, v.Intent, v.Reason, v.Phase, v.Plan = 0, 0, false, "", "", "", 0
	v.GrantedAt, v.DrainUntil, v.PhaseSince, v.Keys, v.Notes = 0, 0, 0, nil, nil
	switch {
	case queued:
		v.SettleAt = settleAt
		return s.moveInstance(v, InstanceReady)
	case v.From == InstancePaused:
		return s.moveInstance(v, InstancePaused)
	}
	return s.backInService(v)
}

// auditInstance records what an operator wished of an instance.
func (s *State) auditInstance(action string, v Instance, wallMs uint64, reason string) {
	s.audit(Act{WallMs: wallMs, Action: action, Subject: v.Service + "/" + v.Name, Reason: reason, Details: []string{"instance " + v.ID + ", " + string(v.State)}})
}
