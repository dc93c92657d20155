package httpapi

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

func (s *Server) registerInstance() operation[api.RegisterInstance, api.Registered] {
	return operation[api.RegisterInstance, api.Registered]{s: s, name: api.OpRegisterInstance,
		plan: func(_ context.Context, c call[api.RegisterInstance]) (fsm.Command, error) {
			if p := checkName("body.name", c.body.Name); p != nil {
				return nil, p
			}
			return fsm.RegisterInstance{ID: randomID(), Session: randomID(), Service: c.body.Service, Name: c.body.Name,
				Address: c.body.Address, TTLMs: c.body.LeaseTTLMs}, nil
		},
		answer: func(r fsm.Result) (api.Registered, int) {
			return api.Registered{ID: r.Instance.ID, Incarnation: r.Instance.Incarnation, Session: r.Instance.Session}, http.StatusOK
		},
	}
}

// instanceSays is the shape of what an instance says of itself.
func instanceSays[B any](s *Server, name string, command func(id string, b *B) (fsm.Command, *refusal)) operation[B, api.InstanceStatus] {
	return operation[B, api.InstanceStatus]{s: s, name: name,
		plan: func(_ context.Context, c call[B]) (fsm.Command, error) {
			out, p := command(c.subject, c.body)
			if p != nil {
				return nil, p
			}
			return out, nil
		},
		answer: func(r fsm.Result) (api.InstanceStatus, int) {
			i := r.Instance
			return api.InstanceStatus{State: string(i.State), Ticket: i.Ticket, Grant: i.Grant, Position: i.Position, Blockers: blockersOf(i.Blockers),
				Overdraft: i.Overdraft}, http.StatusOK
		},
	}
}

func instanceReady(id string, b *api.Incarnation) (fsm.Command, *refusal) {
	return fsm.SetInstanceReady{ID: id, Incarnation: b.Incarnation}, nil
}

func instanceDrained(id string, b *api.Incarnation) (fsm.Command, *refusal) {
	return fsm.FinishInstance{ID: id, Incarnation: b.Incarnation}, nil
}

func instanceLeft(id string, b *api.Incarnation) (fsm.Command, *refusal) {
	return fsm.FinishInstance{ID: id, Incarnation: b.Incarnation, Left: true}, nil
}

func drainInstance(id string, b *api.DrainInstance) (fsm.Command, *refusal) {
	if len(b.Reason) > api.ReasonBytesMax {
		return nil, invalid("body.reason", "at most 256 bytes")
	}
	return fsm.DrainInstance{ID: id, Incarnation: b.Incarnation, Intent: b.Intent, Reason: b.Reason}, nil
}

func reportPhase(id string, b *api.ReportPhase) (fsm.Command, *refusal) {
	if len(b.Counters) > api.CountersMax {
		return nil, overLimit(api.CodeInvalid, "body.counters: too many", api.CountersMax)
	}
	counters := make([]fsm.Counter, 0, len(b.Counters))
	for name, value := range b.Counters {
		if p := checkID("body.counters", name); p != nil || name == "" {
			return nil, invalid("body.counters", "names have between 1 and 64 visible ASCII characters")
		}
		counters = append(counters, fsm.Counter{Name: name, Value: value})
	}
	slices.SortFunc(counters, func(a, b fsm.Counter) int { return strings.Compare(a.Name, b.Name) })
	return fsm.ReportPhase{ID: id, Incarnation: b.Incarnation, Phase: b.Phase, Seq: b.Seq, Counters: counters}, nil
}

// keepaliveInstance renews the instance's session and tells what the cluster wants of it. One that is over hears 410 whatever the reason:
// it must stop serving.
func (s *Server) keepaliveInstance(ctx context.Context, in *unkeyed[api.Incarnation]) (*answer[api.InstanceLease], error) {
	id, p := exchangeOf(ctx).subject()
	if p != nil {
		return nil, p
	}
	v, alive := s.aliveInstance(id, in.Body.Incarnation)
	if !alive {
		// This node may lead without having seen everything yet: only a proven read may tell somebody to stop.
		if err := s.fresh(ctx, api.Linearizable); err != nil {
			return nil, err
		}
		if v, alive = s.aliveInstance(id, in.Body.Incarnation); !alive {
			return nil, fenced()
		}
	}
	leases, err := s.rep.Keepalive(ctx, []string{v.Session})
	if err != nil {
		return nil, outcomeOf(err)
	}
	if leases[0].Gone {
		return nil, fenced()
	}
	if v, alive = s.aliveInstance(id, in.Body.Incarnation); !alive {
		return nil, fenced()
	}
	out := &answer[api.InstanceLease]{Status: http.StatusOK, Index: s.revision()}
	out.Body = api.InstanceLease{State: string(v.State), DeadlineInMs: leases[0].RemainingMs}
	if v.State == fsm.InstanceDraining {
		out.Body.Directive = api.DirectiveDrain
	}
	s.view(func(now view) { out.Body.Revoked = revokedOf(now, v.Session) })
	return out, nil
}

func (s *Server) aliveInstance(id string, incarnation uint64) (fsm.Instance, bool) {
	var found fsm.Instance
	var ok bool
	s.rep.View(func(st *fsm.State) { found, ok = st.Instance(id) })
	over := found.State == fsm.InstanceLeft || found.State == fsm.InstanceLost
	return found, ok && !over && found.Incarnation == incarnation
}

func fenced() *refusal {
	return problem(api.CodeFenced, "this incarnation is over: another one has taken its name, or it left or was lost")
}

type instanceListing struct {
	Listing
	Service string `query:"service" maxLength:"63"`
	State   string `query:"state" enum:"registered,ready,queued,draining,drained,left,lost"`
}

func listInstances(v view, q *instanceListing, p *page) api.Instances {
	out := api.Instances{Instances: []api.Instance{}}
	v.Instances(p.from(), func(x fsm.Instance) bool {
		wanted := (q.Service == "" || q.Service == x.Service) && (q.State == "" || q.State == string(x.State))
		take, further := p.row(x.ID, wanted)
		if take {
			out.Instances = append(out.Instances, instanceOf(v, x))
		}
		return further
	})
	out.Page = p.head()
	return out
}

func findInstance(v view, id string) (api.Instance, uint64, fsm.Code) {
	x, ok := v.Instance(id)
	if !ok {
		return api.Instance{}, 0, fsm.CodeInstanceNotFound
	}
	out := instanceOf(v, x)
	var blockers []string
	out.Position, blockers = v.DrainPosition(x.ID)
	out.Blockers = blockersOf(blockers) // too dear for each row of a list
	for _, m := range x.History {
		out.History = append(out.History, api.Moment{AgeMs: v.since(m.At), State: string(m.State), Phase: m.Phase})
	}
	return out, 0, ""
}

func instanceOf(v view, x fsm.Instance) api.Instance {
	out := api.Instance{ID: x.ID, Service: x.Service, Name: x.Name, Incarnation: x.Incarnation, Session: x.Session, Address: x.Address,
		Intent: x.Intent, Reason: x.Reason, Phase: x.Phase, Index: x.Index,
		InstanceStatus: api.InstanceStatus{State: string(x.State), Ticket: x.Ticket, Grant: x.Grant, Overdraft: x.Overdraft}}
	if len(x.Counters) > 0 {
		out.Counters = make(map[string]uint64, len(x.Counters))
		for _, c := range x.Counters {
			out.Counters[c.Name] = c.Value
		}
	}
	return out
}

func blockersOf(ids []string) []api.Blocker {
	var out []api.Blocker
	for _, id := range ids {
		out = append(out, api.Blocker{ID: id})
	}
	return out
}
