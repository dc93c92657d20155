package fsm

import (
	"bytes"
	"fmt"
	"slices"
)

// Service is a group of instances under one disruption budget: one of the four numbers.
type Service struct {
	Name                  string          `cbor:"1,keyasint"`
	Version               uint64          `cbor:"2,keyasint"` // +1 per change; the precondition of PutService
	MaxUnavailable        uint32          `cbor:"3,keyasint,omitempty"`
	Index                 uint64          `cbor:"4,keyasint"`
	MaxUnavailablePercent uint32          `cbor:"5,keyasint,omitempty"`
	MinAvailable          uint32          `cbor:"6,keyasint,omitempty"`
	MinAvailablePercent   uint32          `cbor:"7,keyasint,omitempty"`
	Replicas              uint32          `cbor:"8,keyasint,omitempty"` // 0: as many as are expected
	SettleMs              uint64          `cbor:"9,keyasint,omitempty"`
	RestartHoldMs         uint64          `cbor:"10,keyasint,omitempty"`
	LostHoldMs            uint64          `cbor:"11,keyasint,omitempty"`
	DependsOn             []string        `cbor:"12,keyasint,omitempty"` // sorted
	ReadOnly              bool            `cbor:"13,keyasint,omitempty"`
	Freeze                bool            `cbor:"14,keyasint,omitempty"`
	Cleanup               *ServiceCleanup `cbor:"15,keyasint,omitempty"`
}

// ServiceCleanup says which cache keys go with the last instance.
type ServiceCleanup struct {
	Target   string   `cbor:"1,keyasint"`
	Patterns []string `cbor:"2,keyasint"`
	DelayMs  uint64   `cbor:"3,keyasint,omitempty"`
}

// What a service has that nobody declared, or that leaves it out.
const (
	MaxUnavailableDefault = 1
	SettleDefaultMs       = 10_000
	RestartHoldDefaultMs  = 120_000
	LostHoldDefaultMs     = 120_000
)

// Switch is a value that a command may leave as it is.
type Switch uint8

const (
	SwitchAsIs Switch = iota
	SwitchOff
	SwitchOn
)

func (w Switch) of(was bool) bool {
	if w == SwitchAsIs {
		return was
	}
	return w == SwitchOn
}

// ServiceResult answers the service commands.
type ServiceResult struct {
	Name    string `cbor:"1,keyasint,omitempty" json:",omitempty"`
	Version uint64 `cbor:"2,keyasint,omitempty" json:",omitempty"`
}

// PutService declares a service or changes it. At most one of the four budgets; none means MaxUnavailable 1. Nil times mean the defaults.
// IfVersion 0 asks nothing; any other value must be the present version. What changes nothing leaves the version.
type PutService struct {
	Name                  string          `cbor:"1,keyasint"`
	MaxUnavailable        uint32          `cbor:"2,keyasint,omitempty"`
	IfVersion             uint64          `cbor:"3,keyasint,omitempty"`
	MaxUnavailablePercent uint32          `cbor:"4,keyasint,omitempty"`
	MinAvailable          uint32          `cbor:"5,keyasint,omitempty"`
	MinAvailablePercent   uint32          `cbor:"6,keyasint,omitempty"`
	Replicas              uint32          `cbor:"7,keyasint,omitempty"`
	SettleMs              *uint64         `cbor:"8,keyasint,omitempty"`
	RestartHoldMs         *uint64         `cbor:"9,keyasint,omitempty"`
	LostHoldMs            *uint64         `cbor:"10,keyasint,omitempty"`
	DependsOn             []string        `cbor:"11,keyasint,omitempty"`
	ReadOnly              Switch          `cbor:"12,keyasint,omitempty"`
	Freeze                Switch          `cbor:"13,keyasint,omitempty"`
	Cleanup               *ServiceCleanup `cbor:"14,keyasint,omitempty"`
	WallMs                uint64          `cbor:"15,keyasint,omitempty"` // when it was asked, to be shown only
}

func (PutService) kind() Kind { return kindPutService }

func (c PutService) apply(s *State) Result {
	if !c.valid() {
		return refuse(CodeInvalid, "service name, budget, times, dependencies or cleanup out of bounds")
	}
	old, known := s.services.get(c.Name)
	switch {
	case c.IfVersion != 0 && c.IfVersion != old.Version:
		return refuse(CodeVersionMismatch, "the service has another version")
	case !known && s.services.len() >= ServicesMax:
		return refuse(CodeServicesFull, "the cluster knows as many services as it may")
	case s.dependsOn(c.DependsOn, c.Name):
		return refuse(CodeDependencyCycle, "what it depends on depends on it")
	}
	v := c.service(old)
	if known && bytes.Equal(encode(v), encode(old)) {
		return Result{Service: &ServiceResult{Name: old.Name, Version: old.Version}}
	}
	s.auditSwitch("read_only", c, old.ReadOnly, v.ReadOnly)
	s.auditSwitch("freeze", c, old.Freeze, v.Freeze)
	v.Version, v.Index = old.Version+1, s.nextRevision()
	s.services.set(c.Name, v)
	if s.members.count(c.Name) > 0 {
		s.stopCleanups(c.Name)
	}
	s.reconsider(c.Name)
	return Result{Service: &ServiceResult{Name: v.Name, Version: v.Version}}
}

