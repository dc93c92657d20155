package fsm

import "slices"

// Record is what a service remembers of its drains. It has a row of its own: instances follow their service's row, and these counts are
// no news to them.
type Record struct {
	Service    string   `cbor:"1,keyasint"`
	Grants     uint64   `cbor:"2,keyasint,omitempty"`
	Overdrafts uint64   `cbor:"3,keyasint,omitempty"`
	Forced     uint64   `cbor:"4,keyasint,omitempty"`
	Lost       uint64   `cbor:"5,keyasint,omitempty"`
	Undone     uint64   `cbor:"6,keyasint,omitempty"`
	DrainsMs   []uint32 `cbor:"7,keyasint,omitempty"` // the last 32, from the grant to the exit
	RestartsMs []uint32 `cbor:"8,keyasint,omitempty"` // the last 32, from the exit to the successor's being settled
	Lived      bool     `cbor:"9,keyasint,omitempty"` // an instance has served since the last cleanup
	Index      uint64   `cbor:"10,keyasint"`
}

// Record gives what is remembered of a service.
func (s *State) Record(service string) (Record, bool) { return s.records.get(service) }

// Records visits them in the order of the services' names.
func (s *State) Records(visit func(Record) bool) {
	s.records.ascend("", func(_ string, r Record) bool { return visit(r) })
}

func (s *State) record(service string, change func(*Record)) {
	r, _ := s.records.get(service)
	r.Service = service
	change(&r)
	r.Index = s.nextRevision()
	s.records.set(service, r)
}

func (s *State) recordGrant(service string, overdraft bool) {
	s.record(service, func(r *Record) {
		r.Grants++
		if overdraft {
			r.Overdrafts++
		}
	})
}

func (s *State) recordOverdraft(service string) {
	s.record(service, func(r *Record) { r.Overdrafts++ })
}

func (s *State) recordUndo(service string) { s.record(service, func(r *Record) { r.Undone++ }) }

func (s *State) recordEnd(v Instance, to InstanceState) {
	if to == InstanceLeft && v.Grant == 0 {
		return
	}
	s.record(v.Service, func(r *Record) {
		switch to {
		case InstanceLost:
			r.Lost++
		case InstanceForced:
			r.Forced++
		default:
			r.DrainsMs = lately(r.DrainsMs, s.counters.Now-v.GrantedAt)
		}
	})
}

func (s *State) recordRestart(service string, ms uint64) {
	s.record(service, func(r *Record) { r.RestartsMs = lately(r.RestartsMs, ms) })
}

func (s *State) recordLife(service string) {
	if r, _ := s.records.get(service); !r.Lived {
		s.record(service, func(r *Record) { r.Lived = true })
	}
}

// lately gives a new list: what is stored does not change.
func lately(list []uint32, ms uint64) []uint32 {
	list = list[max(0, len(list)-recordsKept+1):]
	return append(slices.Clip(slices.Clone(list)), uint32(min(ms, 1<<32-1)))
}
