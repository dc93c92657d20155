package httpapi

import (
	"context"
	"net/http"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

func (s *Server) putService() operation[api.PutService, api.ServiceVersion] {
	return operation[api.PutService, api.ServiceVersion]{s: s, name: api.OpPutService,
		plan: func(_ context.Context, c call[api.PutService]) (fsm.Command, error) {
			return fsm.PutService{Name: c.subject, MaxUnavailable: c.body.MaxUnavailable, IfVersion: c.ifMatch}, nil
		},
		answer: func(r fsm.Result) (api.ServiceVersion, int) {
			return api.ServiceVersion{Name: r.Service.Name, Version: r.Service.Version}, http.StatusOK
		},
	}
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
	out := api.Service{Name: x.Name, Version: x.Version, MaxUnavailable: x.MaxUnavailable, Unavailable: v.Unavailable(x.Name),
		Live: map[string]int{}, Index: x.Index}
	v.Members(x.Name, func(m fsm.Instance) bool {
		out.Live[string(m.State)]++
		return true
	})
	return out
}
