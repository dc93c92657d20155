package fsm

// Session is a lease: the liveness of an instance or of a bare client. Locks belong to sessions.
//
// Keepalives stay in the leader's memory. The log knows a session's deadline as of its last logged renewal, which is the first one of
// each term; see TermStart and package replica.
type Session struct {
	ID          string `cbor:"1,keyasint"`
	Name        string `cbor:"2,keyasint,omitempty"`
	TTLMs       uint64 `cbor:"3,keyasint"`
	Generation  uint64 `cbor:"4,keyasint"` // +1 per logged renewal; an expiry names the one that it saw
	RenewedTerm uint64 `cbor:"5,keyasint"`
	Deadline    uint64 `cbor:"6,keyasint"` // cluster time, as of the last logged renewal
	Instance    string `cbor:"7,keyasint,omitempty"`
	Index       uint64 `cbor:"8,keyasint"`
}

// SessionResult answers the session commands.
type SessionResult struct {
	ID         string   `cbor:"1,keyasint,omitempty" json:",omitempty"`
	TTLMs      uint64   `cbor:"2,keyasint,omitempty" json:",omitempty"`
	Generation uint64   `cbor:"3,keyasint,omitempty" json:",omitempty"`
	Deadline   uint64   `cbor:"4,keyasint,omitempty" json:",omitempty"`
	Gone       []string `cbor:"5,keyasint,omitempty" json:",omitempty"` // of RenewSessions: ids that do not exist
}

// OpenSession creates a session under an id that the edge drew at random.
type OpenSession struct {
	ID    string `cbor:"1,keyasint"`
	Name  string `cbor:"2,keyasint,omitempty"`
	TTLMs uint64 `cbor:"3,keyasint"`
}

func (OpenSession) kind() Kind { return kindOpenSession }

func (c OpenSession) apply(s *State) Result {
	if c.ID == "" || len(c.ID) > IDBytesMax || len(c.Name) > NameBytesMax || c.TTLMs < SessionTTLMinMs || c.TTLMs > SessionTTLMaxMs {
		return refuse(CodeInvalid, "session id, name or TTL out of bounds")
	}
	return s.openSession(c.ID, c.Name, c.TTLMs, "")
}

func (s *State) openSession(id, name string, ttlMs uint64, instance string) Result {
	if s.sessions.has(id) {
		return refuse(CodeSessionExists, "a session with this id exists")
	}
	if s.sessions.len() >= SessionsMax {
		return refuse(CodeSessionsFull, "the cluster holds as many sessions as it may")
	}
	v := Session{ID: id, Name: name, TTLMs: ttlMs, Generation: 1, RenewedTerm: s.counters.Term,
		Deadline: s.counters.Now + ttlMs, Instance: instance, Index: s.nextRevision()}
	s.sessions.set(id, v)
	return Result{Session: &SessionResult{ID: id, TTLMs: ttlMs, Generation: 1, Deadline: v.Deadline}}
}

// RenewSessions logs the first keepalives of a term.
type RenewSessions struct {
	IDs []string `cbor:"1,keyasint"`
}

func (RenewSessions) kind() Kind { return kindRenewSessions }

func (c RenewSessions) apply(s *State) Result {
	r := SessionResult{}
	for _, id := range c.IDs {
		v, ok := s.sessions.get(id)
		if !ok {
			r.Gone = append(r.Gone, id)
			continue
		}
		v.Generation++
		v.RenewedTerm = s.counters.Term
		v.Deadline = s.counters.Now + v.TTLMs
		v.Index = s.nextRevision()
		s.sessions.set(id, v)
	}
	return Result{Session: &r}
}

func (s *State) extendSessions() {
	var renewed []Session
	s.sessions.ascend("", func(_ string, v Session) bool {
		if v.RenewedTerm == s.counters.Term {
			renewed = append(renewed, v)
		}
		return true
	})
	for _, v := range renewed {
		v.Deadline = max(v.Deadline, s.counters.Now+v.TTLMs)
		v.Index = s.nextRevision()
		s.sessions.set(v.ID, v)
	}
}

// CloseSession ends a session at its owner's wish and releases everything it holds, in this entry.
type CloseSession struct {
	ID string `cbor:"1,keyasint"`
}

func (CloseSession) kind() Kind { return kindCloseSession }

func (c CloseSession) apply(s *State) Result {
	if !s.sessions.has(c.ID) {
		return refuse(CodeSessionNotFound, "no such session: it expired or was closed")
	}
	s.endSession(c.ID, sessionClosed)
	return Result{Session: &SessionResult{ID: c.ID}}
}

// ExpireSession ends a session whose deadline has passed in the leader's memory. It is refused if a later leader's term has begun or a
// renewal was logged after the leader looked: then somebody was told that the session lives.
type ExpireSession struct {
	ID         string `cbor:"1,keyasint"`
	Generation uint64 `cbor:"2,keyasint"`
}

func (ExpireSession) kind() Kind { return kindExpireSession }

func (c ExpireSession) apply(s *State) Result {
	v, ok := s.sessions.get(c.ID)
	switch {
	case !ok:
		return refuse(CodeSessionNotFound, "no such session: it expired or was closed")
	case s.entryTerm != s.counters.Term:
		return refuse(CodeStaleTerm, "proposed by a leader of another term")
	case v.Generation != c.Generation:
		return refuse(CodeStaleGeneration, "renewed since")
	}
	s.endSession(c.ID, sessionExpired)
	return Result{Session: &SessionResult{ID: c.ID}}
}

type sessionEnd uint8

const (
	sessionClosed sessionEnd = iota + 1
	sessionExpired
	sessionSuperseded // another incarnation took the instance's name
	sessionForced     // its drain passed its deadline
)

// endSession removes the session, its waits and its locks; each lock goes to its next waiter at once.
func (s *State) endSession(id string, how sessionEnd) {
	v, _ := s.sessions.get(id)
	s.sessions.delete(id)
	var names []string
	for _, p := range s.waits.all(id) {
		t, _ := s.tickets.get(p.num)
		names = append(names, s.endTicket(t, TicketSessionGone)...)
	}
	held := s.holdings.all(id)
	for _, p := range held {
		if g, there := s.Grant(p.name, p.num); there && how != sessionClosed {
			s.delay(g)
		}
		names = append(names, s.free(p.name, p.num)...)
	}
	s.serve(names...)
	if v.Instance != "" {
		s.instanceSessionEnded(v.Instance, how, len(held))
	}
}

// Session gives a session by id.
func (s *State) Session(id string) (Session, bool) { return s.sessions.get(id) }

// Sessions visits the sessions in the order of their ids, from the given one.
func (s *State) Sessions(from string, visit func(Session) bool) {
	s.sessions.ascend(from, func(_ string, v Session) bool { return visit(v) })
}
