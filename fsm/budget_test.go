package fsm

import (
	"fmt"
	"testing"
)

// recount is the obvious way to count a service: look at every instance there is.
func recount(s *State, service string) (o occupancy) {
	s.Instances("", func(v Instance) bool {
		if v.Service != service || !v.Served {
			return true
		}
		ended := v.State == InstanceLeft || v.State == InstanceForced || v.State == InstanceLost
		switch {
		case ended && v.HoldUntil == 0:
			return true
		case !ended && v.SettleAt == 0 && (v.State == InstanceReady || v.State == InstanceQueued):
			o.available++
		default:
			o.unavailable++
		}
		o.expected++
		return true
	})
	return o
}

func mayTake(s *State, id string) bool {
	v, _ := s.Instance(id)
	return s.mayTake(v)
}

// checkGrant is called at the moment of each grant: the budget must hold then, whatever happens later in the same entry.
func checkGrant(t testing.TB, s *State, v Instance) {
	t.Helper()
	if v.Overdraft || v.From != InstanceReady || s.liftedByPlan(v.Service) {
		return
	}
	service, _ := s.Service(v.Service)
	o := recount(s, v.Service)
	base := o.expected
	if service.Replicas > 0 {
		base = int(service.Replicas)
	}
	var bad bool
	switch {
	case service.Freeze:
		bad = true
	case service.MaxUnavailable > 0:
		bad = o.unavailable > int(service.MaxUnavailable)
	case service.MaxUnavailablePercent > 0:
		bad = o.unavailable > 1 && o.unavailable*100 > base*int(service.MaxUnavailablePercent)
	case service.MinAvailable > 0:
		bad = o.available < int(service.MinAvailable)
	default:
		bad = o.available*100 < base*int(service.MinAvailablePercent)
	}
	if bad {
		t.Fatalf("I7: %s was granted with %+v under %+v", v.ID, o, service)
	}
}

func checkServices(s *State) error {
	var err error
	s.Services("", func(v Service) bool {
		if have, want := s.occupied[v.Name], recount(s, v.Name); have != want {
			err = fmt.Errorf("I7: %s is counted as %+v, and is %+v", v.Name, have, want)
		}
		if head, waiting := s.drains.first(v.Name); waiting && err == nil && mayTake(s, head.name) {
			err = fmt.Errorf("I7: %s waits although there is room", head.name)
		}
		return err == nil
	})
	// A state that was just restored may have deadlines behind it: they fire with its first entry.
	if t, ok := s.timers.tree.Min(); ok && t.due <= s.Now() {
		return err
	}
	if t, ok := s.urgent.tree.Min(); ok && t.due <= s.Now() {
		return err
	}
	s.Instances("", func(v Instance) bool {
		switch {
		case err != nil:
		case v.State == InstanceQueued && v.GrantBy != 0 && v.GrantBy <= s.Now():
			err = fmt.Errorf("I7: %s is still queued %d ms after its platform's patience", v.ID, s.Now()-v.GrantBy)
		case v.State == InstanceDraining && v.DrainUntil < s.Now():
			err = fmt.Errorf("%s drains past its deadline", v.ID)
		case v.HoldUntil != 0 && (v.HoldUntil <= s.Now() || v.State.live() || !s.services.has(v.Service)):
			err = fmt.Errorf("%s keeps a place that it should not", v.ID)
		}
		return err == nil
	})
	return err
}

func checkPlans(s *State) error {
	var err error
	busy := map[string]uint64{}
	s.Plans(0, func(p Plan) bool {
		if !p.State.underWay() {
			return true
		}
		for i, step := range p.Steps {
			if other := busy[step.Service]; other != 0 {
				err = fmt.Errorf("plans %d and %d work on %s", other, p.ID, step.Service)
			}
			busy[step.Service] = p.ID
			if i != p.Step {
				continue
			}
			if p.State == PlanRunning && !step.Begun {
				err = fmt.Errorf("plan %d runs and has not begun with %s", p.ID, step.Service)
			}
			failed := p.Strays
			for _, t := range step.Targets {
				v, known := s.Instance(t.ID)
				if t.State == TargetFailed {
					failed++
				}
				if known && (t.State == TargetQueued) != (v.State == InstanceQueued) && !t.State.through() && t.State != TargetPending {
					err = fmt.Errorf("plan %d believes %s %s, it is %s", p.ID, t.ID, t.State, v.State)
				}
			}
			if failed >= int(p.Rules.HaltAfter) {
				err = fmt.Errorf("plan %d goes on after %d failures of %d", p.ID, failed, p.Rules.HaltAfter)
			}
		}
		return err == nil
	})
	return err
}

func checkCleanups(s *State) error {
	var err error
	s.Cleanups(0, func(c Cleanup) bool {
		if c.State == CleanupRunning && !c.DryRun {
			s.Services("", func(v Service) bool {
				if v.Cleanup != nil && v.Cleanup.Target == c.Target && overlap(v.Cleanup.Patterns, c.Patterns) && s.members.count(v.Name) > 0 {
					err = fmt.Errorf("cleanup %d runs although %s is alive", c.ID, v.Name)
				}
				return err == nil
			})
		}
		return err == nil
	})
	return err
}
