package fsm

// HeldLock names a grant by what its holder knows of it.
type HeldLock struct {
	Name  string `cbor:"1,keyasint"`
	Token uint64 `cbor:"2,keyasint"`
}

func (s *State) heldBy(session, name string, token uint64) (Grant, bool) {
	g, ok := s.grants.get(grantKey(name, token))
	return g, ok && g.Session == session
}

func notHolder(names ...string) Result {
	r := refuse(CodeNotHolder, "this session does not hold the lock with this token")
	r.Lock = &LockResult{Names: names}
	return r
}

// ReleaseLock gives grants back, all or none. The token proves that the caller means the grant that it has.
type ReleaseLock struct {
	Session string     `cbor:"1,keyasint"`
	Locks   []HeldLock `cbor:"2,keyasint"`
}

func (ReleaseLock) kind() Kind { return kindReleaseLock }

func (c ReleaseLock) apply(s *State) Result {
	if len(c.Locks) == 0 || len(c.Locks) > WantsMax {
		return refuse(CodeInvalid, "number of names out of bounds")
	}
	var missing []string
	for i, l := range c.Locks {
		for _, other := range c.Locks[:i] {
			if other == l {
				return refuse(CodeInvalid, "the same grant twice")
			}
		}
		if _, ok := s.heldBy(c.Session, l.Name, l.Token); !ok {
			missing = append(missing, l.Name)
		}
	}
	if len(missing) > 0 {
		return notHolder(missing...)
	}
	out := granting(len(c.Locks))
	names := make([]string, 0, 4) // on the stack unless there are more
	for _, l := range c.Locks {
		freed, left := s.giveBack(l.Name, l.Token)
		names = append(names, freed...)
		out.Grants = append(out.Grants, GrantedTo{Name: l.Name, Token: l.Token, Count: left})
	}
	s.serve(names...)
	return Result{Lock: out}
}

// giveBack counts a reentrant grant down, or frees it. The names that it answers are to be served afterwards; left is the count.
func (s *State) giveBack(name string, token uint64) (names []string, left uint64) {
	g, ok := s.Grant(name, token)
	switch {
	case !ok:
		return nil, 0
	case g.Count <= 1:
		return s.freeGrant(g), 0
	}
	g.Count, g.Index = g.Count-1, s.nextRevision()
	s.putGrant(g)
	return nil, g.Count
}

// free removes a grant if it is there; see freeGrant.
func (s *State) free(name string, token uint64) (names []string) {
	g, ok := s.Grant(name, token)
	if !ok {
		return nil
	}
	return s.freeGrant(g)
}

// freeGrant removes a grant. A wait that it was granted to, and whose owner was never told, is over with all that it was granted:
// nobody knows of the rest. The names that it answers are to be served afterwards.
func (s *State) freeGrant(g Grant) (names []string) {
	s.removeGrant(g)
	names = []string{g.Name}
	t, ok := s.tickets.get(g.Ticket)
	if !ok || t.State != TicketGranted {
		return names
	}
	if !t.Claimed {
		return append(names, s.endTicket(t, TicketReleased)...)
	}
	if len(s.grantedTo(t)) == 0 {
		s.moveTicket(t, TicketReleased, s.counters.Now+ticketKeepMs)
	}
	return names
}

// DowngradeLock makes an exclusive grant a shared one. Shared waits at the head of the queue join it in this entry.
type DowngradeLock struct {
	Session string `cbor:"1,keyasint"`
	Name    string `cbor:"2,keyasint"`
	Token   uint64 `cbor:"3,keyasint"`
}

func (DowngradeLock) kind() Kind { return kindDowngradeLock }

func (c DowngradeLock) apply(s *State) Result {
	g, ok := s.heldBy(c.Session, c.Name, c.Token)
	switch {
	case !ok:
		return notHolder(c.Name)
	case g.Mode == Permits:
		return refuse(CodeInvalid, "permits have nothing to be downgraded to")
	case g.Mode == Exclusive:
		g.Mode, g.Index = Shared, s.nextRevision()
		s.putGrant(g)
		s.settle([]string{g.Name}, []party{g.party()})
	}
	return Result{Lock: &LockResult{Grants: []GrantedTo{g.granted()}}}
}

// SetLockValue changes what is shown with a grant: the value of an elected leader.
type SetLockValue struct {
	Session string `cbor:"1,keyasint"`
	Name    string `cbor:"2,keyasint"`
	Token   uint64 `cbor:"3,keyasint"`
	Value   string `cbor:"4,keyasint,omitempty"`
}

func (SetLockValue) kind() Kind { return kindSetLockValue }

func (c SetLockValue) apply(s *State) Result {
	if len(c.Value) > ValueBytesMax {
		return refuse(CodeInvalid, "value out of bounds")
	}
	g, ok := s.heldBy(c.Session, c.Name, c.Token)
	if !ok {
		return notHolder(c.Name)
	}
	if g.Value != c.Value {
		g.Value, g.Index = c.Value, s.nextRevision()
		s.putGrant(g)
	}
	return Result{Lock: &LockResult{Grants: []GrantedTo{g.granted()}}}
}

// HandOffLock frees a grant for a wait: the named session's, which may overtake those before it, or the first in line. A wait for several
// names is no successor: the others may be taken. A reentrant grant goes whole.
type HandOffLock struct {
	Session string `cbor:"1,keyasint"`
	Name    string `cbor:"2,keyasint"`
	Token   uint64 `cbor:"3,keyasint,omitempty"` // 0: the only grant of the session
	To      string `cbor:"4,keyasint,omitempty"`
}

func (HandOffLock) kind() Kind { return kindHandOffLock }

func (c HandOffLock) apply(s *State) Result {
	g, ok := c.grant(s)
	if !ok {
		return notHolder(c.Name)
	}
	t, ok := s.successor(g, c.To)
	if !ok {
		return refuse(CodeNoSuccessor, "nobody waits for this name alone who could have it")
	}
	names := s.free(g.Name, g.Token)
	t = s.grantTicket(t)
	s.settle(names, []party{t.Acquire.party()})
	return Result{Lock: &LockResult{Ticket: t.ID, Taken: []TakenFrom{{Session: t.Session(), Owner: t.Acquire.Owner, Token: t.Tokens[0]}}}}
}

func (c HandOffLock) grant(s *State) (found Grant, ok bool) {
	if c.Token != 0 {
		return s.heldBy(c.Session, c.Name, c.Token)
	}
	n := 0
	s.Grants(c.Name, func(g Grant) bool {
		if g.Session == c.Session {
			found, n = g, n+1
		}
		return n < 2
	})
	return found, n == 1
}

// successor finds the first wait that can have the name when g is gone.
func (s *State) successor(g Grant, session string) (found Ticket, ok bool) {
	u := s.uses[g.Name]
	s.Queue(g.Name, func(t Ticket) bool {
		if session != "" && t.Session() != session {
			return true
		}
		w := t.Acquire.Wants[0]
		room := u.holders == 1 || u.mode == w.Mode && (w.Mode == Shared || w.Mode == Permits && u.permits-g.Permits+w.Permits <= w.Limit)
		if len(t.Acquire.Wants) == 1 && room && !s.delays.has(g.Name) {
			found, ok = t, true
		}
		return !ok && session != ""
	})
	return found, ok
}
