package fsm

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrDamagedSnapshot means that a snapshot's bytes are not what was written. The state that was asked to restore it is unchanged.
var ErrDamagedSnapshot = errors.New("fsm: damaged snapshot")

// A snapshot is: magic with format version, header, one section per table (see table.write), the digest of the whole state.
var snapshotMagic = [8]byte{'Q', 'S', 'N', 'A', 'P', 0, 0, 1}

type snapshotHeader struct {
	Counters counters `cbor:"1,keyasint"`
	Sections []string `cbor:"2,keyasint"`
}

// WriteSnapshot writes a Clone. It runs beside Apply on the State that was cloned.
func (s *State) WriteSnapshot(w io.Writer) error {
	out := bufio.NewWriterSize(w, 1<<20)
	h := snapshotHeader{Counters: s.counters}
	for _, sec := range s.sections() {
		h.Sections = append(h.Sections, sec.title())
	}
	if _, err := out.Write(snapshotMagic[:]); err != nil {
		return err
	}
	if err := writeBytes(out, encode(h)); err != nil {
		return err
	}
	for _, sec := range s.sections() {
		if err := sec.write(out); err != nil {
			return fmt.Errorf("section %s: %w", sec.title(), err)
		}
	}
	if err := writeBytes(out, encode(s.Digest())); err != nil {
		return err
	}
	return out.Flush()
}

// ReadSnapshot builds a state from a snapshot. Whatever is wrong with the bytes is ErrDamagedSnapshot; a state is only returned when
// every checksum and the digest over its rows agree.
func ReadSnapshot(r io.Reader) (*State, error) {
	s, err := readSnapshot(bufio.NewReaderSize(r, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrDamagedSnapshot, err)
	}
	return s, nil
}

func readSnapshot(in *bufio.Reader) (*State, error) {
	var magic [8]byte
	if err := binary.Read(in, binary.BigEndian, &magic); err != nil {
		return nil, err
	}
	if magic != snapshotMagic {
		return nil, fmt.Errorf("bad magic %x", magic)
	}
	var h snapshotHeader
	if err := readValue(in, &h); err != nil {
		return nil, err
	}
	s := New()
	known := s.sections()
	if len(h.Sections) > len(known) {
		return nil, fmt.Errorf("%d sections, this version knows %d", len(h.Sections), len(known))
	}
	for i, title := range h.Sections {
		if title != known[i].title() {
			return nil, fmt.Errorf("section %q where %q belongs", title, known[i].title())
		}
		if err := known[i].read(in); err != nil {
			return nil, err
		}
	}
	s.counters = h.Counters
	var want Digest
	if err := readValue(in, &want); err != nil {
		return nil, err
	}
	if got := s.Digest(); got != want {
		return nil, fmt.Errorf("digest %s, want %s", got, want)
	}
	s.reindex()
	return s, nil
}

// reindex rebuilds what is derived from the tables.
func (s *State) reindex() {
	s.grants.ascend("", func(_ string, g Grant) bool { s.indexGrant(g); return true })
	s.delays.ascend("", func(name string, until uint64) bool { s.setTimer(delayTimer(name, until)); return true })
	s.tickets.ascend(0, func(_ uint64, t Ticket) bool { s.indexTicket(t); return true })
	s.acked.ascend("", func(client string, a acknowledged) bool {
		s.setTimer(timer{due: a.Until, what: timerAcked, key: client})
		return true
	})
	s.stored.ascend("", func(key string, v storedResult) bool { s.indexStored(key, v); return true })
	s.ages.sort()
	s.timeOldest()
	s.instances.ascend("", func(_ string, v Instance) bool { s.indexInstance(v); return true })
	s.plans.ascend(0, func(_ uint64, v Plan) bool { s.indexPlan(v); return true })
	s.cleanups.ascend(0, func(_ uint64, v Cleanup) bool { s.indexCleanup(v); return true })
	s.events.ascend("", func(key string, v Event) bool {
		s.due.add(dueIndex(key, v))
		s.pending[v.Mapping]++
		return true
	})
	s.dead.ascend("", func(_ string, v DeadLetter) bool { s.countDead(v, 1); return true })
	s.prepared.ascend(0, func(_ uint64, p Prepared) bool { s.indexPrepared(p, 1); return true })
	s.nodes.ascend("", func(id string, n Node) bool {
		if n.LeavingUntil != 0 {
			s.setTimer(timer{due: n.LeavingUntil, what: timerLeaving, key: id})
		}
		return true
	})
}
