package fsm

import (
	"slices"
	"strings"
)

// Event says that the cache keys of one row may be stale. It carries the row's key and never its values: whoever delivers it reads the
// row after the token was given, and the cache takes only writes with a higher token than its last.
type Event struct {
	Mapping    string `cbor:"1,keyasint"`
	PK         string `cbor:"2,keyasint"` // canonical; see mapping.EncodeKey
	Token      uint64 `cbor:"3,keyasint"` // newest
	EnqueuedAt uint64 `cbor:"4,keyasint"` // cluster time of the oldest of the events that were folded into this one
	Attempts   uint32 `cbor:"5,keyasint,omitempty"`
	NextAt     uint64 `cbor:"6,keyasint,omitempty"` // cluster time before which it is not tried again
	Failure    string `cbor:"7,keyasint,omitempty"` // class of the last failure
	Detail     string `cbor:"8,keyasint,omitempty"` // of the last failure, for a person
	Pass       uint64 `cbor:"9,keyasint,omitempty"` // the pass that asked for it, 0 for an application
	Index      uint64 `cbor:"10,keyasint"`
	Drop       bool   `cbor:"11,keyasint,omitempty"` // the keys are to be removed, whatever the row is; an event without it prevails
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
	Spans  []byte   `cbor:"3,keyasint,omitempty"` // see spansFit
	Drop   bool     `cbor:"4,keyasint,omitempty"` // see Event
}

func (EnqueueEvents) kind() Kind { return kindEnqueueEvents }

func (c EnqueueEvents) apply(s *State) Result {
	if r := s.checkRows(c.Events, c.Spans); r.Refused() {
		return r
	}
	if room := PendingMax - s.events.len() - s.reserved; len(c.Events) > room && s.newRows(c.Events) > room {
		return refuse(CodeOutboxFull, "as many events are pending as may be")
	}
	return Result{Outbox: &OutboxResult{Tokens: s.enqueueAll(c.Events, c.Spans, c.Pass, c.Drop)}}
}

// spansFit: an event of a caller may name two rows, or none that exists. Spans says how many each one names, so that each is answered by one
// token: that of its last row. No spans are one row each.
func spansFit(spans []byte, rows int) bool {
	total := 0
	for _, n := range spans {
		total += int(n)
	}
	return len(spans) == 0 || total == rows && len(spans) <= EventsBatchMax
}

func (s *State) enqueueAll(refs []RowRef, spans []byte, pass uint64, drop bool) []EventToken {
	if len(spans) == 0 {
		tokens := make([]EventToken, len(refs))
		for i, ref := range refs {
			tokens[i] = s.enqueueAs(ref, pass, 0, drop)
		}
		return tokens
	}
	tokens := make([]EventToken, len(spans))
	next := 0
	for i, n := range spans {
		coalesced := n > 0
		for _, ref := range refs[next : next+int(n)] {
			tokens[i] = s.enqueueAs(ref, pass, 0, drop)
			coalesced = coalesced && tokens[i].Coalesced
		}
		tokens[i].Coalesced = coalesced
		next += int(n)
	}
	return tokens
}

func (s *State) checkRows(refs []RowRef, spans []byte) Result {
	if len(refs) == 0 && len(spans) == 0 || len(refs) > EventsBatchMax || !spansFit(spans, len(refs)) {
		return refuse(CodeInvalid, "between 1 and 2,000 rows at a time")
	}
	known := "" // they come in runs of one mapping
	for _, ref := range refs {
		if ref.PK == "" || len(ref.PK) > PKBytesMax {
			return refuse(CodeInvalid, "row key out of bounds")
		}
		if ref.Mapping == known && known != "" {
			continue
		}
		if known = ref.Mapping; !s.mappings.has(known) {
			return refuse(CodeMappingNotFound, "no such mapping: "+known)
		}
	}
	return Result{}
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

// exhume forgets the dead letter of a row, if it has one.
func (s *State) exhume(ref RowRef) bool {
	if s.dead.len() == 0 {
		return false // as nearly always
	}
	d, was := s.dead.delete(ref.key())
	if was {
		s.countDead(d, -1)
	}
	return was
}

// enqueueEvent gives a row an event, due after delayMs if none of it was pending.
func (s *State) enqueueEvent(ref RowRef, pass, delayMs uint64) EventToken {
	return s.enqueueAs(ref, pass, delayMs, false)
}

func (s *State) enqueueAs(ref RowRef, pass, delayMs uint64, drop bool) EventToken {
	key := ref.key()
	s.exhume(ref)
	e, coalesced := s.events.get(key)
	if !coalesced {
		e = Event{Mapping: ref.Mapping, PK: ref.PK, EnqueuedAt: s.counters.Now, NextAt: s.counters.Now + delayMs}
		s.pending[ref.Mapping]++
	}
	e.Drop = drop && (e.Drop || !coalesced)
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

// FailEvents logs the failures of a batch in one command. An event that came while its row was under way stays due,
// though the attempt counts.
type FailEvents struct {
	Events []Failure `cbor:"1,keyasint"`
}

func (FailEvents) kind() Kind { return kindFailEvents }

func (c FailEvents) apply(s *State) Result {
	var r OutboxResult
	for _, f := range c.Events {
		key := f.Event.Row.key()
		e, ok := s.events.get(key)
		if m, _ := s.mappings.get(f.Event.Row.Mapping); !ok || m.Revision != f.Event.Revision || f.DelayMs > WaitMaxMs || len(f.Class) > IDBytesMax {
			continue
		}
		s.due.remove(dueIndex(key, e))
		if f.Attempt {
			e.Attempts++
		}
		if e.Token <= f.Event.Token {
			e.NextAt = s.counters.Now + f.DelayMs
		}
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
		d := DeadLetter{Mapping: e.Mapping, PK: e.PK, Token: e.Token, Attempts: e.Attempts + 1, Failure: f.Class,
			Detail: clip(f.Detail, ErrorBytesMax), BuriedAt: s.counters.Now, Index: s.nextRevision()}
		s.dead.set(key, d)
		s.countDead(d, 1)
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

// DueEventsBut visits all pending events of a mapping in the order of DueEvents, but for the rows that skip names. Those cost no look-up: who delivers passes over what is under way.
func (s *State) DueEventsBut(mapping string, skip func(RowRef) bool, visit func(Event) bool) {
	s.due.each(mapping, func(p pair) bool {
		if skip(RowRef{Mapping: mapping, PK: p.name[len(mapping)+1:]}) {
			return true
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

// ClassCount is how many dead letters have a class of failure.
type ClassCount struct {
	Class string
	Count int
}

// countDead counts a dead letter in, or out.
func (s *State) countDead(d DeadLetter, sign int) {
	s.buried[d.Mapping] += sign
	classes := s.buriedAs[d.Mapping]
	i, found := slices.BinarySearchFunc(classes, d.Failure, func(c ClassCount, class string) int { return strings.Compare(c.Class, class) })
	if !found {
		classes = slices.Insert(classes, i, ClassCount{Class: d.Failure})
	}
	if classes[i].Count += sign; classes[i].Count == 0 {
		classes = slices.Delete(classes, i, i+1)
	}
	s.buriedAs[d.Mapping] = classes
}

// DeadBy counts a mapping's dead letters by class of failure, in the order of the classes.
func (s *State) DeadBy(mapping string) []ClassCount { return slices.Clone(s.buriedAs[mapping]) }

// PendingCount and DeadCount are the sizes of the outbox.
func (s *State) PendingCount() int { return s.events.len() }
func (s *State) DeadCount() int    { return s.dead.len() }
