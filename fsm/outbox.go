package fsm

// Event says that the cache keys of one row may be stale. It carries the row's key and never its values: whoever delivers it reads the
// row after the token was given, and the cache takes only writes with a higher token than its last.
type Event struct {
	Mapping    string `cbor:"1,keyasint"`
	PK         string `cbor:"2,keyasint"` // canonical; see mapping.EncodePK
	Token      uint64 `cbor:"3,keyasint"` // newest
	EnqueuedAt uint64 `cbor:"4,keyasint"` // cluster time of the oldest of the events that were folded into this one
	Attempts   uint32 `cbor:"5,keyasint,omitempty"`
	NextAt     uint64 `cbor:"6,keyasint,omitempty"` // cluster time before which it is not tried again
	Failure    string `cbor:"7,keyasint,omitempty"` // class of the last failure
	Detail     string `cbor:"8,keyasint,omitempty"` // of the last failure, for a person
	Pass       uint64 `cbor:"9,keyasint,omitempty"` // the pass that asked for it, 0 for an application
	Index      uint64 `cbor:"10,keyasint"`
}

// DeadLetter is an event that is not retried by itself. Its cache key was removed before it was buried.
type DeadLetter struct {
	Mapping  string `cbor:"1,keyasint"`
	PK       string `cbor:"2,keyasint"`
	Token    uint64 `cbor:"3,keyasint"`
	Attempts uint32 `cbor:"4,keyasint"`
	Failure  string `cbor:"5,keyasint"`
	Detail   string `cbor:"6,keyasint,omitempty"`
	BuriedAt uint64 `cbor:"7,keyasint"` // cluster time
	Index    uint64 `cbor:"8,keyasint"`
}

// EventToken answers one enqueued event.
type EventToken struct {
	_         struct{} `cbor:",toarray"`
	Token     uint64
	Coalesced bool // folded into an event of the same row that was still pending
}

// OutboxResult answers the outbox commands.
type OutboxResult struct {
	Tokens  []EventToken `cbor:"1,keyasint,omitempty" json:",omitempty"` // EnqueueEvents, in the order of its events
	Settled uint64       `cbor:"2,keyasint,omitempty" json:",omitempty"` // rows that left the pending set, or were changed by a failure
}

// RowRef names a row of a mapping.
type RowRef struct {
	_       struct{} `cbor:",toarray"`
	Mapping string
	PK      string
}

func (r RowRef) key() string { return eventKey(r.Mapping, r.PK) }

func eventKey(mapping, pk string) string { return mapping + "\x00" + pk }

// dueIndex orders the pending events of a mapping by the time of their next attempt, then by key.
func dueIndex(key string, e Event) pair { return pair{group: e.Mapping, num: e.NextAt, name: key} }

// EnqueueEvents accepts events, all or none. Each gets a token of its own, in order; those of a row that is still pending are folded
// into one. A dead letter of the same row goes: the new event supersedes it.
type EnqueueEvents struct {
	Events []RowRef `cbor:"1,keyasint"`
	Pass   uint64   `cbor:"2,keyasint,omitempty"`
}

func (EnqueueEvents) kind() Kind { return kindEnqueueEvents }

func (c EnqueueEvents) apply(s *State) Result {
	if len(c.Events) == 0 || len(c.Events) > EventsBatchMax {
		return refuse(CodeInvalid, "between 1 and 1,000 events at a time")
	}
	for _, ref := range c.Events {
		if ref.PK == "" || len(ref.PK) > PKBytesMax {
			return refuse(CodeInvalid, "row key out of bounds")
		}
		if !s.mappings.has(ref.Mapping) {
			return refuse(CodeMappingNotFound, "no such mapping: "+ref.Mapping)
		}
	}
	if s.newRows(c.Events)+s.events.len() > PendingMax {
		return refuse(CodeOutboxFull, "as many events are pending as may be")
	}
	r := OutboxResult{Tokens: make([]EventToken, 0, len(c.Events))}
	for _, ref := range c.Events {
		r.Tokens = append(r.Tokens, s.enqueueEvent(ref, c.Pass))
	}
	return Result{Outbox: &r}
}

func (s *State) newRows(refs []RowRef) int {
	fresh := make(map[string]struct{}, len(refs)) // only its size is used
	for _, ref := range refs {
		if !s.events.has(ref.key()) {
			fresh[ref.key()] = struct{}{}
		}
	}
	return len(fresh)
}

func (s *State) enqueueEvent(ref RowRef, pass uint64) EventToken {
	key := ref.key()
	if s.dead.has(key) {
		s.dead.delete(key)
		s.buried[ref.Mapping]--
	}
	e, coalesced := s.events.get(key)
	if !coalesced {
		e = Event{Mapping: ref.Mapping, PK: ref.PK, EnqueuedAt: s.counters.Now, NextAt: s.counters.Now}
		s.pending[ref.Mapping]++
	}
	e.Token, e.Index = s.nextToken(), s.nextRevision()
	if pass != 0 {
		e.Pass = pass
	}
	s.events.set(key, e)
	s.due.add(dueIndex(key, e))
	return EventToken{Token: e.Token, Coalesced: coalesced}
}

