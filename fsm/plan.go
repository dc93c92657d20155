package fsm

import (
	"fmt"
	"slices"
	"strings"
)

// Plans stop or restart whole services, a few instances at a time. They live in the state alone: what an instance does moves its plan on
// in the same entry (planrun.go), so that a plan needs neither a leader's memory nor whoever began it.

// PlanState is where a plan stands.
type PlanState string

const (
	PlanDraft     PlanState = "draft"
	PlanRunning   PlanState = "running"
	PlanPaused    PlanState = "paused"
	PlanSucceeded PlanState = "succeeded"
	PlanFailed    PlanState = "failed"
	PlanCancelled PlanState = "cancelled"
)

func (st PlanState) ended() bool {
	return st == PlanSucceeded || st == PlanFailed || st == PlanCancelled
}

func (st PlanState) underWay() bool { return st == PlanRunning || st == PlanPaused }

// Plan intents.
const (
	PlanRestart  = "restart"
	PlanShutdown = "shutdown"
)

// Stages of a step.
const (
	StageCanary    = "canary"
	StageObserving = "observing"
	StageWaves     = "waves"
)

// PlanRules is what a plan is to do.
type PlanRules struct {
	Intent        string   `cbor:"1,keyasint"`
	Services      []string `cbor:"2,keyasint"` // in the order of the work
	AllowZero     bool     `cbor:"3,keyasint,omitempty"`
	Canary        uint32   `cbor:"4,keyasint,omitempty"`
	CanaryPercent uint32   `cbor:"5,keyasint,omitempty"`
	Wave          uint32   `cbor:"6,keyasint,omitempty"` // 0, with WavePercent 0: as the budget allows
	WavePercent   uint32   `cbor:"7,keyasint,omitempty"`
	ObserveMs     uint64   `cbor:"8,keyasint,omitempty"`
	PauseAfter    bool     `cbor:"9,keyasint,omitempty"`
	HaltAfter     uint32   `cbor:"10,keyasint,omitempty"`
	DeadlineMs    uint64   `cbor:"11,keyasint,omitempty"`
	Reason        string   `cbor:"12,keyasint,omitempty"`
}

// Plan is a plan and how far it is.
type Plan struct {
	ID         uint64     `cbor:"1,keyasint"`
	Rules      PlanRules  `cbor:"2,keyasint"`
	State      PlanState  `cbor:"3,keyasint"`
	Why        string     `cbor:"4,keyasint,omitempty"` // it is paused, or has ended
	Steps      []PlanStep `cbor:"5,keyasint"`
	Step       int        `cbor:"6,keyasint,omitempty"`
	Stage      string     `cbor:"7,keyasint,omitempty"` // of the step under way
	Strays     int        `cbor:"8,keyasint,omitempty"` // lost or forced instances of the step's service that are no targets
	CreatedAt  uint64     `cbor:"9,keyasint"`
	StartedAt  uint64     `cbor:"10,keyasint,omitempty"`
	EndedAt    uint64     `cbor:"11,keyasint,omitempty"`
	ObserveTo  uint64     `cbor:"12,keyasint,omitempty"` // cluster time
	DeadlineAt uint64     `cbor:"13,keyasint,omitempty"`
	Index      uint64     `cbor:"14,keyasint"`
}

// PlanStep is one service of a plan.
type PlanStep struct {
	Service string       `cbor:"1,keyasint"`
	Begun   bool         `cbor:"2,keyasint,omitempty"`
	Canary  int          `cbor:"3,keyasint,omitempty"`
	Wave    int          `cbor:"4,keyasint,omitempty"`
	Targets []PlanTarget `cbor:"5,keyasint,omitempty"` // in the order of their turn
}

// TargetState is where one instance of a plan stands.
type TargetState string

const (
	TargetPending  TargetState = "pending"
	TargetQueued   TargetState = "queued"
	TargetDraining TargetState = "draining"
	TargetWaiting  TargetState = "waiting" // for its successor
	TargetDone     TargetState = "done"
	TargetUndone   TargetState = "undone"
	TargetSkipped  TargetState = "skipped"
	TargetFailed   TargetState = "failed"
)

func (st TargetState) through() bool {
	return st == TargetDone || st == TargetUndone || st == TargetSkipped || st == TargetFailed
}

