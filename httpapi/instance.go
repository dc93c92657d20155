package httpapi

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

func (s *Server) registerInstance() operation[api.RegisterInstance, api.Registered] {
	return operation[api.RegisterInstance, api.Registered]{s: s, name: api.OpRegisterInstance,
		plan: func(_ context.Context, c call[api.RegisterInstance]) (fsm.Command, error) {
			b := c.body
			if p := checkName("body.name", b.Name); p != nil {
				return nil, p
			}
			labels, p := labelsOf(b.Labels)
			if p != nil {
				return nil, p
			}
			grace, phases, p := phasesOf(b.GraceMs, b.Phases)
			if p != nil {
				return nil, p
			}
			return fsm.RegisterInstance{ID: randomID(), Session: randomID(), Service: b.Service, Name: b.Name, Address: b.Address, TTLMs: b.LeaseTTLMs,
				GraceMs: grace, Phases: phases, Platform: b.Platform, Labels: labels}, nil
		},
		answer: func(r fsm.Result) (api.Registered, int) {
			return api.Registered{ID: r.Instance.ID, Incarnation: r.Instance.Incarnation, Session: r.Instance.Session}, http.StatusOK
		},
	}
}

func labelsOf(in map[string]string) ([]fsm.Label, *refusal) {
	if len(in) > api.LabelsMax {
		return nil, overLimit(api.CodeInvalid, "body.labels: too many", api.LabelsMax)
	}
	var out []fsm.Label
	for _, key := range slices.Sorted(maps.Keys(in)) {
		if key == "" || len(key) > api.LabelKeyMax || len(in[key]) > api.LabelValueMax {
			return nil, invalid("body.labels", "keys have between 1 and 64 bytes, values at most 256")
		}
		out = append(out, fsm.Label{Key: key, Value: in[key]})
	}
	return out, nil
}

// phasesOf completes what an instance says of its times, and refuses what does not fit: it would be killed in the middle of its drain.
func phasesOf(graceMs uint64, in []api.PhaseTime) (uint64, []fsm.PhaseLimit, *refusal) {
	if graceMs == 0 {
		graceMs = api.GraceDefaultMs
	}
	if graceMs < api.GraceMinMs {
		return 0, nil, invalid("body.grace_ms", fmt.Sprintf("at least %d: a shorter time leaves no phase enough to do anything", api.GraceMinMs))
	}
	var out []fsm.PhaseLimit
	if len(in) == 0 {
		for _, p := range api.PhaseDefaults {
			out = append(out, fsm.PhaseLimit{Phase: p.Phase, LimitMs: p.LimitMs * min(graceMs, api.GraceDefaultMs) / api.GraceDefaultMs})
		}
		return graceMs, out, nil
	}
	var sum uint64
	for _, p := range in {
		if slices.ContainsFunc(out, func(have fsm.PhaseLimit) bool { return have.Phase == p.Phase }) {
			return 0, nil, invalid("body.phases", p.Phase+" is there twice")
		}
		sum += p.LimitMs
		out = append(out, fsm.PhaseLimit{Phase: p.Phase, LimitMs: p.LimitMs})
	}
	if sum > graceMs {
		return 0, nil, invalid("body.phases", fmt.Sprintf("they take %d ms, and the grace is %d ms", sum, graceMs))
	}
	slices.SortFunc(out, func(a, b fsm.PhaseLimit) int {
		return slices.Index(fsm.Phases[:], a.Phase) - slices.Index(fsm.Phases[:], b.Phase)
	})
	return graceMs, out, nil
}

// instanceSays is the shape of what an instance, or an operator, says of it.
func instanceSays[B any](s *Server, name string, command func(ctx context.Context, id string, b *B) (fsm.Command, error)) operation[B, api.InstanceStatus] {
	return operation[B, api.InstanceStatus]{s: s, name: name,
		plan: func(ctx context.Context, c call[B]) (fsm.Command, error) { return command(ctx, c.subject, c.body) },
		answer: func(r fsm.Result) (api.InstanceStatus, int) {
			i, now := r.Instance, s.rep.Now()
			out := api.InstanceStatus{State: string(i.State), Ticket: i.Ticket, Grant: i.Grant, Overdraft: i.Overdraft}
			if i.Outlook != nil {
				out = waiting(out, *i.Outlook, now)
			}
			return out, http.StatusOK
		},
	}
}

