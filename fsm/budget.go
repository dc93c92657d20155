package fsm

import "math"

// The disruption budget: how many instances of a service may be out of service, decided here and nowhere else.

// occupancy counts the instances of a service as its budget sees them. It is kept by putInstance.
type occupancy struct {
	expected    int // serve, or are expected back
	available   int // in service and settled
	unavailable int // places of the budget that are taken
}

// places tells what one instance counts for. What never served counts for nothing: by stopping it takes nothing away.
func places(v Instance) (o occupancy) {
	switch {
	case !v.Served:
	case !v.State.live():
		if v.HoldUntil != 0 {
			o.expected, o.unavailable = 1, 1
		}
	case v.settledInService():
		o.expected, o.available = 1, 1
	default: // draining, drained, paused, or in service and not settled
		o.expected, o.unavailable = 1, 1
	}
	return o
}

func (v Instance) settledInService() bool {
	return (v.State == InstanceReady || v.State == InstanceQueued) && v.SettleAt == 0
}

// Settled tells whether the instance counts as available.
func (v Instance) Settled() bool { return v.settledInService() }

func (s *State) occupy(v Instance, sign int) {
	o, p := s.occupied[v.Service], places(v)
	o.expected += sign * p.expected
	o.available += sign * p.available
	o.unavailable += sign * p.unavailable
	if o == (occupancy{}) {
		delete(s.occupied, v.Service)
	} else {
		s.occupied[v.Service] = o
	}
}

// unbounded is the room of a budget that does not hold.
const unbounded = math.MaxInt32

// room is how many more may be taken out of service now.
func (s *State) room(service string) int {
	if s.liftedByPlan(service) {
		return unbounded
	}
	v, _ := s.services.get(service)
	o := s.occupied[service]
	if min, is := v.minAvailable(s.expected(v, o)); is {
		return max(0, o.available-min)
	}
	return max(0, v.maxUnavailable(s.expected(v, o))-o.unavailable)
}

// expected is the base of percentages.
func (s *State) expected(v Service, o occupancy) int {
	if v.Replicas > 0 {
		return int(v.Replicas)
	}
	return o.expected
}

func (v Service) minAvailable(base int) (n int, is bool) {
	switch {
	case v.MinAvailable > 0:
		return int(v.MinAvailable), true
	case v.MinAvailablePercent > 0:
		return (base*int(v.MinAvailablePercent) + 99) / 100, true
	}
	return 0, false
}

func (v Service) maxUnavailable(base int) int {
	if v.MaxUnavailablePercent > 0 {
		return max(1, base*int(v.MaxUnavailablePercent)/100)
	}
	return int(v.MaxUnavailable)
}

// mayTake tells whether an instance may be taken out of service. What it takes up itself, because it has not settled, is not held
// against it: it may go if the budget holds without it.
func (s *State) mayTake(v Instance) bool {
	service, _ := s.services.get(v.Service)
	switch {
	case service.Freeze:
		return false
	case s.liftedByPlan(v.Service):
		return true
	}
	o, own := s.occupied[v.Service], places(v)
	base := s.expected(service, o)
	if minimum, is := service.minAvailable(base); is {
		return o.available-own.available >= minimum
	}
	return o.unavailable-own.unavailable+1 <= service.maxUnavailable(base)
}

// Occupancy is how the budget of a service stands.
type Occupancy struct{ Expected, Available, Unavailable, Room, Queued int }

// Occupancy counts the service's instances.
func (s *State) Occupancy(service string) Occupancy {
	v, _ := s.services.get(service)
	o := s.occupied[service]
	out := Occupancy{Expected: s.expected(v, o), Available: o.available, Unavailable: o.unavailable, Queued: s.drains.count(service)}
	if !v.Freeze {
		out.Room = min(s.room(service), o.available)
	}
	return out
}

// Kept places.

// holdOf tells until when the place of an instance that ends now is kept for a successor; 0: not at all.
func (s *State) holdOf(v Instance, to InstanceState) uint64 {
	service, ok := s.services.get(v.Service)
	if !ok || !v.Served || v.Intent == IntentRemove {
		return 0
	}
	// With declared replicas it is known whether somebody is missing: a platform that starts the successor first leaves no gap.
	if after := s.occupied[v.Service].expected - places(v).expected; service.Replicas > 0 && after >= int(service.Replicas) {
		return 0
	}
	holdMs := service.LostHoldMs
	if to == InstanceLeft {
		holdMs = service.RestartHoldMs
	}
	if holdMs == 0 {
		return 0
	}
	return s.counters.Now + holdMs
}

// follow gives a kept place to an instance that goes into service: that of its own name, else the oldest.
func (s *State) follow(v Instance) Instance {
	var old Instance
	s.held.each(v.Service, func(p pair) bool {
		have, _ := s.instances.get(p.name)
		if old.ID == "" || have.Name == v.Name {
			old = have
		}
		return have.Name != v.Name
	})
	if old.ID == "" {
		return v
	}
	old.HoldUntil, old.Successor = 0, v.ID
	s.putInstance(old)
	v.Follows = old.ID
	return v
}

func (s *State) holdDue(id string, due uint64) {
	v, ok := s.instances.get(id)
	if !ok || v.HoldUntil != due {
		return
	}
	v.HoldUntil, v.Abandoned = 0, true
	s.putInstance(v)
	s.reconsider(v.Service)
	s.considerCleanups(v.Service)
}

// dropHolds forgets the kept places of a service that is deleted.
func (s *State) dropHolds(service string) {
	for _, p := range s.held.all(service) {
		v, _ := s.instances.get(p.name)
		v.HoldUntil = 0
		s.putInstance(v)
	}
}

// KeptPlaces visits the ended instances whose places are kept, oldest incarnation first.
func (s *State) KeptPlaces(service string, visit func(Instance) bool) {
	s.held.each(service, func(p pair) bool {
		v, _ := s.instances.get(p.name)
		return visit(v)
	})
}
