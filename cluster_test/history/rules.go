package history

import "slices"

// rules apply the operations of one part of a history.
type rules struct {
	ops  map[int]*Op // by id
	slot map[int]int // place in state.tally, by id
}

func newRules(ops []*Op) *rules {
	r := &rules{ops: map[int]*Op{}, slot: map[int]int{}}
	for i, o := range ops {
		r.ops[o.ID], r.slot[o.ID] = o, i
	}
	return r
}

func (r *rules) begin() *state { return (&state{tally: make([]status, len(r.slot))}).seal() }

// step answers the state after an operation, nil when the operation could not have had its outcome in this state.
func (r *rules) step(before *state, o *Op) *state {
	s := before.clone()
	if !r.apply(s, o) {
		return nil
	}
	return s.seal()
}

// apply changes the state. Where the outcome is unknown it does what the table would do, or nothing where that would refuse.
func (r *rules) apply(s *state, o *Op) bool {
	switch o.Kind {
	case Acquire:
		return r.acquire(s, o)
	case Attach:
		return r.attach(s, o)
	case Release:
		return r.release(s, o)
	case Cancel:
		return r.cancel(s, o)
	case Downgrade:
		return r.downgrade(s, o)
	case HandOff:
		return r.handOff(s, o)
	case Validate:
		return r.validate(s, o)
	case Look:
		return r.look(s, o)
	case Finish, Expire, Renew:
		return r.session(s, o)
	case TimeOut:
		if s.tally[r.slot[o.Of]] == waiting {
			s.tally[r.slot[o.Of]] = timedOut
			s.unqueue(r.ops[o.Of])
			return r.serve(s)
		}
	case Lapse:
		if s.tally[r.slot[o.Of]] == unclaimed {
			return r.giveUp(s, o.Of, lapsed)
		}
	}
	return true
}

func (r *rules) acquire(s *state, o *Op) bool {
	if !s.has(o.Session) {
		return o.Outcome == Gone || o.Outcome == Unknown && !o.proven
	}
	var blocked []string
	for _, w := range o.Wants {
		if s.reentry(o, w) < 0 && (!s.fits(w, -1) || s.queued(w.Name)) {
			blocked = append(blocked, w.Name)
		}
	}
	own := slices.ContainsFunc(s.grants, func(g grant) bool {
		return g.session == o.Session && g.owner == o.Owner && slices.Contains(blocked, g.want.Name)
	})
	switch {
	case len(blocked) == 0:
		return (o.Outcome == Granted || o.Outcome == Unknown) && s.give(o, r.slot[o.ID], claimed, s.top) && r.counted(s, o)
	case o.Wait == 0 || own:
		return o.Outcome == Held || o.Outcome == Unknown && !o.proven
	case o.Outcome != Queued && o.Outcome != Unknown:
		return false
	}
	s.queue = append(s.queue, o)
	s.tally[r.slot[o.ID]] = waiting
	return true
}

// counted holds the counts of a reentrant grant to what its owner was told.
func (r *rules) counted(s *state, o *Op) bool {
	for _, told := range o.Got {
		at := s.find(o.Session, told.Name, told.Token)
		if at < 0 || max(told.Count, 1) != max(s.grants[at].count, 1) {
			return false
		}
	}
	return true
}

func (r *rules) attach(s *state, o *Op) bool {
	now := s.tally[r.slot[o.Of]]
	switch o.Outcome {
	case Granted:
		s.tally[r.slot[o.Of]] = claimed
		return now == unclaimed || now == claimed
	case Queued:
		return now == waiting
	case TimedOut:
		return now == timedOut
	case Gone:
		return now == sessionEnded
	case Ended:
		return now == cancelled || now == lapsed || now == released
	}
	return o.Outcome == Unknown
}

func (r *rules) release(s *state, o *Op) bool {
	missing := slices.ContainsFunc(o.Grants, func(g Grant) bool { return s.find(o.Session, g.Name, g.Token) < 0 })
	switch {
	case missing:
		return refusedFor(s, o)
	case o.Outcome != Done && o.Outcome != Unknown:
		return false
	}
	for _, g := range o.Grants {
		if at := s.find(o.Session, g.Name, g.Token); s.grants[at].count > 1 {
			s.grants[at].count--
		} else {
			s.free(at)
		}
	}
	return r.serve(s)
}

// refusedFor tells whether an operation on a grant that is not there had one of the answers that it may have.
func refusedFor(s *state, o *Op) bool {
	return o.Outcome == NotHolder || o.Outcome == Unknown || o.Outcome == Gone && !s.has(o.Session)
}

// cancel may come too late for a grant that the model does not know to be told: the answer that told it was lost.
func (r *rules) cancel(s *state, o *Op) bool {
	now := s.tally[r.slot[o.Of]]
	can := now == waiting || now == unclaimed
	switch {
	case o.Outcome == Ended:
		return now != waiting && now != unasked
	case o.Outcome == Unknown && !can:
		return true
	case o.Outcome != Done && o.Outcome != Unknown || !can:
		return false
	case now == unclaimed:
		return r.giveUp(s, o.Of, cancelled)
	}
	s.tally[r.slot[o.Of]] = cancelled
	s.unqueue(r.ops[o.Of])
	return r.serve(s)
}