// waiting adds why there is no grant yet.
func waiting(out api.InstanceStatus, o fsm.Outlook, now uint64) api.InstanceStatus {
	out.Position, out.Waiting = o.Position, "budget"
	if o.Frozen {
		out.Waiting = "frozen"
	}
	for _, b := range o.Blockers {
		out.Blockers = append(out.Blockers, api.Blocker{ID: b.ID, Name: b.Name, State: string(b.State), Why: b.Why})
	}
	out.EarliestGrantInMs, out.LatestGrantInMs = minus(o.Earliest, now), minus(o.Latest, now)
	return out
}

func instanceReady(_ context.Context, id string, b *api.Incarnation) (fsm.Command, error) {
	return fsm.SetInstanceReady{ID: id, Incarnation: b.Incarnation}, nil
}

func instanceDrained(_ context.Context, id string, b *api.Incarnation) (fsm.Command, error) {
	return fsm.FinishInstance{ID: id, Incarnation: b.Incarnation}, nil
}

func instanceLeft(_ context.Context, id string, b *api.Incarnation) (fsm.Command, error) {
	return fsm.FinishInstance{ID: id, Incarnation: b.Incarnation, Left: true}, nil
}

func drainInstance(_ context.Context, id string, b *api.DrainInstance) (fsm.Command, error) {
	if p := checkReason(b.Reason); p != nil {
		return nil, p
	}
	return fsm.DrainInstance{ID: id, Incarnation: b.Incarnation, Intent: b.Intent, Reason: b.Reason, KillInMs: b.KillInMs, WallMs: wallMs()}, nil
}

func pauseInstance(_ context.Context, id string, b *api.InstanceWish) (fsm.Command, error) {
	if p := checkReason(b.Reason); p != nil {
		return nil, p
	}
	return fsm.PauseInstance{ID: id, Incarnation: b.Incarnation, Force: b.Force, Reason: b.Reason, WallMs: wallMs()}, nil
}

func resumeInstance(_ context.Context, id string, b *api.InstanceWish) (fsm.Command, error) {
	return fsm.ResumeInstance{ID: id, Incarnation: b.Incarnation, Reason: b.Reason, WallMs: wallMs()}, unforced(b)
}

func undoDrain(_ context.Context, id string, b *api.InstanceWish) (fsm.Command, error) {
	return fsm.UndoDrain{ID: id, Incarnation: b.Incarnation, Reason: b.Reason, WallMs: wallMs()}, unforced(b)
}

func unforced(b *api.InstanceWish) error {
	if b.Force {
		return invalid("body.force", "only a pause can be forced")
	}
	if p := checkReason(b.Reason); p != nil {
		return p
	}
	return nil
}

func checkReason(reason string) *refusal {
	if len(reason) > api.ReasonBytesMax {
		return invalid("body.reason", "at most 256 bytes")
	}
	return nil
}

func (s *Server) reportPhase(ctx context.Context, id string, b *api.ReportPhase) (fsm.Command, error) {
	counters, p := countersOf(b.Counters)
	if p != nil {
		return nil, p
	}
	out := fsm.ReportPhase{ID: id, Incarnation: b.Incarnation, Phase: b.Phase, Seq: b.Seq, Counters: counters}
	if b.Leftovers == nil {
		return out, nil
	}
	out.Unfinished, out.Notes = true, b.Leftovers.Notes
	for _, note := range out.Notes {
		if len(note) > api.ReasonBytesMax {
			return nil, invalid("body.leftovers.notes", "at most 256 bytes each")
		}
	}
	rows := rowNames{s: s, known: map[string]fsm.Mapping{}}
	for i, key := range b.Leftovers.Keys {
		ref, err := rows.ref(ctx, fmt.Sprintf("body.leftovers.keys[%d]", i), key.Mapping, key.PK)
		if err != nil {
			return nil, err
		}
		out.Keys = append(out.Keys, ref)
	}
	return out, nil
}

