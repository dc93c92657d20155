package fsm

import "fmt"

// ForceReleaseLock takes grants away: an operator's act.
type ForceReleaseLock struct {
	Name   string `cbor:"1,keyasint"`
	Token  uint64 `cbor:"2,keyasint,omitempty"` // 0: all grants of the name
	Reason string `cbor:"3,keyasint"`
	By     string `cbor:"4,keyasint,omitempty"`
	WallMs uint64 `cbor:"5,keyasint,omitempty"` // when it was asked, to be shown only
}

func (ForceReleaseLock) kind() Kind { return kindForceReleaseLock }

func (c ForceReleaseLock) apply(s *State) Result {
	grants, refused := s.aimed(c.Name, c.Token, c.Reason, c.By)
	if refused.Refused() {
		return refused
	}
	s.audit(Act{WallMs: c.WallMs, Action: "locks.force-release", Subject: c.Name, Reason: c.Reason, By: c.By, Details: grantDetails(grants)})
	s.takeAway(grants)
	return Result{Lock: &LockResult{Taken: takenFrom(grants)}}
}

// RevokeLock asks holders to give a lock back, and takes it away when WithinMs have passed. Asking again moves the deadline.
type RevokeLock struct {
	Name     string `cbor:"1,keyasint"`
	Token    uint64 `cbor:"2,keyasint,omitempty"` // 0: all grants of the name
	WithinMs uint64 `cbor:"3,keyasint"`
	Reason   string `cbor:"4,keyasint"`
	By       string `cbor:"5,keyasint,omitempty"`
	WallMs   uint64 `cbor:"6,keyasint,omitempty"`
}

func (RevokeLock) kind() Kind { return kindRevokeLock }

func (c RevokeLock) apply(s *State) Result {
	if c.WithinMs == 0 || c.WithinMs > RevokeMaxMs {
		return refuse(CodeInvalid, "the time to give the lock back is out of bounds")
	}
	grants, refused := s.aimed(c.Name, c.Token, c.Reason, c.By)
	if refused.Refused() {
		return refused
	}
	s.audit(Act{WallMs: c.WallMs, Action: "locks.revoke", Subject: c.Name, Reason: c.Reason, By: c.By, Details: grantDetails(grants)})
	for _, g := range grants {
		g.RevokeAt, g.RevokeReason, g.RevokedBy, g.Index = s.counters.Now+c.WithinMs, c.Reason, c.By, s.nextRevision()
		s.putGrant(g)
	}
	return Result{Lock: &LockResult{Taken: takenFrom(grants)}}
}

func (s *State) revocationDue(name string, token, due uint64) {
	g, ok := s.grants.get(grantKey(name, token))
	if !ok || g.RevokeAt != due {
		return
	}
	s.audit(Act{Action: "locks.revoked", Subject: name, Reason: g.RevokeReason, By: g.RevokedBy, Details: grantDetails([]Grant{g})})
	s.takeAway([]Grant{g})
}

// aimed finds the grants that an operator means.
func (s *State) aimed(name string, token uint64, reason, by string) (grants []Grant, refused Result) {
	if reason == "" || len(reason) > ReasonBytesMax || len(by) > NameBytesMax {
		return nil, refuse(CodeInvalid, "a reason is needed, of 256 bytes at most")
	}
	s.Grants(name, func(g Grant) bool {
		if token == 0 || g.Token == token {
			grants = append(grants, g)
		}
		return true
	})
	if len(grants) == 0 {
		return nil, notHolder(name)
	}
	return grants, Result{}
}

// takeAway frees whole grants, however often they are held.
func (s *State) takeAway(grants []Grant) {
	var names []string
	for _, g := range grants {
		names = append(names, s.free(g.Name, g.Token)...)
	}
	s.serve(names...)
}

func takenFrom(grants []Grant) []TakenFrom {
	out := make([]TakenFrom, 0, min(len(grants), TakenShownMax))
	for _, g := range grants[:min(len(grants), TakenShownMax)] {
		out = append(out, TakenFrom{Session: g.Session, Owner: g.Owner, Token: g.Token})
	}
	return out
}

// delay keeps a name from everybody after a holder was lost.
func (s *State) delay(g Grant) {
	if g.DelayMs == 0 {
		return
	}
	old, delayed := s.delays.get(g.Name)
	until := max(old, s.counters.Now+g.DelayMs)
	if delayed {
		s.dropTimer(delayTimer(g.Name, old))
	}
	s.delays.set(g.Name, until)
	s.setTimer(delayTimer(g.Name, until))
}

func delayTimer(name string, until uint64) timer {
	return timer{due: until, what: timerDelay, key: name}
}

func (s *State) delayDue(name string, due uint64) {
	if until, ok := s.delays.get(name); !ok || until != due {
		return
	}
	s.delays.delete(name)
	s.serve(name)
}

// Act is what an operator did. The oldest go when there are ActsMax.
type Act struct {
	ID      uint64   `cbor:"1,keyasint"` // a token: acts and grants are in one order
	WallMs  uint64   `cbor:"2,keyasint,omitempty"`
	At      uint64   `cbor:"3,keyasint"` // cluster time
	Action  string   `cbor:"4,keyasint"`
	Subject string   `cbor:"5,keyasint"`
	By      string   `cbor:"6,keyasint,omitempty"`
	Reason  string   `cbor:"7,keyasint,omitempty"`
	Details []string `cbor:"8,keyasint,omitempty"`
	Index   uint64   `cbor:"9,keyasint"`
}

func (s *State) audit(a Act) {
	if s.acts.len() >= ActsMax {
		s.forgetAct()
	}
	a.ID, a.At, a.Index = s.nextToken(), s.counters.Now, s.nextRevision()
	s.acts.set(a.ID, a)
}

func (s *State) forgetAct() {
	oldest := uint64(0)
	s.acts.ascend(0, func(id uint64, _ Act) bool { oldest = id; return false })
	s.acts.delete(oldest)
}

// Acts visits the audit from the newest on, beginning before the given id; 0 begins at the newest.
func (s *State) Acts(before uint64, visit func(Act) bool) {
	if before == 0 {
		before = TokenMax
	}
	s.acts.descend(before-1, func(_ uint64, a Act) bool { return visit(a) })
}

func grantDetails(grants []Grant) []string {
	var out []string
	for _, g := range grants[:min(len(grants), TakenShownMax)] {
		out = append(out, fmt.Sprintf("session %s, owner %q, token %d", g.Session, g.Owner, g.Token))
	}
	return out
}

func ticketDetail(t Ticket) string {
	return fmt.Sprintf("ticket %d of session %s, owner %q", t.ID, t.Session(), t.Acquire.Owner)
}
