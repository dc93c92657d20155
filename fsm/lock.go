package fsm

// Lock is a held lock; a free lock has no row. The token is its fencing token: it rises with each grant of any lock.
type Lock struct {
	Name      string `cbor:"1,keyasint"`
	Session   string `cbor:"2,keyasint"`
	Token     uint64 `cbor:"3,keyasint"`
	GrantedAt uint64 `cbor:"4,keyasint"`           // cluster time
	Ticket    uint64 `cbor:"5,keyasint,omitempty"` // the wait that it was granted to, 0 if there was none
	Index     uint64 `cbor:"6,keyasint"`
}

// TicketState tells how a wait stands.
type TicketState uint8

const (
	TicketWaiting     TicketState = iota + 1
	TicketGranted                 // the lock is held; see Ticket.Claimed
	TicketTimedOut                // waited in vain
	TicketCancelled               // withdrawn by its owner
	TicketSessionGone             // its session ended while it waited
	TicketUnclaimed               // granted, but nobody came for the grant
	TicketReleased                // granted, and the lock has been given back or lost since
)

// Ticket is one wait for one lock. It stands in the log, so a dropped connection or a new leader does not cost the place in the queue.
// An ended ticket is kept a while: a retry of the acquire is answered from it.
type Ticket struct {
	ID      uint64      `cbor:"1,keyasint"`
	Session string      `cbor:"2,keyasint"`
	Lock    string      `cbor:"3,keyasint"`
	State   TicketState `cbor:"4,keyasint"`
	Until   uint64      `cbor:"5,keyasint"` // cluster time: end of the wait, of the claim, or of keeping, by state; 0 when claimed
	ClaimMs uint64      `cbor:"6,keyasint"`
	Token   uint64      `cbor:"7,keyasint,omitempty"`
	Claimed bool        `cbor:"8,keyasint,omitempty"`
	Index   uint64      `cbor:"9,keyasint"`
}

// LockResult answers the lock commands.
type LockResult struct {
	Name     string      `cbor:"1,keyasint,omitempty" json:",omitempty"`
	Token    uint64      `cbor:"2,keyasint,omitempty" json:",omitempty"` // of the grant
	Ticket   uint64      `cbor:"3,keyasint,omitempty" json:",omitempty"` // of the wait
	State    TicketState `cbor:"4,keyasint,omitempty" json:",omitempty"`
	Position int         `cbor:"5,keyasint,omitempty" json:",omitempty"` // in the queue, from 1
	Holder   string      `cbor:"6,keyasint,omitempty" json:",omitempty"` // session that holds it now, when refused
}

// AcquireLock takes an exclusive lock, or queues for it when WaitMs is not 0. ClaimMs bounds how long a grant to a wait may stay unclaimed.
type AcquireLock struct {
	Session string `cbor:"1,keyasint"`
	Name    string `cbor:"2,keyasint"`
	WaitMs  uint64 `cbor:"3,keyasint,omitempty"`
	ClaimMs uint64 `cbor:"4,keyasint,omitempty"`
}

func (AcquireLock) kind() Kind { return kindAcquireLock }

func (c AcquireLock) apply(s *State) Result {
	if c.Name == "" || len(c.Name) > NameBytesMax || c.WaitMs > WaitMaxMs || c.ClaimMs > WaitMaxMs {
		return refuse(CodeInvalid, "lock name or wait out of bounds")
	}
	if !s.sessions.has(c.Session) {
		return refuse(CodeSessionNotFound, "no such session: it expired or was closed")
	}
	held, taken := s.locks.get(c.Name)
	if !taken {
		if s.locks.len() >= LocksMax {
			return refuse(CodeLocksFull, "the cluster holds as many locks as it may")
		}
		return s.grant(c.Name, c.Session, 0)
	}
	if c.WaitMs == 0 || held.Session == c.Session {
		r := refuse(CodeLockHeld, "the lock is held")
		r.Lock = &LockResult{Name: c.Name, Token: held.Token, Holder: held.Session}
		return r
	}
	return s.enqueue(c)
}

