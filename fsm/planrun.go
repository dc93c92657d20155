package fsm

import (
	"fmt"
	"slices"
)

// How a plan moves on. advancePlan is called for a service whenever anything of it has changed, and looks at what is: it does not matter
// what happened in between, or how often.

// advancePlan takes the plan that works on a service as far as it goes now, and tells whether it asked for something that the queue must
// look at.
func (s *State) advancePlan(service string) (asked bool) {
	id := s.working[service]
	if id == 0 {
		return false
	}
	was, _ := s.plans.get(id)
	if was.Step >= len(was.Steps) || was.Steps[was.Step].Service != service {
		return false // its turn has not come, or is over
	}
	p := was.own()
	run := planRun{s: s, p: &p, step: &p.Steps[p.Step]}
	if p.State == PlanRunning && !run.step.Begun {
		run.begin()
	}
	run.look()
	switch {
	case run.failures() >= int(p.Rules.HaltAfter):
		s.endPlan(s.withdraw(p, false), PlanFailed, run.reason())
		return false
	case p.State == PlanRunning:
		asked = run.move()
	}
	if run.changed {
		s.putPlan(p)
	}
	switch {
	case p.State != PlanRunning || !run.through():
		return asked
	case p.Step == len(p.Steps)-1:
		s.endPlan(p, PlanSucceeded, "")
		return false
	}
	p.Step, p.Stage, p.Strays, p.ObserveTo = p.Step+1, "", 0, 0
	s.putPlan(p)
	s.reconsider(p.Steps[p.Step].Service)
	return false
}

// planRun is one look at the step that is under way. The plan and its targets are its own to write.
type planRun struct {
	s       *State
	p       *Plan
	step    *PlanStep
	changed bool
}

// begin takes down who is to be stopped, and in which order: as they registered.
func (r *planRun) begin() {
	r.changed, r.step.Begun = true, true
	r.s.Members(r.step.Service, func(v Instance) bool {
		if len(r.step.Targets) < PlanTargetsMax {
			r.step.Targets = append(r.step.Targets, PlanTarget{ID: v.ID, Name: v.Name, State: TargetPending})
		}
		return true
	})
	total := len(r.step.Targets)
	r.step.Canary = share(r.p.Rules.Canary, r.p.Rules.CanaryPercent, total)
	r.step.Wave = share(r.p.Rules.Wave, r.p.Rules.WavePercent, total)
	r.p.Stage = StageWaves
	if r.step.Canary > 0 && r.step.Canary < total {
		r.p.Stage = StageCanary
	}
}

// share is a number, or a percentage of the total rounded up; 0 when there is neither.
func share(n, percent uint32, total int) int {
	if percent > 0 {
		return (total*int(percent) + 99) / 100
	}
	return min(int(n), total)
}

// look brings the targets up to what their instances are.
func (r *planRun) look() {
	for i := range r.step.Targets {
		t := &r.step.Targets[i]
		if t.State.through() {
			continue
		}
		if now := r.target(*t); now != *t {
			*t, r.changed = now, true
		}
	}
}

func (r *planRun) target(t PlanTarget) PlanTarget {
	v, known := r.s.instances.get(t.ID)
	switch {
	case t.State == TargetPending:
		if !known || !v.State.live() {
			t.State = TargetSkipped
			if known && v.State != InstanceLeft {
				t.State, t.Why = TargetFailed, string(v.State)
			}
		}
		return t
	case !known:
		t.State, t.Why = TargetFailed, "its successor did not come while its place was kept"
		return t
	}
	switch v.State {
	case InstanceQueued:
		t.State = TargetQueued
	case InstanceDraining, InstanceDrained:
		t.State = TargetDraining
	case InstanceLeft:
		return r.left(t, v)
	case InstanceLost, InstanceForced:
		t.State, t.Why = TargetFailed, fmt.Sprintf("%s in phase %s", v.State, v.Phase)
	default:
		t.State = TargetUndone
	}
	return t
}

// left judges a target that has gone: in a restart it is through when its successor has settled.
func (r *planRun) left(t PlanTarget, v Instance) PlanTarget {
	if r.p.Rules.Intent == PlanShutdown {
		t.State = TargetDone
		return t
	}
	t.State, t.Successor = TargetWaiting, v.Successor
	next, known := r.s.instances.get(v.Successor)
	switch {
	case v.Abandoned:
		t.State, t.Why = TargetFailed, "its successor did not come while its place was kept"
	case v.Successor == "" && v.HoldUntil == 0:
		t.State = TargetDone // no place was kept: nobody is missing
	case v.Successor == "":
	case !known || next.State == InstanceLost || next.State == InstanceForced:
		t.State, t.Why = TargetFailed, "its successor was lost"
	case next.Settled() || !next.State.live() || next.State == InstanceDraining || next.State == InstanceDrained:
		t.State = TargetDone // or somebody stops the successor already: not this plan's matter
	}
	return t
}

