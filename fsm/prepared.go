package fsm

import (
	"fmt"
	"strconv"
)

// Prepared are events that were announced before their transaction began. They become events when the transaction is known to be over:
// because it was said (submit), or because the leader found its fence (probe). Whether it committed decides nothing: a delivery reads the
// row, and after a rollback reads what was there before.
type Prepared struct {
	ID        uint64   `cbor:"1,keyasint"` // a token
	Source    string   `cbor:"2,keyasint"` // has the fence; all rows are of it
	Events    []RowRef `cbor:"3,keyasint"`
	Instance  string   `cbor:"4,keyasint,omitempty"` // when it is lost the fence is looked at once
	CreatedAt uint64   `cbor:"5,keyasint"`           // cluster time
	ProbeAt   uint64   `cbor:"6,keyasint"`           // cluster time
	Probes    uint32   `cbor:"7,keyasint,omitempty"` // looks that found the transaction open
	Index     uint64   `cbor:"8,keyasint"`
	Spans     []byte   `cbor:"9,keyasint,omitempty"` // see spansFit
}

// PreparedID is how prepared events are called outside: with a letter, so that nobody takes the number for a token to compare.
func PreparedID(id uint64) string { return "p" + strconv.FormatUint(id, 10) }

// FenceID is the id of their fence row. Two clusters may use one database, and one that was lost may be founded anew.
func FenceID(cluster string, id uint64) string { return cluster + "." + PreparedID(id) }

// Verdict is what a look at a fence told.
type Verdict string

const (
	VerdictCommitted  Verdict = "committed"
	VerdictRolledBack Verdict = "rolled_back" // and it cannot commit any more: the probe has taken its fence
	VerdictOpen       Verdict = "open"
)

// PreparedResult answers the commands about prepared events. One that is not Ended says that somebody ended them before.
type PreparedResult struct {
	ID     uint64       `cbor:"1,keyasint,omitempty" json:",omitempty"`
	TTLMs  uint64       `cbor:"2,keyasint,omitempty" json:",omitempty"`
	Ended  bool         `cbor:"3,keyasint,omitempty" json:",omitempty"` // by this command
	Tokens []EventToken `cbor:"4,keyasint,omitempty" json:",omitempty"`
	Source string       `cbor:"5,keyasint,omitempty" json:",omitempty"`
}

// PrepareEvents announces events. They count as pending from now on, so that Submit has room.
type PrepareEvents struct {
	Source   string   `cbor:"1,keyasint"`
	Events   []RowRef `cbor:"2,keyasint"`
	TTLMs    uint64   `cbor:"3,keyasint"`
	Instance string   `cbor:"4,keyasint,omitempty"`
	Spans    []byte   `cbor:"5,keyasint,omitempty"`
}

func (PrepareEvents) kind() Kind { return kindPrepareEvents }

func (c PrepareEvents) apply(s *State) Result {
	if c.TTLMs < PreparedTTLMinMs || c.TTLMs > PreparedTTLMaxMs || c.Source == "" {
		return refuse(CodeInvalid, "source or time of prepared events out of bounds")
	}
	if r := s.checkRows(c.Events, c.Spans); r.Refused() {
		return r
	}
	for _, ref := range c.Events {
		if m, _ := s.mappings.get(ref.Mapping); m.Source != c.Source {
			return refuse(CodeInvalid, "all events of one transaction are of one source: "+ref.Mapping+" is of "+m.Source)
		}
	}
	if c.Instance != "" {
		v, ok := s.instances.get(c.Instance)
		switch {
		case !ok:
			return refuseInstance(CodeInstanceNotFound)
		case !v.State.live():
			return refuse(CodeInstanceState, "the instance has ended")
		}
	}
	if s.prepared.len() >= PreparedMax || s.events.len()+s.reserved+len(c.Events) > PendingMax {
		return refuse(CodeOutboxFull, "as many events are pending as may be")
	}
	now := s.counters.Now
	p := Prepared{ID: s.nextToken(), Source: c.Source, Events: c.Events, Instance: c.Instance, Spans: c.Spans, CreatedAt: now, ProbeAt: now + c.TTLMs}
	s.putPrepared(p)
	return Result{Prepared: &PreparedResult{ID: p.ID, TTLMs: c.TTLMs, Source: c.Source}}
}

func (s *State) putPrepared(p Prepared) {
	p.Index = s.nextRevision()
	s.prepared.set(p.ID, p)
	s.indexPrepared(p, 1)
}

// indexPrepared counts the events of one prepare in, or out.
func (s *State) indexPrepared(p Prepared, sign int) {
	s.reserved += sign * len(p.Events)
	for _, ref := range p.Events {
		if s.reservedOf[ref.Mapping] += sign; s.reservedOf[ref.Mapping] == 0 {
			delete(s.reservedOf, ref.Mapping)
		}
		if s.announced[ref] += sign; s.announced[ref] == 0 {
			delete(s.announced, ref)
		}
	}
	due, owner := p.dueIndex(), p.ownerIndex()
	if sign > 0 {
		s.probes.add(due)
	} else {
		s.probes.remove(due)
	}
	switch {
	case p.Instance == "":
	case sign > 0:
		s.preparers.add(owner)
	default:
		s.preparers.remove(owner)
	}
}

