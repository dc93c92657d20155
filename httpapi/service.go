package httpapi

import (
	"context"
	"net/http"
	"slices"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

func (s *Server) putService() operation[api.PutService, api.ServiceVersion] {
	return operation[api.PutService, api.ServiceVersion]{s: s, name: api.OpPutService,
		plan: func(ctx context.Context, c call[api.PutService]) (fsm.Command, error) {
			b := c.body
			if p := checkService(b); p != nil {
				return nil, p
			}
			out := fsm.PutService{Name: c.subject, IfVersion: c.ifMatch, Replicas: b.Replicas, MaxUnavailable: b.MaxUnavailable,
				MaxUnavailablePercent: b.MaxUnavailablePercent, MinAvailable: b.MinAvailable, MinAvailablePercent: b.MinAvailablePercent,
				SettleMs: b.SettleMs, RestartHoldMs: b.RestartHoldMs, LostHoldMs: b.LostHoldMs, DependsOn: b.DependsOn,
				ReadOnly: switchOf(b.ReadOnly), Freeze: switchOf(b.Freeze), WallMs: wallMs()}
			if b.Cleanup != nil {
				if err := s.knownTarget(ctx, b.Cleanup.Target); err != nil {
					return nil, err
				}
				out.Cleanup = &fsm.ServiceCleanup{Target: b.Cleanup.Target, Patterns: b.Cleanup.Patterns, DelayMs: b.Cleanup.DelayMs}
			}
			return out, nil
		},
		answer: func(r fsm.Result) (api.ServiceVersion, int) {
			return api.ServiceVersion{Name: r.Service.Name, Version: r.Service.Version}, http.StatusOK
		},
	}
}

func checkService(b *api.PutService) *refusal {
	budgets := 0
	for _, n := range [...]uint32{b.MaxUnavailable, b.MaxUnavailablePercent, b.MinAvailable, b.MinAvailablePercent} {
		if n > 0 {
			budgets++
		}
	}
	if budgets > 1 {
		return invalid("body", "one budget: max_unavailable, max_unavailable_percent, min_available or min_available_percent")
	}
	for _, name := range b.DependsOn {
		if p := checkSlug("body.depends_on", name); p != nil {
			return p
		}
	}
	if b.Cleanup != nil {
		return checkPatterns("body.cleanup.patterns", b.Cleanup.Patterns)
	}
	return nil
}

func switchOf(b *bool) fsm.Switch {
	switch {
	case b == nil:
		return fsm.SwitchAsIs
	case *b:
		return fsm.SwitchOn
	}
	return fsm.SwitchOff
}

func (s *Server) deleteService() operation[nothing, nothing] {
	return operation[nothing, nothing]{s: s, name: api.OpDeleteService,
		plan: func(_ context.Context, c call[nothing]) (fsm.Command, error) {
			return fsm.DeleteService{Name: c.subject, IfVersion: c.ifMatch}, nil
		},
	}
}

func findService(v view, name string) (api.Service, uint64, fsm.Code) {
	x, ok := v.Service(name)
	if !ok {
		return api.Service{}, 0, fsm.CodeServiceNotFound
	}
	return serviceOf(v, x), x.Version, ""
}

func listServices(v view, _ *Listing, p *page) api.Services {
	out := api.Services{Services: []api.Service{}}
	v.Services(p.from(), func(x fsm.Service) bool {
		take, further := p.row(x.Name, true)
		if take {
			out.Services = append(out.Services, serviceOf(v, x))
		}
		return further
	})
	out.Page = p.head()
	return out
}

func serviceOf(v view, x fsm.Service) api.Service {
	o := v.Occupancy(x.Name)
	out := api.Service{Name: x.Name, Version: x.Version, Replicas: x.Replicas, MaxUnavailable: x.MaxUnavailable, MaxUnavailablePercent: x.MaxUnavailablePercent,
		MinAvailable: x.MinAvailable, MinAvailablePercent: x.MinAvailablePercent, SettleMs: x.SettleMs, RestartHoldMs: x.RestartHoldMs, LostHoldMs: x.LostHoldMs,
		DependsOn: x.DependsOn, ReadOnly: x.ReadOnly, Freeze: x.Freeze, Expected: o.Expected, Available: o.Available, Unavailable: o.Unavailable,
		Room: o.Room, Queued: o.Queued, Live: map[string]int{}, Index: x.Index}
	if c := x.Cleanup; c != nil {
		out.Cleanup = &api.ServiceCleanup{Target: c.Target, Patterns: c.Patterns, DelayMs: c.DelayMs}
	}
	v.Members(x.Name, func(m fsm.Instance) bool {
		out.Live[string(m.State)]++
		return true
	})
	r, _ := v.Record(x.Name)
	out.Drains = api.DrainRecord{Grants: r.Grants, Overdrafts: r.Overdrafts, Forced: r.Forced, Lost: r.Lost, Undone: r.Undone,
		WorstMs: quantile(r.DrainsMs, 1), MedianMs: quantile(r.DrainsMs, 0.5), RestartMs: quantile(r.RestartsMs, 1)}
	return out
}

func quantile(list []uint32, q float64) uint64 {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	return uint64(sorted[int(q*float64(len(sorted)-1))])
}