// PlanTarget is one instance of a step.
type PlanTarget struct {
	_         struct{} `cbor:",toarray"`
	ID        string
	Name      string
	State     TargetState
	Successor string
	Why       string
}

// PlanResult answers the plan commands.
type PlanResult struct {
	ID    uint64    `cbor:"1,keyasint"`
	State PlanState `cbor:"2,keyasint"`
}

// NewPlan makes a draft, and starts it if it shall.
type NewPlan struct {
	Rules PlanRules `cbor:"1,keyasint"`
	Start bool      `cbor:"2,keyasint,omitempty"`

	WallMs uint64 `cbor:"3,keyasint,omitempty"` // when it was asked, to be shown only
}

func (NewPlan) kind() Kind { return kindNewPlan }

func (c NewPlan) apply(s *State) Result {
	p, refused := s.draft(c.Rules)
	if refused.Refused() {
		return refused
	}
	if c.Start {
		if r := s.startable(p); r.Refused() {
			return r
		}
	}
	if !s.roomForPlan() {
		return refuse(CodePlansFull, "as many plans are under way as may be")
	}
	p.ID, p.CreatedAt = s.nextToken(), s.counters.Now
	s.putPlan(p)
	if c.Start {
		s.auditPlan("plans.start", p, c.WallMs, p.Rules.Reason)
		p = s.startPlan(p)
	}
	return planResult(p)
}

// auditPlan records what an operator wished of a plan.
func (s *State) auditPlan(action string, p Plan, wallMs uint64, reason string) {
	s.audit(Act{WallMs: wallMs, Action: action, Subject: fmt.Sprint("plan ", p.ID), Reason: reason,
		Details: []string{p.Rules.Intent + " of " + strings.Join(p.Rules.Services, ", ")}})
}

func planResult(p Plan) Result { return Result{Plan: &PlanResult{ID: p.ID, State: p.State}} }

// draft checks the rules and puts the services in order.
func (s *State) draft(c PlanRules) (Plan, Result) {
	if !c.valid() {
		return Plan{}, refuse(CodeInvalid, "intent, services, canary, wave, times or reason out of bounds")
	}
	for _, name := range c.Services {
		if !s.services.has(name) {
			return Plan{}, refuse(CodeServiceNotFound, "no such service: "+name)
		}
	}
	if c.Intent == PlanShutdown && !c.AllowZero {
		return Plan{}, refuse(CodeZeroNotAllowed, "a shutdown leaves no instance of "+c.Services[0]+": say allow_zero if that is meant")
	}
	c.Services = s.inOrder(c)
	c.HaltAfter = max(1, c.HaltAfter)
	p := Plan{Rules: c, State: PlanDraft}
	for _, name := range c.Services {
		p.Steps = append(p.Steps, PlanStep{Service: name})
	}
	return p, Result{}
}

func (c PlanRules) valid() bool {
	return (c.Intent == PlanRestart || c.Intent == PlanShutdown) && len(c.Services) > 0 && len(c.Services) <= PlanServicesMax &&
		!slices.ContainsFunc(c.Services, func(name string) bool { return name == "" || len(name) > NameBytesMax }) &&
		c.Canary <= PlanTargetsMax && c.Wave <= PlanTargetsMax && c.CanaryPercent <= 100 && c.WavePercent <= 100 && c.HaltAfter <= PlanTargetsMax &&
		(c.Canary == 0 || c.CanaryPercent == 0) && (c.Wave == 0 || c.WavePercent == 0) && c.ObserveMs <= PlanWindowMaxMs && c.DeadlineMs <= PlanWindowMaxMs &&
		len(c.Reason) <= ReasonBytesMax && !(c.AllowZero && c.Intent == PlanRestart)
}

// inOrder: a restart begins with what others depend on; a shutdown ends with it.
func (s *State) inOrder(c PlanRules) []string {
	var out []string
	s.walkDependencies(slices.Sorted(slices.Values(c.Services)), func(name string) {
		if slices.Contains(c.Services, name) {
			out = append(out, name)
		}
	})
	if c.Intent == PlanShutdown {
		slices.Reverse(out)
	}
	return out
}