func (s *State) grant(name, session string, ticket uint64) Result {
	l := Lock{Name: name, Session: session, Token: s.nextToken(), GrantedAt: s.counters.Now, Ticket: ticket, Index: s.nextRevision()}
	s.locks.set(name, l)
	s.holdings.add(pair{group: session, num: l.Token, name: name})
	return Result{Lock: &LockResult{Name: name, Token: l.Token}}
}

func (s *State) enqueue(c AcquireLock) Result {
	if s.tickets.len() >= TicketsMax {
		return refuse(CodeTicketsFull, "the cluster keeps as many waits as it may")
	}
	t := Ticket{ID: s.nextToken(), Session: c.Session, Lock: c.Name, State: TicketWaiting, Until: s.counters.Now + c.WaitMs,
		ClaimMs: c.ClaimMs, Index: s.nextRevision()}
	if t.ClaimMs == 0 {
		t.ClaimMs = ClaimDefaultMs
	}
	s.tickets.set(t.ID, t)
	s.indexTicket(t)
	return Result{Lock: &LockResult{Name: c.Name, Ticket: t.ID, State: TicketWaiting, Position: s.queues.count(c.Name)}}
}

func (s *State) indexTicket(t Ticket) {
	if t.State == TicketWaiting {
		s.queues.add(pair{group: t.Lock, num: t.ID})
		s.waits.add(pair{group: t.Session, num: t.ID})
	}
	if t.Until != 0 {
		s.setTimer(t.timer())
	}
}

func (t Ticket) timer() timer {
	what := timerKept
	if t.State == TicketWaiting || t.State == TicketGranted {
		what = timerTicket
	}
	return timer{due: t.Until, what: what, id: t.ID}
}

// moveTicket stores a ticket in another state. Until is the deadline that the new state has, 0 for none.
func (s *State) moveTicket(t Ticket, to TicketState, until uint64) {
	s.dropTimer(t.timer())
	if t.State == TicketWaiting {
		s.queues.remove(pair{group: t.Lock, num: t.ID})
		s.waits.remove(pair{group: t.Session, num: t.ID})
	}
	t.State, t.Until, t.Index = to, until, s.nextRevision()
	s.tickets.set(t.ID, t)
	s.indexTicket(t)
}

func (s *State) endTicket(id uint64, as TicketState) {
	if t, ok := s.tickets.get(id); ok {
		s.moveTicket(t, as, s.counters.Now+ticketKeepMs)
	}
}

// freeLock takes the lock from its holder and gives it to the first wait, or removes the row.
func (s *State) freeLock(name string) {
	l, _ := s.locks.get(name)
	s.holdings.remove(pair{group: l.Session, num: l.Token, name: name})
	if l.Ticket != 0 {
		if t, ok := s.tickets.get(l.Ticket); ok && t.State == TicketGranted {
			s.endTicket(l.Ticket, TicketReleased)
		}
	}
	next, waiting := s.queues.first(name)
	if !waiting {
		s.locks.delete(name)
		return
	}
	t, _ := s.tickets.get(next.num)
	t.Token = s.grant(name, t.Session, t.ID).Lock.Token
	s.moveTicket(t, TicketGranted, s.counters.Now+t.ClaimMs)
}

// ticketDue is called when a ticket's deadline has passed.
func (s *State) ticketDue(id, due uint64) {
	t, ok := s.tickets.get(id)
	if !ok || t.Until != due {
		return
	}
	switch t.State {
	case TicketWaiting:
		s.endTicket(id, TicketTimedOut)
	case TicketGranted:
		s.endTicket(id, TicketUnclaimed)
		s.freeLock(t.Lock)
	default:
		s.tickets.delete(id)
	}
}