func (p Prepared) dueIndex() pair {
	return pair{group: p.Source, num: p.ProbeAt, name: strconv.FormatUint(p.ID, 10)}
}

func (p Prepared) ownerIndex() pair { return pair{group: p.Instance, num: p.ID} }

// endPrepared forgets a prepare; deliver makes events of it.
func (s *State) endPrepared(p Prepared, deliver bool) []EventToken {
	s.indexPrepared(p, -1)
	s.prepared.delete(p.ID)
	if !deliver {
		return nil
	}
	return s.enqueueAll(p.Events, p.Spans, 0, false)
}

// findPrepared tells of one that is not there whether it was once and is over: ids are tokens, and every token that was given is at most the counter.
func (s *State) findPrepared(id uint64) (p Prepared, ok, over bool) {
	p, ok = s.prepared.get(id)
	return p, ok, !ok && id != 0 && id <= s.counters.Token
}

// SubmitPrepared says that the transaction has ended. It is never refused: what is over already was delivered.
type SubmitPrepared struct {
	ID uint64 `cbor:"1,keyasint"`
}

func (SubmitPrepared) kind() Kind { return kindSubmitPrepared }

func (c SubmitPrepared) apply(s *State) Result { return s.concludePrepared(c.ID, true) }

// CancelPrepared says that the transaction was rolled back, or never begun.
type CancelPrepared struct {
	ID uint64 `cbor:"1,keyasint"`
}

func (CancelPrepared) kind() Kind { return kindCancelPrepared }

func (c CancelPrepared) apply(s *State) Result { return s.concludePrepared(c.ID, false) }

func (s *State) concludePrepared(id uint64, deliver bool) Result {
	p, ok, over := s.findPrepared(id)
	switch {
	case over:
		return Result{Prepared: &PreparedResult{ID: id}}
	case !ok:
		return refuse(CodePreparedNotFound, "no such prepared events")
	}
	return Result{Prepared: &PreparedResult{ID: id, Ended: true, Tokens: s.endPrepared(p, deliver)}}
}

// Probe is what the leader found of one prepare.
type Probe struct {
	_       struct{} `cbor:",toarray"`
	ID      uint64
	Verdict Verdict
	DelayMs uint64 // VerdictOpen: until the next look
}

// ProbePrepared logs what fences told. A prepare that was ended meanwhile is passed over.
type ProbePrepared struct {
	Probes []Probe `cbor:"1,keyasint"`
}

func (ProbePrepared) kind() Kind { return kindProbePrepared }

func (c ProbePrepared) apply(s *State) Result {
	if len(c.Probes) > ProbesBatchMax {
		return refuse(CodeInvalid, "too many probes at a time")
	}
	var r OutboxResult
	for _, probe := range c.Probes {
		p, ok := s.prepared.get(probe.ID)
		if !ok || probe.DelayMs > WaitMaxMs {
			continue
		}
		r.Settled++
		if probe.Verdict == VerdictOpen {
			s.indexPrepared(p, -1)
			p.Probes++
			p.ProbeAt = s.counters.Now + probe.DelayMs
			s.putPrepared(p)
			continue
		}
		s.endPrepared(p, true)
	}
	return Result{Outbox: &r}
}

// hurryPrepared has the fences of an instance that ended looked at now.
func (s *State) hurryPrepared(instance string) {
	var late []Prepared
	s.preparers.each(instance, func(x pair) bool {
		if p, _ := s.prepared.get(x.num); p.ProbeAt > s.counters.Now {
			late = append(late, p)
		}
		return true
	})
	for _, p := range late {
		s.indexPrepared(p, -1)
		p.ProbeAt = s.counters.Now
		s.putPrepared(p)
	}
}

// Prepared gives prepared events by their id.
func (s *State) Prepared(id uint64) (Prepared, bool) { return s.prepared.get(id) }

// AllPrepared visits prepared events in the order in which they were announced, from the given id.
func (s *State) AllPrepared(from uint64, visit func(Prepared) bool) {
	s.prepared.ascend(from, func(_ uint64, p Prepared) bool { return visit(p) })
}

// DuePrepared visits the prepared events of a source whose fence is to be looked at, the longest due first.
func (s *State) DuePrepared(source string, now uint64, visit func(Prepared) bool) {
	s.probes.each(source, func(x pair) bool {
		if x.num > now {
			return false
		}
		id, err := strconv.ParseUint(x.name, 10, 64)
		if err != nil {
			panic(fmt.Sprintf("fsm: index of probes holds %q", x.name))
		}
		p, _ := s.prepared.get(id)
		return visit(p)
	})
}

// NextProbe is the cluster time at which the next fence of a source is to be looked at.
func (s *State) NextProbe(source string) (uint64, bool) {
	x, ok := s.probes.first(source)
	return x.num, ok
}

// PreparedOf is how many prepares of an instance are open.
func (s *State) PreparedOf(instance string) int { return s.preparers.count(instance) }

// RowPrepared tells whether an event of the row is announced, and its transaction not known to be over.
func (s *State) RowPrepared(row RowRef) bool { return s.announced[row] > 0 }

// PreparedCount is the number of events that wait for their transactions.
func (s *State) PreparedCount() int { return s.reserved }
