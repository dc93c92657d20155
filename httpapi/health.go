package httpapi

import (
	"context"

	"github.com/quiescehq/quiesce/api"
)

// health is an answer about this node, not about the state.
type health struct{ Body api.Health }

// healthz says that the process answers. It stays 200 while draining: a restart would not help.
func (s *Server) healthz(context.Context, *struct{}) (*health, error) {
	return &health{api.Health{Status: "ok"}}, nil
}

// readyz says whether requests should come here.
func (s *Server) readyz(context.Context, *struct{}) (*health, error) {
	if s.isDraining() {
		return nil, problem(api.CodeDraining, "this node is stopping")
	}
	if reason := s.notReady.Load(); reason != nil {
		return nil, problem(api.CodeNotReady, *reason)
	}
	return &health{api.Health{Status: "ok"}}, nil
}
