package fsm

// PauseScope says of what deliveries are paused.
type PauseScope string

const (
	PauseAll     PauseScope = "all"
	PauseMapping PauseScope = "mapping"
	PauseTarget  PauseScope = "target"
	PauseSource  PauseScope = "source" // its relay and its probes; deliveries that read from it go on
)

// Pause stops deliveries, or a relay. It is there as long as it holds.
type Pause struct {
	Scope  PauseScope `cbor:"1,keyasint"`
	Name   string     `cbor:"2,keyasint,omitempty"` // empty for all
	Reason string     `cbor:"3,keyasint,omitempty"`
	At     uint64     `cbor:"4,keyasint"` // cluster time
	Index  uint64     `cbor:"5,keyasint"`
}

func pauseKey(scope PauseScope, name string) string { return string(scope) + "\x00" + name }

func (sc PauseScope) fits(name string) bool {
	switch sc {
	case PauseAll:
		return name == ""
	case PauseMapping, PauseTarget, PauseSource:
		return name != "" && len(name) <= NameBytesMax
	}
	return false
}

// PauseOutbox stops deliveries. Events are taken all the while. The same again changes the reason.
type PauseOutbox struct {
	Scope  PauseScope `cbor:"1,keyasint"`
	Name   string     `cbor:"2,keyasint,omitempty"`
	Reason string     `cbor:"3,keyasint,omitempty"`
	WallMs uint64     `cbor:"4,keyasint,omitempty"` // when it was asked, to be shown only
}

func (PauseOutbox) kind() Kind { return kindPauseOutbox }

func (c PauseOutbox) apply(s *State) Result {
	if !c.Scope.fits(c.Name) || len(c.Reason) > ReasonBytesMax {
		return refuse(CodeInvalid, "pause all, a mapping, a target or a source")
	}
	if c.Scope == PauseMapping && !s.mappings.has(c.Name) {
		return refuse(CodeMappingNotFound, "no such mapping: "+c.Name)
	}
	key := pauseKey(c.Scope, c.Name)
	old, paused := s.pauses.get(key)
	switch {
	case paused && old.Reason == c.Reason:
		return Result{}
	case !paused && s.pauses.len() >= PausesMax:
		return refuse(CodePausesFull, "as many pauses hold as may")
	case !paused:
		old.At = s.counters.Now
	}
	s.pauses.set(key, Pause{Scope: c.Scope, Name: c.Name, Reason: c.Reason, At: old.At, Index: s.nextRevision()})
	s.auditPause("outbox.pause", c.Scope, c.Name, c.WallMs, c.Reason)
	return Result{}
}

// ResumeOutbox ends a pause. That none holds is no error.
type ResumeOutbox struct {
	Scope  PauseScope `cbor:"1,keyasint"`
	Name   string     `cbor:"2,keyasint,omitempty"`
	WallMs uint64     `cbor:"3,keyasint,omitempty"`
}

func (ResumeOutbox) kind() Kind { return kindResumeOutbox }

func (c ResumeOutbox) apply(s *State) Result {
	if !c.Scope.fits(c.Name) {
		return refuse(CodeInvalid, "resume all, a mapping, a target or a source")
	}
	if _, paused := s.pauses.delete(pauseKey(c.Scope, c.Name)); paused {
		s.auditPause("outbox.resume", c.Scope, c.Name, c.WallMs, "")
	}
	return Result{}
}

func (s *State) auditPause(action string, scope PauseScope, name string, wallMs uint64, reason string) {
	subject := "all"
	if name != "" {
		subject = string(scope) + " " + name
	}
	s.audit(Act{WallMs: wallMs, Action: action, Subject: subject, Reason: reason})
}

// Paused tells whether deliveries of a mapping are paused, by whichever pause.
func (s *State) Paused(m Mapping) bool {
	return s.pauses.len() > 0 && (s.pauses.has(pauseKey(PauseAll, "")) || s.pauses.has(pauseKey(PauseMapping, m.Name)) || s.pauses.has(pauseKey(PauseTarget, m.Target)))
}

// RelayPaused tells whether the relay of a source is.
func (s *State) RelayPaused(source string) bool {
	return s.pauses.len() > 0 && (s.pauses.has(pauseKey(PauseAll, "")) || s.pauses.has(pauseKey(PauseSource, source)))
}

// Pauses visits the pauses that hold.
func (s *State) Pauses(visit func(Pause) bool) {
	s.pauses.ascend("", func(_ string, p Pause) bool { return visit(p) })
}