func (r *planRun) failures() int {
	n := r.p.Strays
	for _, t := range r.step.Targets {
		if t.State == TargetFailed {
			n++
		}
	}
	return n
}

func (r *planRun) reason() string {
	for _, t := range r.step.Targets {
		if t.State == TargetFailed {
			return clip(fmt.Sprintf("%d of %s failed, such as %s: %s", r.failures(), r.step.Service, t.Name, t.Why), ErrorBytesMax)
		}
	}
	return fmt.Sprintf("%d instances of %s were lost or forced", r.failures(), r.step.Service)
}

func (r *planRun) through() bool {
	return r.step.Begun && !slices.ContainsFunc(r.step.Targets, func(t PlanTarget) bool { return !t.State.through() })
}

// move asks for what the stage allows.
func (r *planRun) move() (asked bool) {
	switch r.p.Stage {
	case StageCanary:
		if !r.done(0, r.step.Canary) {
			return r.ask(0, r.step.Canary)
		}
		r.stage(StageObserving)
		r.p.ObserveTo = r.s.counters.Now + r.p.Rules.ObserveMs
		return r.move()
	case StageObserving:
		if r.s.counters.Now < r.p.ObserveTo {
			return false
		}
		r.stage(StageWaves)
		r.p.ObserveTo = 0
		if r.p.Rules.PauseAfter {
			r.p.State, r.p.Why = PlanPaused, "the canary is through: resume to go on"
			return false
		}
		return r.move()
	}
	return r.waves()
}

func (r *planRun) stage(to string) { r.p.Stage, r.changed = to, true }

// waves asks for the present wave at once, or, without a size, for as many as the budget has room for.
func (r *planRun) waves() (asked bool) {
	total := len(r.step.Targets)
	if r.step.Wave == 0 {
		return r.askWithinRoom()
	}
	for from := 0; from < total; {
		to := min(total, from+r.step.Wave)
		if r.step.Canary > 0 && r.step.Canary < total && from == 0 {
			to = r.step.Canary
		}
		if !r.done(from, to) {
			return r.ask(from, to)
		}
		from = to
	}
	return false
}

func (r *planRun) done(from, to int) bool {
	return !slices.ContainsFunc(r.step.Targets[from:to], func(t PlanTarget) bool { return !t.State.through() })
}

func (r *planRun) ask(from, to int) (asked bool) {
	for i := from; i < to; i++ {
		if r.step.Targets[i].State == TargetPending {
			asked = r.askOne(i) || asked
		}
	}
	return asked
}

// askWithinRoom leaves alone those that would only queue: whoever is not asked can still be told to do something else.
func (r *planRun) askWithinRoom() (asked bool) {
	for i := range r.step.Targets {
		if r.step.Targets[i].State != TargetPending {
			continue
		}
		v, _ := r.s.instances.get(r.step.Targets[i].ID)
		if v.State == InstanceReady && (!r.s.mayTake(v) || r.s.drains.count(r.step.Service) > 0) {
			return asked
		}
		asked = r.askOne(i) || asked
	}
	return asked
}

// askOne asks one target to stop. The queue is looked at in the same go: the next question is about what is then.
func (r *planRun) askOne(i int) bool {
	t := &r.step.Targets[i]
	v, _ := r.s.instances.get(t.ID)
	intent := IntentRestart
	if r.p.Rules.Intent == PlanShutdown {
		intent = IntentRemove
	}
	if v.State == InstanceReady || v.State == InstanceRegistered || v.State == InstancePaused {
		r.s.takeTicket(v, DrainInstance{Intent: intent, Reason: r.p.Rules.Reason, plan: r.p.ID})
		r.s.grantQueued(v.Service)
	}
	r.changed = true
	*t = r.target(PlanTarget{ID: t.ID, Name: t.Name, State: TargetQueued})
	return true
}

// planSawEnd counts an instance that ended badly and is no target: a successor that does not live, or somebody new.
func (s *State) planSawEnd(v Instance) {
	id := s.working[v.Service]
	if id == 0 || v.State == InstanceLeft {
		return
	}
	p, _ := s.plans.get(id)
	if p.Step >= len(p.Steps) || p.Steps[p.Step].Service != v.Service || !p.Steps[p.Step].Begun {
		return
	}
	if slices.ContainsFunc(p.Steps[p.Step].Targets, func(t PlanTarget) bool { return t.ID == v.ID || t.Successor == v.ID && t.State == TargetWaiting }) {
		return
	}
	p.Strays++
	s.putPlan(p)
}
