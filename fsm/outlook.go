package fsm

import "slices"

// Why a drain waits, as data.

// Outlook is how a queued instance stands.
type Outlook struct {
	Position int       `cbor:"1,keyasint"` // from 1
	Frozen   bool      `cbor:"2,keyasint,omitempty" json:",omitempty"`
	Blockers []Blocker `cbor:"3,keyasint,omitempty" json:",omitempty"`
	Earliest uint64    `cbor:"4,keyasint,omitempty" json:",omitempty"` // cluster time before which there is no grant, unless somebody intervenes; 0: any moment
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

// Outlook tells how a queued instance stands. It costs a walk over the instances of the service. What it takes up itself is not in its way,
// and what those before it take up counts as their places in the queue.
func (s *State) Outlook(v Instance) Outlook {
	o := Outlook{Latest: v.GrantBy}
	var line []Instance // it and those before it
	s.drains.each(v.Service, func(p pair) bool {
		o.Position++
		q, _ := s.instances.get(p.name)
		line = append(line, q)
		return p.name != v.ID
	})
	service, _ := s.services.get(v.Service)
	o.Frozen = service.Freeze
	o.Blockers = s.blockers(v.Service, v.ID)
	o.Earliest = s.earliest(service, line)
	if o.Latest != 0 && o.Earliest > o.Latest {
		o.Earliest = o.Latest
	}
	return o
}

// blockers lists what takes up the budget, but for the instance that asks.
func (s *State) blockers(service, asking string) []Blocker {
	var out []Blocker
	s.taken(service, func(v Instance, why string) bool {
		if v.ID != asking {
			out = append(out, Blocker{ID: v.ID, Name: v.Name, State: v.State, Why: why})
		}
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

// earliest is when the last of the line, which is the head of the queue, can be granted at the earliest: each place that others take up becomes
// free at a time of its own, and so many of them must have.
func (s *State) earliest(service Service, line []Instance) uint64 {
	waiting := make(map[string]bool, len(line))
	own := 0 // of those that count as available
	for _, v := range line {
		waiting[v.ID] = true
		own += places(v).available
	}
	var free []uint64
	s.taken(service.Name, func(v Instance, why string) bool {
		if !waiting[v.ID] {
			free = append(free, s.freeAt(service, v, why))
		}
		return true
	})
	slices.Sort(free)
	o := s.occupied[service.Name]
	missing := len(free) + len(line) - service.maxUnavailable(s.expected(service, o))
	if minimum, is := service.minAvailable(s.expected(service, o)); is {
		missing = minimum - (o.available - own)
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
	case why == BlockDraining && service.Replicas > 0 && s.occupied[service.Name].expected > int(service.Replicas):
		return 0 // nobody will be missing, so its place is not kept
	case why == BlockDraining && v.Intent == IntentRestart && service.RestartHoldMs > 0 && service.SettleMs > 0:
		return s.counters.Now + min(service.SettleMs, service.RestartHoldMs)
	}
	return 0
}