func (r *rules) downgrade(s *state, o *Op) bool {
	at := s.find(o.Session, o.Grants[0].Name, o.Grants[0].Token)
	switch {
	case at < 0:
		return refusedFor(s, o)
	case o.Outcome != Done && o.Outcome != Unknown:
		return false
	}
	s.grants[at].want.Mode = Shared
	return r.serve(s)
}

func (r *rules) handOff(s *state, o *Op) bool {
	name := o.Grants[0].Name
	at := s.find(o.Session, name, o.Grants[0].Token)
	if at < 0 {
		return refusedFor(s, o)
	}
	heir := r.successor(s, o, at)
	switch {
	case heir == nil:
		return o.Outcome == NoSuccessor || o.Outcome == Unknown
	case o.Outcome == Done && (o.Heir.Session != heir.Session || heir.Told != 0 && o.Told != heir.Told || heir.tokens[0] != 0 && o.Heir.Token != heir.tokens[0]):
		return false
	case o.Outcome != Done && o.Outcome != Unknown:
		return false
	}
	s.free(at)
	s.unqueue(heir)
	floor := s.top
	return s.give(heir, r.slot[heir.ID], unclaimed, floor) && r.serveAbove(s, floor)
}

// successor is the first in line, or the first wait of the named session for this name alone.
func (r *rules) successor(s *state, o *Op, at int) *Op {
	name := o.Grants[0].Name
	for _, w := range s.queue {
		if !slices.Contains(w.names(), name) || o.To != "" && w.Session != o.To {
			continue
		}
		if len(w.Wants) == 1 && s.fits(w.Wants[0], at) {
			return w
		}
		if o.To == "" {
			return nil
		}
	}
	return nil
}

func (r *rules) validate(s *state, o *Op) bool {
	if o.Outcome != Done {
		return o.Outcome == Unknown
	}
	at := slices.IndexFunc(s.grants, func(g grant) bool { return g.want.Name == o.Grants[0].Name && g.token == o.Grants[0].Token })
	if !o.Valid {
		return at < 0
	}
	return at >= 0 && (o.Heir.Session == "" || o.Heir.Session == s.grants[at].session)
}

func (r *rules) look(s *state, o *Op) bool {
	if o.Outcome != Done {
		return o.Outcome == Unknown
	}
	for _, g := range o.Grants {
		at := slices.IndexFunc(o.Sight, func(l Seen) bool { return l.Name == g.Name })
		shown := Seen{Name: g.Name}
		if at >= 0 {
			shown = o.Sight[at]
		}
		if !sameHolders(s, shown) || !sameQueue(s, shown) {
			return false
		}
	}
	return true
}

func sameHolders(s *state, shown Seen) bool {
	n := 0
	for _, g := range s.grants {
		if g.want.Name != shown.Name {
			continue
		}
		n++
		if !slices.ContainsFunc(shown.Holders, func(h Holder) bool {
			return h.Session == g.session && h.Owner == g.owner && (h.Token == g.token || g.token == 0) && h.Permits == g.want.Permits &&
				max(h.Count, 1) == max(g.count, 1)
		}) {
			return false
		}
	}
	return n == len(shown.Holders)
}

func sameQueue(s *state, shown Seen) bool {
	n := 0
	for _, o := range s.queue {
		if !slices.Contains(o.names(), shown.Name) {
			continue
		}
		if n >= len(shown.Queue) || shown.Queue[n].Session != o.Session || o.Told != 0 && shown.Queue[n].Ticket != o.Told {
			return false
		}
		n++
	}
	return n == len(shown.Queue)
}

// session ends a session, by its client or by itself. What it held goes to those that waited in the same step.
func (r *rules) session(s *state, o *Op) bool {
	there := s.has(o.Session)
	switch {
	case o.Kind == Renew || o.Kind == Finish && o.Outcome == Gone:
		return !there
	case o.Kind == Finish && o.Outcome == Done && !there:
		return false
	case !there:
		return true
	}
	at, _ := slices.BinarySearch(s.ended, o.Session)
	s.ended = slices.Insert(s.ended, at, o.Session)
	for _, w := range slices.Clone(s.queue) {
		if w.Session == o.Session {
			s.unqueue(w)
			s.tally[r.slot[w.ID]] = sessionEnded
		}
	}
	for i := len(s.grants) - 1; i >= 0; i-- {
		if s.grants[i].session == o.Session {
			s.free(i)
		}
	}
	return r.serve(s)
}

// giveUp takes back what an acquire was granted.
func (r *rules) giveUp(s *state, of int, as status) bool {
	for i := len(s.grants) - 1; i >= 0; i-- {
		if s.grants[i].of == r.slot[of] {
			s.free(i)
		}
	}
	s.tally[r.slot[of]] = as
	return r.serve(s)
}

// serve grants what can be granted: from the first to the last in line, each that fits and whose names nobody before it waits for.
func (r *rules) serve(s *state) bool { return r.serveAbove(s, s.top) }

func (r *rules) serveAbove(s *state, floor uint64) bool {
	awaited := map[string]bool{}
	for _, o := range slices.Clone(s.queue) {
		can := true
		for _, w := range o.Wants {
			can = can && (s.reentry(o, w) >= 0 || !awaited[w.Name] && s.fits(w, -1))
		}
		if !can {
			for _, w := range o.Wants {
				awaited[w.Name] = true
			}
			continue
		}
		s.unqueue(o)
		if !s.give(o, r.slot[o.ID], unclaimed, floor) {
			return false
		}
	}
	return true
}
