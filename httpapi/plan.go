package httpapi

import (
	"context"
	"net/http"
	"strconv"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

func (s *Server) newPlanOp() operation[api.NewPlan, api.PlanStatus] {
	return operation[api.NewPlan, api.PlanStatus]{s: s, name: api.OpNewPlan,
		plan: func(_ context.Context, c call[api.NewPlan]) (fsm.Command, error) {
			if c.body.DryRun {
				return nil, invalid("body.dry_run", "a dry run is no operation of a batch")
			}
			rules, p := rulesOf(&c.body.PlanRules)
			if p != nil {
				return nil, p
			}
			return fsm.NewPlan{Rules: rules, Start: c.body.Start, WallMs: wallMs()}, nil
		},
		answer: planStatus,
	}
}

func planStatus(r fsm.Result) (api.PlanStatus, int) {
	return api.PlanStatus{ID: r.Plan.ID, State: string(r.Plan.State)}, http.StatusOK
}

// newPlan makes a plan, or tells what it would be.
func (s *Server) newPlan(ctx context.Context, in *withBody[api.NewPlan]) (*answer[api.PlanStatus], error) {
	if in.Body.DryRun {
		return s.outline(ctx, &in.Body)
	}
	o := s.newPlanOp()
	r, err := o.run(ctx, in.Keyed, &in.Body)
	if err != nil {
		return nil, err
	}
	out := &answer[api.PlanStatus]{Index: r.Index}
	out.Body, out.Status = o.answer(r)
	return out, nil
}

func (s *Server) outline(ctx context.Context, b *api.NewPlan) (*answer[api.PlanStatus], error) {
	if b.Start {
		return nil, invalid("body.start", "a dry run starts nothing")
	}
	rules, p := rulesOf(&b.PlanRules)
	if p != nil {
		return nil, p
	}
	if err := s.fresh(ctx, api.Linearizable); err != nil {
		return nil, err
	}
	out := &answer[api.PlanStatus]{Status: http.StatusOK}
	var refused fsm.Result
	s.view(func(v view) {
		var draft fsm.Plan
		out.Index = v.Revision()
		if draft, refused = v.Outline(rules); refused.Refused() {
			return
		}
		plan := planOf(v, draft, true)
		out.Body = api.PlanStatus{State: api.PlanDraft, Plan: &plan}
	})
	if refused.Refused() {
		refused.Index = out.Index
		return nil, refusedBy(refused)
	}
	return out, nil
}

func rulesOf(b *api.PlanRules) (fsm.PlanRules, *refusal) {
	switch {
	case b.Canary > 0 && b.CanaryPercent > 0:
		return fsm.PlanRules{}, invalid("body.canary", "a number or a percentage, not both")
	case b.Wave > 0 && b.WavePercent > 0:
		return fsm.PlanRules{}, invalid("body.wave", "a number or a percentage, not both")
	case b.AllowZero && b.Intent == api.PlanRestart:
		return fsm.PlanRules{}, invalid("body.allow_zero", "a restart always keeps the budget")
	}
	for _, name := range b.Services {
		if p := checkSlug("body.services", name); p != nil {
			return fsm.PlanRules{}, p
		}
	}
	return fsm.PlanRules{Intent: b.Intent, Services: b.Services, AllowZero: b.AllowZero, Canary: b.Canary, CanaryPercent: b.CanaryPercent, Wave: b.Wave,
		WavePercent: b.WavePercent, ObserveMs: b.ObserveMs, PauseAfter: b.PauseAfter, HaltAfter: b.HaltAfter, DeadlineMs: b.DeadlineMs, Reason: b.Reason}, checkReason(b.Reason)
}

// planSays is the shape of what is wished of a plan.
func (s *Server) planSays(name string, command func(id uint64, b *api.PlanWish) fsm.Command) operation[api.PlanWish, api.PlanStatus] {
	return operation[api.PlanWish, api.PlanStatus]{s: s, name: name,
		plan: func(_ context.Context, c call[api.PlanWish]) (fsm.Command, error) {
			id, p := number(c.subject)
			if p != nil {
				return nil, p
			}
			if p := checkReason(c.body.Reason); p != nil {
				return nil, p
			}
			if c.body.Failed && name != api.OpCancelPlan {
				return nil, invalid("body.failed", "only a cancellation can say so")
			}
			return command(id, c.body), nil
		},
		answer: planStatus,
	}
}

// number reads an id that is a token.
func number(id string) (uint64, *refusal) {
	n, err := strconv.ParseUint(id, 10, 64)
	if err != nil {
		return 0, invalid("path.id", "must be a number")
	}
	return n, nil
}

func startPlan(id uint64, _ *api.PlanWish) fsm.Command {
	return fsm.StartPlan{ID: id, WallMs: wallMs()}
}

func pausePlan(id uint64, b *api.PlanWish) fsm.Command {
	return fsm.PausePlan{ID: id, Reason: b.Reason, WallMs: wallMs()}
}

func resumePlan(id uint64, b *api.PlanWish) fsm.Command {
	return fsm.ResumePlan{ID: id, Reason: b.Reason, WallMs: wallMs()}
}

func cancelPlan(id uint64, b *api.PlanWish) fsm.Command {
	return fsm.CancelPlan{ID: id, Reason: b.Reason, Failed: b.Failed, WallMs: wallMs()}
}

type planListing struct {
	Listing
	State string `query:"state" enum:"draft,running,paused,succeeded,failed,cancelled"`
}

func listPlans(v view, q *planListing, p *page) api.Plans {
	out := api.Plans{Plans: []api.Plan{}}
	from, _ := strconv.ParseUint(p.after, 10, 64)
	v.Plans(from, func(x fsm.Plan) bool {
		take, further := p.row(tokenKey(x.ID), q.State == "" || q.State == string(x.State))
		if take {
			out.Plans = append(out.Plans, planOf(v, x, false))
		}
		return further
	})
	out.Page = p.head()
	return out
}

func findPlan(v view, id string) (api.Plan, uint64, fsm.Code) {
	n, p := number(id)
	x, ok := v.Plan(n)
	if p != nil || !ok {
		return api.Plan{}, 0, fsm.CodePlanNotFound
	}
	return planOf(v, x, true), 0, ""
}

func planOf(v view, x fsm.Plan, whole bool) api.Plan {
	r := x.Rules
	out := api.Plan{ID: x.ID, State: string(x.State), Why: x.Why, Steps: []api.PlanStep{}, Step: x.Step, Stage: x.Stage, Failures: x.Strays, Index: x.Index,
		ObserveRemainingMs: v.until(x.ObserveTo), PlanRules: api.PlanRules{Intent: r.Intent, Services: r.Services, AllowZero: r.AllowZero, Canary: r.Canary,
			CanaryPercent: r.CanaryPercent, Wave: r.Wave, WavePercent: r.WavePercent, ObserveMs: r.ObserveMs, PauseAfter: r.PauseAfter, HaltAfter: r.HaltAfter,
			DeadlineMs: r.DeadlineMs, Reason: r.Reason}}
	if x.ID != 0 {
		out.AgeMs = v.since(x.CreatedAt)
	}
	for i, step := range x.Steps {
		out.Steps = append(out.Steps, stepOf(v, x, i, step, whole, &out))
	}
	if x.State == fsm.PlanRunning {
		out.Why = heldUpBy(x)
	}
	switch {
	case x.StartedAt != 0 && x.EndedAt != 0:
		out.RunsForMs = minus(x.EndedAt, x.StartedAt)
	case x.StartedAt != 0:
		out.RunsForMs, out.DeadlineInMs = v.since(x.StartedAt), v.until(x.DeadlineAt)
	case whole:
		out.Estimate = estimateOf(v.Estimate(x))
	}
	return out
}

// heldUpBy says what holds a running plan up, when nothing of it moves.
func heldUpBy(x fsm.Plan) string {
	if x.Stage == fsm.StageObserving {
		return "observing the canary"
	}
	service := x.Steps[x.Step].Service
	pending := false
	for _, t := range x.Steps[x.Step].Targets {
		switch t.State {
		case fsm.TargetQueued:
			return "waiting for the budget of " + service
		case fsm.TargetDraining, fsm.TargetWaiting:
			return ""
		case fsm.TargetPending:
			pending = true
		}
	}
	if pending {
		return "waiting for the budget of " + service
	}
	return ""
}

// stepOf also adds the step's instances to the plan's sums.
func stepOf(v view, x fsm.Plan, i int, step fsm.PlanStep, whole bool, sums *api.Plan) api.PlanStep {
	out := api.PlanStep{Service: step.Service, State: "pending", Canary: step.Canary, Wave: step.Wave}
	switch {
	case i < x.Step || x.State == fsm.PlanSucceeded:
		out.State = "done"
	case step.Begun:
		out.State = "running"
	}
	if !step.Begun {
		v.Members(step.Service, func(fsm.Instance) bool { sums.Total++; return true })
	}
	sums.Total += len(step.Targets)
	for _, t := range step.Targets {
		switch t.State {
		case fsm.TargetFailed:
			sums.Failures++
		case fsm.TargetDone:
			sums.Done++
		}
		if whole {
			out.Targets = append(out.Targets, api.PlanTarget{ID: t.ID, Name: t.Name, State: string(t.State), Successor: t.Successor, Why: t.Why})
		}
	}
	return out
}

func estimateOf(e fsm.Estimate) *api.Estimate {
	out := &api.Estimate{WorstMs: e.WorstMs, Services: []api.StepEstimate{}}
	for _, x := range e.Steps {
		out.Services = append(out.Services, api.StepEstimate{Service: x.Service, Instances: x.Instances, AtATime: x.AtATime, Rounds: x.Rounds, DrainMs: x.DrainMs,
			RestartMs: x.RestartMs, OnRecord: x.OnRecord, WorstMs: x.WorstMs})
	}
	return out
}
