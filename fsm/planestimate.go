package fsm

import "slices"

// Estimate is what a plan may take at the worst.
type Estimate struct {
	WorstMs uint64
	Steps   []StepEstimate // in the order of the plan's
}

// StepEstimate is the share of one service.
type StepEstimate struct {
	Service            string
	Instances, AtATime int
	Rounds             int
	DrainMs, RestartMs uint64 // taken for each
	OnRecord           int    // drains that it rests on; 0: on the limits of the phases
	WorstMs            uint64
}

// Outline is the draft that rules would make now, without making it.
func (s *State) Outline(rules PlanRules) (Plan, Result) { return s.draft(rules) }

// Estimate tells how long a plan that starts now may take, if each drain and each restart takes as long as the longest on record.
func (s *State) Estimate(p Plan) Estimate {
	var out Estimate
	for _, step := range p.Steps {
		e := s.estimateStep(p.Rules, step.Service)
		out.WorstMs += e.WorstMs
		out.Steps = append(out.Steps, e)
	}
	return out
}

func (s *State) estimateStep(rules PlanRules, service string) StepEstimate {
	e := StepEstimate{Service: service, Instances: s.members.count(service)}
	if e.Instances == 0 {
		return e
	}
	v, _ := s.services.get(service)
	r, _ := s.records.get(service)
	e.OnRecord, e.DrainMs = len(r.DrainsMs), worst(r.DrainsMs)
	if e.OnRecord == 0 {
		s.Members(service, func(m Instance) bool { e.DrainMs = max(e.DrainMs, m.drainMs()+drainSlackMs); return true })
	}
	if rules.Intent == PlanRestart {
		if e.RestartMs = worst(r.RestartsMs); len(r.RestartsMs) == 0 {
			e.RestartMs = v.RestartHoldMs
		}
	}
	e.AtATime = s.atATime(rules, v, e.Instances)
	rest := e.Instances
	if canary := share(rules.Canary, rules.CanaryPercent, e.Instances); canary > 0 && canary < e.Instances {
		e.Rounds, rest = rounds(canary, e.AtATime), rest-canary
		e.WorstMs = rules.ObserveMs
	}
	e.Rounds += rounds(rest, e.AtATime)
	e.WorstMs += uint64(e.Rounds) * (e.DrainMs + e.RestartMs)
	return e
}

// atATime is how many the budget and the wave let go together when everybody serves.
func (s *State) atATime(rules PlanRules, v Service, total int) int {
	most := total
	if !rules.AllowZero {
		base := max(total, int(v.Replicas))
		if minimum, is := v.minAvailable(base); is {
			most = total - minimum
		} else {
			most = v.maxUnavailable(base)
		}
	}
	if wave := share(rules.Wave, rules.WavePercent, total); wave > 0 {
		most = min(most, wave)
	}
	return min(total, max(1, most))
}

func rounds(n, atATime int) int { return (n + atATime - 1) / atATime }

func worst(list []uint32) uint64 {
	if len(list) == 0 {
		return 0
	}
	return uint64(slices.Max(list))
}