// auditSwitch records what an operator switched.
func (s *State) auditSwitch(name string, c PutService, was, is bool) {
	if was != is {
		s.audit(Act{WallMs: c.WallMs, Action: "services." + name, Subject: c.Name, Details: []string{fmt.Sprint(is)}})
	}
}

// service is what the command makes of the old one.
func (c PutService) service(old Service) Service {
	or := func(ms *uint64, otherwise uint64) uint64 {
		if ms != nil {
			return *ms
		}
		return otherwise
	}
	v := Service{Name: c.Name, Version: old.Version, Index: old.Index, Replicas: c.Replicas, MaxUnavailable: c.MaxUnavailable,
		MaxUnavailablePercent: c.MaxUnavailablePercent, MinAvailable: c.MinAvailable, MinAvailablePercent: c.MinAvailablePercent,
		SettleMs: or(c.SettleMs, SettleDefaultMs), RestartHoldMs: or(c.RestartHoldMs, RestartHoldDefaultMs), LostHoldMs: or(c.LostHoldMs, LostHoldDefaultMs),
		ReadOnly: c.ReadOnly.of(old.ReadOnly), Freeze: c.Freeze.of(old.Freeze), Cleanup: c.Cleanup}
	if c.budgets() == 0 {
		v.MaxUnavailable = MaxUnavailableDefault
	}
	if len(c.DependsOn) > 0 {
		v.DependsOn = slices.Compact(slices.Sorted(slices.Values(c.DependsOn)))
	}
	return v
}

func (c PutService) budgets() int {
	n := 0
	for _, v := range [...]uint32{c.MaxUnavailable, c.MaxUnavailablePercent, c.MinAvailable, c.MinAvailablePercent} {
		if v > 0 {
			n++
		}
	}
	return n
}

func (c PutService) valid() bool {
	within := func(ms *uint64) bool { return ms == nil || *ms <= HoldMaxMs }
	return c.Name != "" && len(c.Name) <= NameBytesMax && c.budgets() <= 1 && c.Replicas <= ReplicasMax &&
		c.MaxUnavailable <= ReplicasMax && c.MinAvailable <= ReplicasMax && c.MaxUnavailablePercent <= 100 && c.MinAvailablePercent <= 100 &&
		within(c.SettleMs) && within(c.RestartHoldMs) && within(c.LostHoldMs) && c.ReadOnly <= SwitchOn && c.Freeze <= SwitchOn &&
		len(c.DependsOn) <= DependsOnMax &&
		!slices.ContainsFunc(c.DependsOn, func(name string) bool { return name == "" || len(name) > NameBytesMax }) &&
		(c.Cleanup == nil || c.Cleanup.Target != "" && len(c.Cleanup.Target) <= NameBytesMax && validPatterns(c.Cleanup.Patterns) && c.Cleanup.DelayMs <= CleanupDelayMaxMs)
}

// dependsOn tells whether any of the services is the wanted one, or depends on it, over however many others.
func (s *State) dependsOn(names []string, wanted string) bool {
	found := false
	s.walkDependencies(names, func(name string) { found = found || name == wanted })
	return found
}

// walkDependencies visits the services and all that they depend on, each once, what is depended on first.
func (s *State) walkDependencies(names []string, visit func(name string)) {
	seen := map[string]bool{}
	var walk func(names []string)
	walk = func(names []string) {
		for _, name := range names {
			if seen[name] {
				continue
			}
			seen[name] = true
			v, _ := s.services.get(name)
			walk(v.DependsOn)
			visit(name)
		}
	}
	walk(names)
}

// DeleteService forgets a service without live instances, with what is recorded of it and the places that it keeps.
type DeleteService struct {
	Name      string `cbor:"1,keyasint"`
	IfVersion uint64 `cbor:"2,keyasint,omitempty"`
}

func (DeleteService) kind() Kind { return kindDeleteService }

func (c DeleteService) apply(s *State) Result {
	old, known := s.services.get(c.Name)
	switch {
	case !known:
		return refuse(CodeServiceNotFound, "no such service")
	case c.IfVersion != 0 && c.IfVersion != old.Version:
		return refuse(CodeVersionMismatch, "the service has another version")
	case s.working[c.Name] != 0:
		return refuse(CodeServiceInUse, "a plan works on the service")
	}
	if _, live := s.members.first(c.Name); live {
		return refuse(CodeServiceInUse, "the service has live instances")
	}
	s.dropHolds(c.Name)
	s.considerCleanups(c.Name)
	s.services.delete(c.Name)
	s.records.delete(c.Name)
	return Result{Service: &ServiceResult{Name: c.Name, Version: old.Version}}
}

// Service gives a service by name.
func (s *State) Service(name string) (Service, bool) { return s.services.get(name) }

// Services visits the services in the order of their names, from the given one.
func (s *State) Services(from string, visit func(Service) bool) {
	s.services.ascend(from, func(_ string, v Service) bool { return visit(v) })
}
