package fsm

import "strings"

// AcquireLock takes the wanted names, all or none, or queues for them when WaitMs is not 0. ClaimMs bounds how long a grant to a wait may
// stay unclaimed.
type AcquireLock struct {
	Session   string     `cbor:"1,keyasint"`
	Wants     []LockWant `cbor:"2,keyasint"`
	WaitMs    uint64     `cbor:"3,keyasint,omitempty"`
	ClaimMs   uint64     `cbor:"4,keyasint,omitempty"`
	Owner     string     `cbor:"5,keyasint,omitempty"`
	Reentrant bool       `cbor:"6,keyasint,omitempty"`
	DelayMs   uint64     `cbor:"7,keyasint,omitempty"`
	Value     string     `cbor:"8,keyasint,omitempty"`
}

func (AcquireLock) kind() Kind { return kindAcquireLock }

func (c AcquireLock) party() party { return party{c.Session, c.Owner} }

func (c AcquireLock) apply(s *State) Result {
	if refused := c.check(s); refused.Refused() {
		return refused
	}
	var blocked []string // names that it would have to wait for
	for _, w := range c.Wants {
		if s.counts(c.party(), w, c.Reentrant) {
			continue
		}
		if s.countsOther(c.party(), w, c.Reentrant) || !s.fits(w) || s.queues.count(w.Name) > 0 {
			blocked = append(blocked, w.Name)
		}
	}
	switch {
	case len(blocked) == 0:
		return s.grantAll(c)
	case c.WaitMs == 0:
		return s.lockHeld("the lock is held, or others wait for it", blocked)
	}
	for _, name := range blocked {
		// To wait for a name, or behind somebody who waits for it, is to wait for oneself when one holds it.
		if s.owns[partyOfLock{name, c.party()}].grants > 0 {
			return s.lockHeld("this owner holds the lock itself and would wait for itself", blocked)
		}
	}
	return s.enqueue(c)
}

// check refuses what no state would allow, and limits that are not those in force.
func (c AcquireLock) check(s *State) Result {
	if len(c.Wants) == 0 || len(c.Wants) > WantsMax || c.WaitMs > WaitMaxMs || c.ClaimMs > WaitMaxMs || c.DelayMs > LockDelayMaxMs ||
		len(c.Owner) > NameBytesMax || strings.Contains(c.Owner, "\x00") || len(c.Value) > ValueBytesMax {
		return refuse(CodeInvalid, "number of names, wait, delay, owner or value out of bounds")
	}
	for i, w := range c.Wants {
		if !w.valid() || strings.Contains(w.Name, "\x00") {
			return refuse(CodeInvalid, "a name, mode, number of permits or limit out of bounds")
		}
		for _, other := range c.Wants[:i] {
			if other.Name == w.Name {
				return refuse(CodeInvalid, "the same name twice")
			}
		}
	}
	if !s.sessions.has(c.Session) {
		return refuse(CodeSessionNotFound, "no such session: it expired or was closed")
	}
	for _, w := range c.Wants {
		if limit := s.uses[w.Name].limit; w.Mode == Permits && limit != 0 && limit != w.Limit {
			r := refuse(CodeLimitMismatch, "the semaphore is in use with another limit")
			r.Lock = &LockResult{Names: []string{w.Name}, Limit: limit}
			return r
		}
		if s.counts(c.party(), w, c.Reentrant) && s.reentry(c.party(), w).Count >= ReentrancyMax {
			return refuse(CodeReentrancyLimit, "the owner holds the lock as often as it may")
		}
	}
	return Result{}
}

func (s *State) lockHeld(detail string, names []string) Result {
	if s.delays.has(names[0]) {
		detail = "its last holder was lost a moment ago: nobody gets the lock before its delay is over"
	}
	r := refuse(CodeLockHeld, detail)
	r.Lock = &LockResult{Names: names}
	s.Grants(names[0], func(g Grant) bool {
		r.Lock.Holder, r.Lock.Token = g.Session, g.Token
		return false
	})
	return r
}

// grantAll is called when all wants can be had.
func (s *State) grantAll(c AcquireLock) Result {
	if s.grants.len()+len(c.Wants) > LocksMax {
		return refuse(CodeLocksFull, "the cluster holds as many locks as it may")
	}
	out := granting(len(c.Wants))
	for _, w := range c.Wants {
		out.Grants = append(out.Grants, s.grant(c, w, 0))
	}
	if c.Reentrant {
		s.settle(nil, []party{c.party()})
	}
	return Result{Lock: out}
}

func (s *State) reentry(p party, w LockWant) Grant {
	g, _ := s.grants.get(grantKey(w.Name, s.owns[partyOfLock{w.Name, p}].reentrant))
	return g
}

// grant gives one name, or counts up what its reentrant owner has.
func (s *State) grant(c AcquireLock, w LockWant, ticket uint64) GrantedTo {
	if s.counts(c.party(), w, c.Reentrant) {
		g := s.reentry(c.party(), w)
		g.Count, g.Index = g.Count+1, s.nextRevision()
		s.putGrant(g)
		return g.granted()
	}
	g := Grant{Name: w.Name, Session: c.Session, Owner: c.Owner, Mode: w.Mode, Permits: w.Permits, Limit: w.Limit, Token: s.nextToken(),
		GrantedAt: s.counters.Now, Ticket: ticket, DelayMs: c.DelayMs, Value: c.Value, Index: s.nextRevision()}
	if c.Reentrant {
		g.Count = 1
	}
	s.putGrant(g)
	return g.granted()
}
