package fsm

import "slices"

// Why a drain waits, as data.

// Outlook is how a queued instance stands.
type Outlook struct {
	Position int       `cbor:"1,keyasint"` // from 1
	Frozen   bool      `cbor:"2,keyasint,omitempty" json:",omitempty"`
	Blockers []Blocker `cbor:"3,keyasint,omitempty" json:",omitempty"`
	Earliest uint64    `cbor:"4,keyasint,omitempty" json:",omitempty"` // cluster time before which there is no grant, unless somebody undoes something; 0: any moment
	Latest   uint64    `cbor:"5,keyasint,omitempty" json:",omitempty"` // granted then as an overdraft; 0: there is no such time
}

// Blocker is one place of the budget that is taken.
type Blocker struct {
	_     struct{} `cbor:",toarray"`
	ID    string
	Name  string
	State InstanceState
	Why   string
}

// Why a place is taken.
const (
	BlockDraining   = "draining"
	BlockPaused     = "paused"
	BlockSettling   = "settling"
	BlockRestarting = "restarting"
	BlockLost       = "lost"
)

// Outlook tells how a queued instance stands. It costs a walk over the instances of the service.
func (s *State) Outlook(v Instance) Outlook {
	o := Outlook{Latest: v.GrantBy}
	s.drains.each(v.Service, func(p pair) bool { o.Position++; return p.name != v.ID })
	service, _ := s.services.get(v.Service)
	o.Frozen = service.Freeze
	o.Blockers = s.blockers(v.Service)
	o.Earliest = s.earliest(service, o.Position)
	if o.Latest != 0 && o.Earliest > o.Latest {
		o.Earliest = o.Latest
	}
	return o
}

func (s *State) blockers(service string) []Blocker {
	var out []Blocker
	s.taken(service, func(v Instance, why string) bool {
		out = append(out, Blocker{ID: v.ID, Name: v.Name, State: v.State, Why: why})
		return len(out) < BlockersMax
	})
	return out
}

// taken visits the instances that take up the budget.
func (s *State) taken(service string, visit func(v Instance, why string) bool) {
	further := true
	s.KeptPlaces(service, func(v Instance) bool {
		why := BlockRestarting
		if v.State != InstanceLeft {
			why = BlockLost
		}
		further = visit(v, why)
		return further
	})
	if !further {
		return
	}
	s.Members(service, func(v Instance) bool {
		switch {
		case places(v).unavailable == 0:
			return true
		case v.State == InstancePaused:
			return visit(v, BlockPaused)
		case v.State == InstanceReady || v.State == InstanceQueued:
			return visit(v, BlockSettling)
		}
		return visit(v, BlockDraining)
	})
}

// earliest is when the place of the given position can be free at the earliest: each taken place becomes free at a time of its own, and
// so many of them must have.
func (s *State) earliest(service Service, position int) uint64 {
	var free []uint64
	s.taken(service.Name, func(v Instance, why string) bool {
		free = append(free, s.freeAt(service, v, why))
		return true
	})
	slices.Sort(free)
	missing := position - s.room(service.Name)
	if over := s.occupied[service.Name].unavailable - service.maxUnavailable(s.expected(service, s.occupied[service.Name])); over > 0 {
		if _, is := service.minAvailable(0); !is {
			missing += over
		}
	}
	if missing <= 0 || len(free) == 0 {
		return 0
	}
	return free[min(missing, len(free))-1]
}

// freeAt is when a taken place can be free at the earliest, 0 when any moment.
func (s *State) freeAt(service Service, v Instance, why string) uint64 {
	switch {
	case why == BlockSettling:
		return v.SettleAt
	case why == BlockRestarting || why == BlockLost:
		if service.SettleMs == 0 {
			return 0
		}
		return min(v.HoldUntil, s.counters.Now+service.SettleMs)
	case why == BlockDraining && v.Intent == IntentRestart && service.RestartHoldMs > 0 && service.SettleMs > 0:
		return s.counters.Now + min(service.SettleMs, service.RestartHoldMs)
	}
	return 0
}
