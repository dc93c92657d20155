package reconcile

import (
	"github.com/quiescehq/quiesce/fsm"
)

// question asks what was on its way about a row since a revision of the state.
type question struct {
	ref   fsm.RowRef
	since uint64
}

// movement is what was on its way about a row.
type movement struct {
	pending          bool // an event of it waits, or is announced by a transaction that is not known to be over
	touched, covered bool // by deliveries; see Acknowledgements
}

// still: nothing moved, as far as anybody remembers.
func (m movement) still() bool { return !m.pending && !m.touched && m.covered }

// ask finds out what moves. It is asked after the readings that it is about, and after the relay said that it is done with what could be read then: what was pending
// after the readings is seen as pending, and what was settled before that is in the outbox's memory.
func (p *pass) ask(questions []question) []movement {
	out := make([]movement, len(questions))
	p.log.View(func(s *fsm.State) {
		for i, q := range questions {
			_, pending := s.Event(q.ref)
			out[i].pending = pending || s.RowPrepared(q.ref)
		}
	})
	for i, q := range questions {
		out[i].touched, out[i].covered = p.acks.Recent(q.ref, q.since)
	}
	return out
}

// relayed tells how far the relay of the outbox table is.
type relayed int

const (
	relayDone   relayed = iota + 1 // all that could be read when the mark was taken is in the state
	relayBehind                    // not yet
	relayPaused                    // and it will not be soon
)

// mark notes how far the source's relay is. It is taken after rows were read: what their transactions put into the outbox table could be read then as well.
func (p *pass) mark() uint64 {
	if p.relays == nil {
		return 0
	}
	return p.relays.Mark(p.mapping.Spec().Source)
}

// relay tells whether the events of what was read before the mark are in the state. Without a relay there is no such table.
func (p *pass) relay(mark uint64) relayed {
	source := p.mapping.Spec().Source
	if p.relays == nil || p.relays.Drained(source, mark) {
		return relayDone
	}
	paused := false
	p.log.View(func(s *fsm.State) { paused = s.RelayPaused(source) })
	if paused {
		return relayPaused
	}
	return relayBehind
}
