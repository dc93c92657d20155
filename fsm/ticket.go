package fsm

// TicketState tells how a wait stands.
type TicketState uint8

const (
	TicketWaiting     TicketState = iota + 1
	TicketGranted                 // the locks are held; see Ticket.Claimed
	TicketTimedOut                // waited in vain
	TicketCancelled               // withdrawn
	TicketSessionGone             // its session ended while it waited
	TicketUnclaimed               // granted, but nobody came for the grant
	TicketReleased                // granted, and the locks have been given back or lost since
)

// Ticket is one wait, for one name or for several at once. It stands in the log, so a dropped connection or a new leader does not cost the
// place in the queue. A ticket that ended or was claimed is kept a while: a retry of the acquire is answered from it.
type Ticket struct {
	ID      uint64      `cbor:"1,keyasint"`
	Acquire AcquireLock `cbor:"2,keyasint"` // what was asked for; its waits are over when the ticket is
	State   TicketState `cbor:"3,keyasint"`
	Until   uint64      `cbor:"4,keyasint"` // cluster time: end of the wait, of the claim, or of keeping, by state
	Tokens  []uint64    `cbor:"5,keyasint,omitempty"`
	Claimed bool        `cbor:"6,keyasint,omitempty"`
	Index   uint64      `cbor:"7,keyasint"`
}

// Session is whose wait it is.
func (t Ticket) Session() string { return t.Acquire.Session }

func (s *State) enqueue(c AcquireLock) Result {
	if s.tickets.len() >= TicketsMax {
		return refuse(CodeTicketsFull, "the cluster keeps as many waits as it may")
	}
	if c.Reentrant && s.reentering.count(c.party().group()) >= ReentrantWaitsMax {
		return refuse(CodeTicketsFull, "this owner waits reentrantly as often as it may")
	}
	if c.ClaimMs == 0 {
		c.ClaimMs = ClaimDefaultMs
	}
	t := Ticket{ID: s.nextToken(), Acquire: c, State: TicketWaiting, Until: s.counters.Now + c.WaitMs, Index: s.nextRevision()}
	s.tickets.set(t.ID, t)
	s.indexTicket(t)
	r := &LockResult{Ticket: t.ID, State: TicketWaiting}
	for _, w := range c.Wants {
		r.Position = max(r.Position, s.queues.count(w.Name))
	}
	return Result{Lock: r}
}

func (s *State) indexTicket(t Ticket) {
	s.setTimer(t.timer())
	if t.State != TicketWaiting {
		return
	}
	s.waits.add(pair{group: t.Session(), num: t.ID})
	s.asking.add(pair{group: t.Acquire.party().group(), num: t.ID})
	if t.Acquire.Reentrant {
		s.reentering.add(pair{group: t.Acquire.party().group(), num: t.ID})
	}
	for _, w := range t.Acquire.Wants {
		s.queues.add(pair{group: w.Name, num: t.ID})
		s.setUse(w.Name, s.limited(s.uses[w.Name], w.Limit, 1))
	}
}

func (s *State) unindexTicket(t Ticket) {
	s.dropTimer(t.timer())
	if t.State != TicketWaiting {
		return
	}
	s.waits.remove(pair{group: t.Session(), num: t.ID})
	s.asking.remove(pair{group: t.Acquire.party().group(), num: t.ID})
	s.reentering.remove(pair{group: t.Acquire.party().group(), num: t.ID})
	for _, w := range t.Acquire.Wants {
		s.queues.remove(pair{group: w.Name, num: t.ID})
		s.setUse(w.Name, s.limited(s.uses[w.Name], w.Limit, -1))
	}
}

func (t Ticket) timer() timer {
	what := timerKept
	if t.State == TicketWaiting || t.State == TicketGranted && !t.Claimed {
		what = timerTicket
	}
	return timer{due: t.Until, what: what, id: t.ID}
}

// moveTicket stores a ticket in another state. Until is the deadline that the new state has.
func (s *State) moveTicket(t Ticket, to TicketState, until uint64) {
	old, _ := s.tickets.get(t.ID)
	s.unindexTicket(old)
	t.State, t.Until, t.Index = to, until, s.nextRevision()
	s.tickets.set(t.ID, t)
	s.indexTicket(t)
}

// endTicket ends a wait or a grant that nobody claimed. What it stood in the way of can go now: the names that it answers are to be served.
func (s *State) endTicket(t Ticket, as TicketState) (names []string) {
	waiting := t.State == TicketWaiting
	s.moveTicket(t, as, s.counters.Now+ticketKeepMs)
	for i, w := range t.Acquire.Wants {
		names = append(names, w.Name)
		if waiting {
			continue
		}
		s.giveBack(w.Name, t.Tokens[i])
	}
	return names
}

// serve grants what can be granted after something changed about the names.
func (s *State) serve(names ...string) { s.settle(names, nil) }

// settle grants waits until none can be. Candidates are the heads of the queues of names, and the reentrant waits of parties, which count
// up what their owner has come to hold wherever they stand. What is granted makes new candidates.
func (s *State) settle(names []string, parties []party) {
	for len(names)+len(parties) > 0 {
		var candidates []pair
		if n := len(parties); n > 0 {
			candidates, parties = s.reentering.all(parties[n-1].group()), parties[:n-1]
		} else {
			if head, waiting := s.queues.first(names[0]); waiting {
				candidates = append(candidates, head)
			}
			names = names[1:]
		}
		for _, c := range candidates {
			t, _ := s.tickets.get(c.num)
			if t.State != TicketWaiting || !s.grantable(t) {
				continue
			}
			t = s.grantTicket(t)
			for _, w := range t.Acquire.Wants {
				names = append(names, w.Name)
			}
			if t.Acquire.Reentrant {
				parties = append(parties, t.Acquire.party())
			}
		}
	}
}