// Settlement acknowledges what a delivery did: the row was applied (or found superseded) under a mapping revision with a token. It
// settles only tokens up to its own; a newer event of the row stays pending.
type Settlement struct {
	_        struct{} `cbor:",toarray"`
	Row      RowRef
	Revision uint64
	Token    uint64
}

// SettleEvents removes delivered events.
type SettleEvents struct {
	Events []Settlement `cbor:"1,keyasint"`
}

func (SettleEvents) kind() Kind { return kindSettleEvents }

func (c SettleEvents) apply(s *State) Result {
	var r OutboxResult
	for _, a := range c.Events {
		e, ok := s.settles(a)
		if !ok {
			continue
		}
		s.dropEvent(a.Row.key(), e)
		r.Settled++
	}
	return Result{Outbox: &r}
}

// settles finds the event that a settlement is about: not a newer one, and delivered by the present rule.
func (s *State) settles(a Settlement) (Event, bool) {
	e, ok := s.events.get(a.Row.key())
	m, _ := s.mappings.get(a.Row.Mapping)
	return e, ok && e.Token <= a.Token && m.Revision == a.Revision
}

func (s *State) dropEvent(key string, e Event) {
	s.events.delete(key)
	s.due.remove(dueIndex(key, e))
	s.pending[e.Mapping]--
}

// Failure says that an attempt failed, why, and how long to wait before the next.
type Failure struct {
	_       struct{} `cbor:",toarray"`
	Event   Settlement
	Class   string
	Detail  string
	DelayMs uint64
	Attempt bool // false: the target or source was at fault, no attempt is spent
}

// FailEvents logs the failures of a batch in one command.
type FailEvents struct {
	Events []Failure `cbor:"1,keyasint"`
}

func (FailEvents) kind() Kind { return kindFailEvents }

func (c FailEvents) apply(s *State) Result {
	var r OutboxResult
	for _, f := range c.Events {
		key := f.Event.Row.key()
		e, ok := s.events.get(key)
		if !ok || f.DelayMs > WaitMaxMs || len(f.Class) > IDBytesMax {
			continue
		}
		s.due.remove(dueIndex(key, e))
		if f.Attempt {
			e.Attempts++
		}
		e.NextAt = s.counters.Now + f.DelayMs
		e.Failure, e.Detail, e.Index = f.Class, clip(f.Detail, ErrorBytesMax), s.nextRevision()
		s.events.set(key, e)
		s.due.add(dueIndex(key, e))
		r.Settled++
	}
	return Result{Outbox: &r}
}

// BuryEvents turns events into dead letters. The caller has removed their cache keys before: a dead letter never means that somebody
// reads a stale value. When the dead letters are full the event stays pending.
type BuryEvents struct {
	Events []Failure `cbor:"1,keyasint"`
}

func (BuryEvents) kind() Kind { return kindBuryEvents }

func (c BuryEvents) apply(s *State) Result {
	var r OutboxResult
	for _, f := range c.Events {
		e, ok := s.settles(f.Event)
		if !ok || s.dead.len() >= DeadMax || len(f.Class) > IDBytesMax {
			continue
		}
		key := f.Event.Row.key()
		s.dropEvent(key, e)
		s.dead.set(key, DeadLetter{Mapping: e.Mapping, PK: e.PK, Token: e.Token, Attempts: e.Attempts + 1, Failure: f.Class,
			Detail: clip(f.Detail, ErrorBytesMax), BuriedAt: s.counters.Now, Index: s.nextRevision()})
		s.buried[e.Mapping]++
		r.Settled++
	}
	return Result{Outbox: &r}
}

func clip(text string, bytesMax int) string {
	if len(text) <= bytesMax {
		return text
	}
	return text[:bytesMax]
}

// Event gives the pending event of a row.
func (s *State) Event(ref RowRef) (Event, bool) { return s.events.get(ref.key()) }

// DeadLetter gives the dead letter of a row.
func (s *State) DeadLetter(ref RowRef) (DeadLetter, bool) { return s.dead.get(ref.key()) }

// DueEvents visits the pending events of a mapping in the order of their next attempt, as long as it is not after now.
func (s *State) DueEvents(mapping string, now uint64, visit func(Event) bool) {
	s.due.each(mapping, func(p pair) bool {
		if p.num > now {
			return false
		}
		e, _ := s.events.get(p.name)
		return visit(e)
	})
}

// NextDue is the cluster time of the earliest next attempt of a mapping's pending events.
func (s *State) NextDue(mapping string) (uint64, bool) {
	p, ok := s.due.first(mapping)
	return p.num, ok
}

// Events visits pending events in the order of (mapping, row key), after the given row; the zero RowRef starts at the beginning.
func (s *State) Events(after RowRef, visit func(Event) bool) {
	s.events.ascend(after.key(), func(key string, e Event) bool {
		return (key == after.key() && after.PK != "") || visit(e)
	})
}

// DeadLetters visits dead letters in the order of (mapping, row key), after the given row.
func (s *State) DeadLetters(after RowRef, visit func(DeadLetter) bool) {
	s.dead.ascend(after.key(), func(key string, d DeadLetter) bool {
		return (key == after.key() && after.PK != "") || visit(d)
	})
}

// PendingCount and DeadCount are the sizes of the outbox.
func (s *State) PendingCount() int { return s.events.len() }
func (s *State) DeadCount() int    { return s.dead.len() }