// ReleaseLock gives a lock back. The token proves that the caller means the grant that it has.
type ReleaseLock struct {
	Session string `cbor:"1,keyasint"`
	Name    string `cbor:"2,keyasint"`
	Token   uint64 `cbor:"3,keyasint"`
}

func (ReleaseLock) kind() Kind { return kindReleaseLock }

func (c ReleaseLock) apply(s *State) Result {
	l, ok := s.locks.get(c.Name)
	if !ok || l.Session != c.Session || l.Token != c.Token {
		return refuse(CodeNotHolder, "this session does not hold the lock with this token")
	}
	s.freeLock(c.Name)
	return Result{Lock: &LockResult{Name: c.Name, Token: c.Token}}
}

// CancelTicket withdraws a wait. A grant that nobody has claimed yet is given back; a claimed one must be released.
type CancelTicket struct {
	ID uint64 `cbor:"1,keyasint"`
}

func (CancelTicket) kind() Kind { return kindCancelTicket }

func (c CancelTicket) apply(s *State) Result {
	t, ok := s.tickets.get(c.ID)
	if !ok {
		return refuse(CodeTicketNotFound, "no such ticket: it ended long ago or never was")
	}
	switch {
	case t.State == TicketWaiting:
		s.endTicket(t.ID, TicketCancelled)
	case t.State == TicketGranted && !t.Claimed:
		s.endTicket(t.ID, TicketCancelled)
		s.freeLock(t.Lock)
	default:
		r := refuse(CodeTicketEnded, "the wait is over")
		r.Lock = &LockResult{Name: t.Lock, Ticket: t.ID, State: t.State, Token: t.Token}
		return r
	}
	return Result{Lock: &LockResult{Name: t.Lock, Ticket: t.ID, State: TicketCancelled}}
}

// ClaimTicket records that the owner of a wait is being told of its grant, which therefore no longer lapses. It is logged before the owner is
// told: a grant that somebody was told of must not lapse because the leader that told him is gone.
type ClaimTicket struct {
	ID uint64 `cbor:"1,keyasint"`
}

func (ClaimTicket) kind() Kind { return kindClaimTicket }

func (c ClaimTicket) apply(s *State) Result {
	t, ok := s.tickets.get(c.ID)
	if !ok {
		return refuse(CodeTicketNotFound, "no such ticket: it ended long ago or never was")
	}
	if t.State != TicketGranted {
		r := refuse(CodeTicketEnded, "the wait is over")
		r.Lock = &LockResult{Name: t.Lock, Ticket: t.ID, State: t.State}
		return r
	}
	if !t.Claimed {
		t.Claimed = true
		s.moveTicket(t, TicketGranted, 0)
	}
	return Result{Lock: &LockResult{Name: t.Lock, Ticket: t.ID, State: TicketGranted, Token: t.Token}}
}

// Lock gives the held lock of a name.
func (s *State) Lock(name string) (Lock, bool) { return s.locks.get(name) }

// Locks visits the held locks in the order of their names, from the given one.
func (s *State) Locks(from string, visit func(Lock) bool) {
	s.locks.ascend(from, func(_ string, l Lock) bool { return visit(l) })
}

// Ticket gives a wait by id.
func (s *State) Ticket(id uint64) (Ticket, bool) { return s.tickets.get(id) }

// Queue visits the waits for a lock, first in line first.
func (s *State) Queue(name string, visit func(Ticket) bool) {
	s.queues.each(name, func(p pair) bool {
		t, _ := s.tickets.get(p.num)
		return visit(t)
	})
}

// Position is the place of a waiting ticket in its queue, from 1; 0 when it does not wait.
func (s *State) Position(id uint64) int {
	t, ok := s.tickets.get(id)
	if !ok || t.State != TicketWaiting {
		return 0
	}
	n := 0
	s.queues.each(t.Lock, func(p pair) bool { n++; return p.num != id })
	return n
}