func (s *State) grantTicket(t Ticket) Ticket {
	t.Tokens = make([]uint64, 0, len(t.Acquire.Wants))
	for _, w := range t.Acquire.Wants {
		t.Tokens = append(t.Tokens, s.grant(t.Acquire, w, t.ID).Token)
	}
	s.moveTicket(t, TicketGranted, s.counters.Now+t.Acquire.ClaimMs)
	return t
}

// grantable tells whether each name of a wait is its turn and fits, or counts up what its owner has.

func (s *State) grantable(t Ticket) bool {
	for _, w := range t.Acquire.Wants {
		if s.counts(t.Acquire.party(), w, t.Acquire.Reentrant) {
			continue
		}
		if s.countsOther(t.Acquire.party(), w, t.Acquire.Reentrant) {
			return false
		}
		if first, _ := s.queues.first(w.Name); first.num != t.ID || !s.fits(w) {
			return false
		}
	}
	return true
}

// ticketDue is called when a ticket's deadline has passed.
func (s *State) ticketDue(id, due uint64) {
	t, ok := s.tickets.get(id)
	if !ok || t.Until != due {
		return
	}
	switch {
	case t.State == TicketWaiting:
		s.serve(s.endTicket(t, TicketTimedOut)...)
	case t.State == TicketGranted && !t.Claimed:
		s.serve(s.endTicket(t, TicketUnclaimed)...)
	default:
		s.tickets.delete(id)
	}
}

// CancelTicket withdraws a wait. A grant that nobody has claimed yet is given back; a claimed one must be released. A reason makes it an
// operator's act.
type CancelTicket struct {
	ID     uint64 `cbor:"1,keyasint"`
	Reason string `cbor:"2,keyasint,omitempty"`
	WallMs uint64 `cbor:"3,keyasint,omitempty"`
}

func (CancelTicket) kind() Kind { return kindCancelTicket }

func (c CancelTicket) apply(s *State) Result {
	if len(c.Reason) > ReasonBytesMax {
		return refuse(CodeInvalid, "reason out of bounds")
	}
	t, ok := s.tickets.get(c.ID)
	if !ok {
		return refuse(CodeTicketNotFound, "no such ticket: it ended long ago or never was")
	}
	if t.State != TicketWaiting && (t.State != TicketGranted || t.Claimed) {
		r := refuse(CodeTicketEnded, "the wait is over")
		r.Lock = &LockResult{Ticket: t.ID, State: t.State}
		return r
	}
	names := s.endTicket(t, TicketCancelled)
	if c.Reason != "" {
		s.audit(Act{WallMs: c.WallMs, Action: "locks.cancel", Subject: t.Acquire.Wants[0].Name, Reason: c.Reason, Details: []string{ticketDetail(t)}})
	}
	s.serve(names...)
	return Result{Lock: &LockResult{Ticket: t.ID, State: TicketCancelled}}
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
		r.Lock = &LockResult{Ticket: t.ID, State: t.State}
		return r
	}
	if !t.Claimed {
		t.Claimed = true
		s.moveTicket(t, TicketGranted, s.counters.Now+ticketKeepMs)
	}
	return Result{Lock: &LockResult{Ticket: t.ID, State: TicketGranted, Grants: s.grantedTo(t)}}
}

// grantedTo lists what a ticket was granted and is held still.
func (s *State) grantedTo(t Ticket) []GrantedTo {
	var out []GrantedTo
	for i, w := range t.Acquire.Wants {
		if g, ok := s.grants.get(grantKey(w.Name, t.Tokens[i])); ok {
			out = append(out, g.granted())
		}
	}
	return out
}

// Ticket gives a wait by id.
func (s *State) Ticket(id uint64) (Ticket, bool) { return s.tickets.get(id) }

// Granted lists what a granted ticket holds.
func (s *State) Granted(t Ticket) []GrantedTo {
	if t.State != TicketGranted {
		return nil
	}
	return s.grantedTo(t)
}

// Queue visits the waits for a name, first in line first.
func (s *State) Queue(name string, visit func(Ticket) bool) {
	s.queues.each(name, func(p pair) bool {
		t, _ := s.tickets.get(p.num)
		return visit(t)
	})
}

// Waiting counts the waits for a name. Constant time.
func (s *State) Waiting(name string) int { return s.queues.count(name) }

// WaitsOf counts the waits of a session. Constant time.
func (s *State) WaitsOf(session string) int { return s.waits.count(session) }

// Position is the place of a waiting ticket in the longest of its queues, from 1; 0 when it does not wait.
func (s *State) Position(id uint64) int {
	t, ok := s.tickets.get(id)
	if !ok || t.State != TicketWaiting {
		return 0
	}
	place := 0
	for _, w := range t.Acquire.Wants {
		n := 0
		s.queues.each(w.Name, func(p pair) bool { n++; return p.num != id })
		place = max(place, n)
	}
	return place
}