// roomForPlan forgets the oldest plan that is not under way when there are too many.
func (s *State) roomForPlan() bool {
	if s.plans.len() < PlansMax {
		return true
	}
	oldest := uint64(0)
	s.plans.ascend(0, func(id uint64, p Plan) bool {
		if !p.State.underWay() {
			oldest = id
		}
		return oldest == 0
	})
	if oldest == 0 {
		return false
	}
	s.plans.delete(oldest)
	return true
}

func (s *State) putPlan(p Plan) {
	p.Index = s.nextRevision()
	s.plans.set(p.ID, p)
	s.indexPlan(p)
}

func (s *State) indexPlan(p Plan) {
	for _, step := range p.Steps {
		switch {
		case p.State.underWay():
			s.working[step.Service] = p.ID
		case s.working[step.Service] == p.ID:
			delete(s.working, step.Service)
		}
	}
	if !p.State.underWay() {
		return
	}
	if p.ObserveTo != 0 {
		s.setTimer(timer{due: p.ObserveTo, what: timerObserve, id: p.ID})
	}
	if p.DeadlineAt != 0 {
		s.setTimer(timer{due: p.DeadlineAt, what: timerPlan, id: p.ID})
	}
}

// liftedByPlan tells whether the budget of a service does not hold because a shutdown stops it now.
func (s *State) liftedByPlan(service string) bool {
	id := s.working[service]
	if id == 0 {
		return false
	}
	p, _ := s.plans.get(id)
	return p.Rules.AllowZero && p.Step < len(p.Steps) && p.Steps[p.Step].Service == service
}

// StartPlan starts a draft.
type StartPlan struct {
	ID     uint64 `cbor:"1,keyasint"`
	WallMs uint64 `cbor:"2,keyasint,omitempty"`
}

func (StartPlan) kind() Kind { return kindStartPlan }

func (c StartPlan) apply(s *State) Result {
	p, ok := s.plans.get(c.ID)
	switch {
	case !ok:
		return refuse(CodePlanNotFound, "no such plan")
	case p.State == PlanRunning:
		return planResult(p)
	case p.State != PlanDraft:
		return refuse(CodePlanState, "the plan is "+string(p.State))
	}
	if r := s.startable(p); r.Refused() {
		return r
	}
	s.auditPlan("plans.start", p, c.WallMs, p.Rules.Reason)
	return planResult(s.startPlan(p))
}

func (s *State) startable(p Plan) Result {
	for _, step := range p.Steps {
		switch {
		case !s.services.has(step.Service):
			return refuse(CodeServiceNotFound, "no such service: "+step.Service)
		case s.working[step.Service] != 0:
			return refuse(CodePlanRunning, fmt.Sprintf("plan %d works on %s", s.working[step.Service], step.Service))
		case s.members.count(step.Service) > PlanTargetsMax:
			return refuse(CodeInvalid, fmt.Sprintf("%s has more than %d instances", step.Service, PlanTargetsMax))
		}
	}
	return Result{}
}

func (s *State) startPlan(p Plan) Plan {
	p.State, p.StartedAt = PlanRunning, s.counters.Now
	if p.Rules.DeadlineMs > 0 {
		p.DeadlineAt = p.StartedAt + p.Rules.DeadlineMs
	}
	s.putPlan(p)
	return s.planReconsidered(p)
}

// planReconsidered is the plan after the service that it works on was reconsidered.
func (s *State) planReconsidered(p Plan) Plan {
	if p.Step < len(p.Steps) {
		s.reconsider(p.Steps[p.Step].Service)
	}
	p, _ = s.plans.get(p.ID)
	return p
}

// PausePlan stops a plan's asking: what is queued is withdrawn, what drains goes on.
type PausePlan struct {
	ID     uint64 `cbor:"1,keyasint"`
	Reason string `cbor:"2,keyasint,omitempty"`
	WallMs uint64 `cbor:"3,keyasint,omitempty"`
}

func (PausePlan) kind() Kind { return kindPausePlan }

func (c PausePlan) apply(s *State) Result {
	p, ok := s.plans.get(c.ID)
	c.Reason = clip(c.Reason, ReasonBytesMax)
	switch {
	case !ok:
		return refuse(CodePlanNotFound, "no such plan")
	case p.State == PlanPaused:
		return planResult(p)
	case p.State != PlanRunning:
		return refuse(CodePlanState, "the plan is "+string(p.State))
	}
	s.auditPlan("plans.pause", p, c.WallMs, c.Reason)
	p.State, p.Why = PlanPaused, c.Reason
	return planResult(s.planReconsidered(s.withdraw(p, false)))
}

