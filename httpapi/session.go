package httpapi

import (
	"context"
	"net/http"
	"unicode"
	"unicode/utf8"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

func (s *Server) openSession() operation[api.OpenSession, api.Session] {
	return operation[api.OpenSession, api.Session]{s: s, name: api.OpOpenSession,
		plan: func(_ context.Context, c call[api.OpenSession]) (fsm.Command, error) {
			if c.body.Name != "" {
				if p := checkName("body.name", c.body.Name); p != nil {
					return nil, p
				}
			}
			return fsm.OpenSession{ID: randomID(), Name: c.body.Name, TTLMs: c.body.TTLMs}, nil
		},
		answer: func(r fsm.Result) (api.Session, int) {
			return api.Session{ID: r.Session.ID, TTLMs: r.Session.TTLMs}, http.StatusOK
		},
	}
}

func (s *Server) closeSession() operation[nothing, nothing] {
	return operation[nothing, nothing]{s: s, name: api.OpCloseSession,
		plan: func(_ context.Context, c call[nothing]) (fsm.Command, error) {
			return fsm.CloseSession{ID: c.subject}, nil
		},
	}
}

// keepaliveSessions answers from the leader's memory after a leadership round. It is no operation: nothing of it stands in the log.
func (s *Server) keepaliveSessions(ctx context.Context, in *unkeyed[api.KeepaliveSessions]) (*answer[api.SessionLeases], error) {
	for _, id := range in.Body.IDs {
		if p := checkID("body.ids", id); p != nil {
			return nil, p
		}
	}
	leases, err := s.rep.Keepalive(ctx, in.Body.IDs)
	if err != nil {
		return nil, outcomeOf(err)
	}
	out := &answer[api.SessionLeases]{Status: http.StatusOK, Index: s.revision()}
	gone := 0
	for _, l := range leases {
		if l.Gone {
			gone++
		}
		out.Body.Sessions = append(out.Body.Sessions, api.SessionLease{ID: l.ID, Gone: l.Gone, TTLMs: l.TTLMs, RemainingMs: l.RemainingMs})
	}
	if gone == len(leases) {
		return nil, problem(api.CodeSessionNotFound, "no such session: it expired or was closed")
	}
	return out, nil
}

// unkeyed is the input of calls that change nothing in the log and so take no idempotency key.
type unkeyed[B any] struct{ Body B }

func (s *Server) revision() uint64 {
	var n uint64
	s.rep.View(func(st *fsm.State) { n = st.Revision() })
	return n
}

// checkName holds names of locks, sessions and instances to what the contract says of them. The schema counts characters, this bytes.
func checkName(field, name string) *refusal {
	if name == "" || len(name) > api.NameBytesMax || !utf8.ValidString(name) {
		return invalid(field, "between 1 and 256 bytes of UTF-8")
	}
	for _, r := range name {
		if unicode.IsControl(r) {
			return invalid(field, "no control characters")
		}
	}
	return nil
}