func countersOf(in map[string]uint64) ([]fsm.Counter, *refusal) {
	if len(in) > api.CountersMax {
		return nil, overLimit(api.CodeInvalid, "body.counters: too many", api.CountersMax)
	}
	counters := make([]fsm.Counter, 0, len(in))
	for name, value := range in {
		if p := checkID("body.counters", name); p != nil || name == "" {
			return nil, invalid("body.counters", "names have between 1 and 64 visible ASCII characters")
		}
		counters = append(counters, fsm.Counter{Name: name, Value: value})
	}
	slices.SortFunc(counters, func(a, b fsm.Counter) int { return strings.Compare(a.Name, b.Name) })
	return counters, nil
}

type instanceListing struct {
	Listing
	Service string `query:"service" maxLength:"63"`
	State   string `query:"state" enum:"registered,ready,paused,queued,draining,drained,left,forced,lost"`
}

func (s *Server) listInstances(v view, q *instanceListing, p *page) api.Instances {
	out := api.Instances{Instances: []api.Instance{}}
	v.Instances(p.from(), func(x fsm.Instance) bool {
		wanted := (q.Service == "" || q.Service == x.Service) && (q.State == "" || q.State == string(x.State))
		take, further := p.row(x.ID, wanted)
		if take {
			out.Instances = append(out.Instances, s.instanceOf(v, x))
		}
		return further
	})
	out.Page = p.head()
	return out
}

func (s *Server) findInstance(v view, id string) (api.Instance, uint64, fsm.Code) {
	x, ok := v.Instance(id)
	if !ok {
		return api.Instance{}, 0, fsm.CodeInstanceNotFound
	}
	out := s.instanceOf(v, x)
	if x.State == fsm.InstanceQueued {
		out.InstanceStatus = waiting(out.InstanceStatus, v.Outlook(x), v.now) // too dear for each row of a list
	}
	for _, m := range x.History {
		out.History = append(out.History, api.Moment{AgeMs: v.since(m.At), State: string(m.State), Phase: m.Phase})
	}
	return out, 0, ""
}

func (s *Server) instanceOf(v view, x fsm.Instance) api.Instance {
	out := api.Instance{ID: x.ID, Service: x.Service, Name: x.Name, Incarnation: x.Incarnation, Session: x.Session, Address: x.Address,
		Platform: x.Platform, GraceMs: x.GraceMs, Phases: []api.PhaseTime{}, Settled: x.Settled(), Intent: x.Intent, Reason: x.Reason, Phase: x.Phase,
		Counters: s.countersOf(x), Plan: x.Plan, HoldsForMs: v.until(x.HoldUntil), Leftovers: len(x.Keys), LocksFreed: int(x.LocksFreed), Index: x.Index,
		InstanceStatus: api.InstanceStatus{State: string(x.State), Ticket: x.Ticket, Grant: x.Grant, Overdraft: x.Overdraft}}
	if x.State == fsm.InstanceDraining {
		out.DrainDeadlineInMs = v.until(x.DrainUntil)
	}
	if len(x.Labels) > 0 {
		out.Labels = make(map[string]string, len(x.Labels))
	}
	for _, l := range x.Labels {
		out.Labels[l.Key] = l.Value
	}
	for _, p := range x.Phases {
		out.Phases = append(out.Phases, api.PhaseTime{Phase: p.Phase, LimitMs: p.LimitMs})
	}
	for _, a := range x.Adoption {
		out.Adoption = append(out.Adoption, api.AdoptionStep{Step: a.Step, Detail: a.Detail, AgeMs: v.since(a.At)})
	}
	for _, c := range x.Connections {
		out.Connections += len(c.IDs)
	}
	return out
}