// ResumePlan lets a paused plan go on.
type ResumePlan struct {
	ID     uint64 `cbor:"1,keyasint"`
	Reason string `cbor:"2,keyasint,omitempty"`
	WallMs uint64 `cbor:"3,keyasint,omitempty"`
}

func (ResumePlan) kind() Kind { return kindResumePlan }

func (c ResumePlan) apply(s *State) Result {
	p, ok := s.plans.get(c.ID)
	c.Reason = clip(c.Reason, ReasonBytesMax)
	switch {
	case !ok:
		return refuse(CodePlanNotFound, "no such plan")
	case p.State == PlanRunning:
		return planResult(p)
	case p.State != PlanPaused:
		return refuse(CodePlanState, "the plan is "+string(p.State))
	}
	s.auditPlan("plans.resume", p, c.WallMs, c.Reason)
	p.State, p.Why = PlanRunning, ""
	s.putPlan(p)
	return planResult(s.planReconsidered(p))
}

// CancelPlan ends a plan. Drains that it asked for are undone where they still can be; the others end by themselves.
type CancelPlan struct {
	ID     uint64 `cbor:"1,keyasint"`
	Reason string `cbor:"2,keyasint,omitempty"`
	Failed bool   `cbor:"3,keyasint,omitempty"` // because a check failed
	WallMs uint64 `cbor:"4,keyasint,omitempty"`
}

func (CancelPlan) kind() Kind { return kindCancelPlan }

func (c CancelPlan) apply(s *State) Result {
	p, ok := s.plans.get(c.ID)
	c.Reason = clip(c.Reason, ReasonBytesMax)
	to := PlanCancelled
	if c.Failed {
		to = PlanFailed
	}
	switch {
	case !ok:
		return refuse(CodePlanNotFound, "no such plan")
	case p.State == to:
		return planResult(p)
	case p.State.ended():
		return refuse(CodePlanState, "the plan is "+string(p.State))
	}
	s.auditPlan("plans.cancel", p, c.WallMs, c.Reason)
	return planResult(s.endPlan(s.withdraw(p, true), to, c.Reason))
}

// withdraw takes back what the plan asked for and was not granted; all also what can be undone. The plan is stored.
func (s *State) withdraw(p Plan, all bool) Plan {
	if p.Step < len(p.Steps) {
		p = p.own()
		targets := p.Steps[p.Step].Targets
		for i, t := range targets {
			v, _ := s.instances.get(t.ID)
			if v.Plan == p.ID && v.undoable() && (all || v.State == InstanceQueued) {
				s.undo(v)
				targets[i].State = TargetPending
			}
		}
	}
	s.putPlan(p)
	return p
}

// own gives a plan whose targets may be written to: what is stored does not change.
func (p Plan) own() Plan {
	p.Steps = slices.Clone(p.Steps)
	p.Steps[p.Step].Targets = slices.Clone(p.Steps[p.Step].Targets)
	return p
}

func (s *State) endPlan(p Plan, to PlanState, why string) Plan {
	service := ""
	if p.Step < len(p.Steps) {
		service = p.Steps[p.Step].Service
	}
	p.State, p.Why, p.EndedAt, p.ObserveTo = to, why, s.counters.Now, 0
	s.putPlan(p)
	if service != "" {
		s.grantQueued(service) // places that it took back are free for others
	}
	return p
}

func (s *State) observed(id, due uint64) {
	p, ok := s.plans.get(id)
	if ok && p.ObserveTo == due && p.State.underWay() {
		s.reconsider(p.Steps[p.Step].Service)
	}
}

func (s *State) planOverdue(id, due uint64) {
	p, ok := s.plans.get(id)
	if ok && p.DeadlineAt == due && p.State.underWay() {
		s.endPlan(s.withdraw(p, false), PlanFailed, "its deadline has passed")
	}
}

// Plan gives a plan by id.
func (s *State) Plan(id uint64) (Plan, bool) { return s.plans.get(id) }

// Plans visits the plans in the order of their making, from the given id.
func (s *State) Plans(from uint64, visit func(Plan) bool) {
	s.plans.ascend(from, func(_ uint64, p Plan) bool { return visit(p) })
}
