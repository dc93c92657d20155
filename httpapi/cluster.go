package httpapi

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

func (s *Server) cluster(ctx context.Context, in *Consistent) (*answer[api.Cluster], error) {
	if err := s.fresh(ctx, in.Consistency); err != nil {
		return nil, err
	}
	out := &answer[api.Cluster]{Status: http.StatusOK, Body: s.rep.Status(ctx)}
	out.Body.FeatureLevel = api.FeatureLevel
	out.Index = out.Body.Index
	return out, nil
}

// removeNode and transfer change the membership, which has no idempotency keys: removing a node that is gone is refused as not found, and
// moving the leadership twice moves it twice.
func (s *Server) removeNode(ctx context.Context, _ *struct{}) (*noContent, error) {
	id, p := exchangeOf(ctx).subject()
	if p != nil {
		return nil, p
	}
	if err := s.rep.RemoveNode(ctx, id); err != nil {
		return nil, outcomeOf(err)
	}
	return &noContent{s.revision()}, nil
}

func (s *Server) transfer(ctx context.Context, _ *struct{}) (*noContent, error) {
	if err := s.rep.Transfer(ctx); err != nil {
		return nil, outcomeOf(err)
	}
	return &noContent{s.revision()}, nil
}

func (s *Server) sources(ctx context.Context, in *Consistent) (*answer[api.Sources], error) {
	if err := s.fresh(ctx, in.Consistency); err != nil {
		return nil, err
	}
	index, places := s.places(func(n fsm.Node) []fsm.Place { return n.Sources })
	if s.cfg.Stores != nil {
		seen(ctx, places, s.cfg.Stores.Source)
	}
	return &answer[api.Sources]{Status: http.StatusOK, Index: index, Body: api.Sources{Index: index, Sources: places}}, nil
}

func (s *Server) targets(ctx context.Context, in *Consistent) (*answer[api.Targets], error) {
	if err := s.fresh(ctx, in.Consistency); err != nil {
		return nil, err
	}
	index, places := s.places(func(n fsm.Node) []fsm.Place { return n.Targets })
	if s.cfg.Stores != nil {
		seen(ctx, places, s.cfg.Stores.Target)
	}
	return &answer[api.Targets]{Status: http.StatusOK, Index: index, Body: api.Targets{Index: index, Targets: places}}, nil
}

// places collects what the nodes have published, by name.
func (s *Server) places(of func(fsm.Node) []fsm.Place) (index uint64, out []api.Place) {
	byName := map[string]*api.Place{}
	s.view(func(v view) {
		index = v.Revision()
		v.Nodes(func(n fsm.Node) bool {
			for _, p := range of(n) {
				have := byName[p.Name]
				if have == nil {
					have = &api.Place{Name: p.Name, Identity: p.Identity}
					byName[p.Name] = have
				}
				have.Nodes = append(have.Nodes, n.ID)
				have.Differs = have.Differs || have.Identity != p.Identity
			}
			return true
		})
	})
	out = make([]api.Place, 0, len(byName))
	for _, p := range byName {
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b api.Place) int { return strings.Compare(a.Name, b.Name) })
	return index, out
}

// seen adds what this node knows of each place by its own eyes.
func seen(ctx context.Context, places []api.Place, look func(context.Context, string) (api.Place, bool)) {
	for i, p := range places {
		here, ok := look(ctx, p.Name)
		if !ok {
			continue
		}
		here.Name, here.Identity, here.Nodes, here.Differs = p.Name, p.Identity, p.Nodes, p.Differs
		places[i] = here
	}
}
