package fsm

// How an instance goes into service and, for a while, out of it.

// SetInstanceReady says that the instance serves.
type SetInstanceReady struct {
	ID          string `cbor:"1,keyasint"`
	Incarnation uint64 `cbor:"2,keyasint"`
}

func (SetInstanceReady) kind() Kind { return kindSetInstanceReady }

func (c SetInstanceReady) apply(s *State) Result {
	v, code := s.liveInstance(c.ID, c.Incarnation)
	switch {
	case c.Incarnation == 0:
		return refuse(CodeInvalid, "which incarnation?")
	case code != "":
		return refuseInstance(code)
	case v.State == InstanceReady:
		return s.instanceResult(v)
	case v.State == InstancePaused:
		return refuse(CodeInstanceState, "a paused instance becomes ready by resume")
	case v.State != InstanceRegistered:
		return refuse(CodeInstanceState, "an instance that is stopping does not become ready")
	}
	return s.instanceResult(s.reconsidered(s.putInService(v)))
}

// reconsidered is the instance after its service was.
func (s *State) reconsidered(v Instance) Instance {
	s.reconsider(v.Service)
	v, _ = s.instances.get(v.ID)
	return v
}

// putInService makes an instance ready: it settles, and takes over the place of a predecessor if one is kept.
func (s *State) putInService(v Instance) Instance {
	service, _ := s.services.get(v.Service)
	if !v.Served {
		v = s.follow(v)
		s.recordLife(v.Service)
	}
	v.Served = true
	v.SettleAt = 0
	if service.SettleMs > 0 {
		v.SettleAt = s.counters.Now + service.SettleMs
	}
	if v.SettleAt == 0 {
		v = s.settleInstance(v)
	}
	return s.moveInstance(v, InstanceReady)
}

func (s *State) settleDue(id string, due uint64) {
	v, ok := s.instances.get(id)
	if !ok || v.SettleAt != due {
		return
	}
	s.putInstance(s.settleInstance(v))
	s.reconsider(v.Service)
}

// settleInstance makes an instance count as available, and records how long the place was empty.
func (s *State) settleInstance(v Instance) Instance {
	if old, ok := s.instances.get(v.Follows); ok {
		s.recordRestart(v.Service, s.counters.Now-old.EndedAt)
	}
	v.SettleAt, v.Follows = 0, ""
	return v
}

// PauseInstance takes an instance out of service for a while, if the budget has room for it.
type PauseInstance struct {
	ID          string `cbor:"1,keyasint"`
	Incarnation uint64 `cbor:"2,keyasint,omitempty"` // 0: an operator's wish
	Force       bool   `cbor:"3,keyasint,omitempty"`
	Reason      string `cbor:"4,keyasint,omitempty"`
	WallMs      uint64 `cbor:"5,keyasint,omitempty"` // when it was asked, to be shown only
}

func (PauseInstance) kind() Kind { return kindPauseInstance }

func (c PauseInstance) apply(s *State) Result {
	v, code := s.liveInstance(c.ID, c.Incarnation)
	switch {
	case len(c.Reason) > ReasonBytesMax:
		return refuse(CodeInvalid, "the reason is too long")
	case code != "":
		return refuseInstance(code)
	case v.State == InstancePaused:
		return s.instanceResult(v)
	case v.State != InstanceReady && v.State != InstanceRegistered:
		return refuse(CodeInstanceState, "an instance that is stopping cannot be paused: undo the drain first")
	}
	if v.State == InstanceReady && !s.mayTake(v) {
		if !c.Force {
			r := refuse(CodeBudgetExhausted, "the budget of the service has no room, or is frozen")
			r.Instance = &InstanceResult{Blockers: s.blockers(v.Service, v.ID)}
			return r
		}
		s.recordOverdraft(v.Service)
	}
	if c.Incarnation == 0 {
		s.auditInstance("instances.pause", v, c.WallMs, c.Reason)
	}
	v.Reason, v.From = c.Reason, v.State
	return s.instanceResult(s.moveInstance(v, InstancePaused))
}

// ResumeInstance ends a pause.
type ResumeInstance struct {
	ID          string `cbor:"1,keyasint"`
	Incarnation uint64 `cbor:"2,keyasint,omitempty"` // 0: an operator's wish
	Reason      string `cbor:"3,keyasint,omitempty"`
	WallMs      uint64 `cbor:"4,keyasint,omitempty"`
}

func (ResumeInstance) kind() Kind { return kindResumeInstance }

func (c ResumeInstance) apply(s *State) Result {
	v, code := s.liveInstance(c.ID, c.Incarnation)
	switch {
	case len(c.Reason) > ReasonBytesMax:
		return refuse(CodeInvalid, "the reason is too long")
	case code != "":
		return refuseInstance(code)
	case v.State == InstanceReady || v.State == InstanceRegistered:
		return s.instanceResult(v)
	case v.State != InstancePaused:
		return refuse(CodeInstanceState, "the instance is not paused")
	}
	if c.Incarnation == 0 {
		s.auditInstance("instances.resume", v, c.WallMs, c.Reason)
	}
	return s.instanceResult(s.reconsidered(s.backInService(v)))
}

// backInService returns an instance to what it was before a pause or a drain.
func (s *State) backInService(v Instance) Instance {
	v.Reason = ""
	if v.Served {
		return s.putInService(v)
	}
	return s.moveInstance(v, InstanceRegistered)
}
