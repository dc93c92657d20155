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
			return api.Session{ID: r.Session.ID, TTLMs: r.Session.TTLMs, EndsWithinMs: endsWithin(r.Session.TTLMs)}, http.StatusOK
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
	return s.renewSessions(ctx, in.Body.IDs)
}

func (s *Server) renewSessions(ctx context.Context, ids []string) (*answer[api.SessionLeases], error) {
	leases, err := s.rep.Keepalive(ctx, ids)
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
	s.tellRevoked(out.Body.Sessions)
	if gone == len(leases) {
		return nil, problem(api.CodeSessionNotFound, "no such session: it expired or was closed")
	}
	return out, nil
}

// endsWithin is the published bound of lateness: G5 in docs/guarantees.md.
func endsWithin(ttlMs uint64) uint64 { return 2 * ttlMs }

// tellRevoked tells holders which locks they are asked to give back.
func (s *Server) tellRevoked(leases []api.SessionLease) {
	s.view(func(v view) {
		for i := range leases {
			leases[i].Revoked = revokedOf(v, leases[i].ID)
		}
	})
}

func revokedOf(v view, session string) (out []api.Revocation) {
	v.Revoked(session, func(g fsm.Grant) bool {
		out = append(out, api.Revocation{Name: g.Name, Token: g.Token, TakenInMs: v.until(g.RevokeAt), Reason: g.RevokeReason})
		return len(out) < api.QueueShownMax
	})
	return out
}

func (s *Server) findSession(v view, id string) (api.Session, uint64, fsm.Code) {
	have, ok := v.Session(id)
	if !ok {
		return api.Session{}, 0, fsm.CodeSessionNotFound
	}
	return s.sessionOf(v, have), 0, ""
}

func (s *Server) listSessions(v view, q *Listing, p *page) api.Sessions {
	out := api.Sessions{Sessions: []api.Session{}}
	v.Sessions(p.from(), func(have fsm.Session) bool {
		take, further := p.row(have.ID, true)
		if take {
			out.Sessions = append(out.Sessions, s.sessionOf(v, have))
		}
		return further
	})
	out.Page = p.head()
	return out
}

func (s *Server) sessionOf(v view, have fsm.Session) api.Session {
	out := api.Session{ID: have.ID, Name: have.Name, TTLMs: have.TTLMs, EndsWithinMs: endsWithin(have.TTLMs), Instance: have.Instance,
		Locks: v.HoldingsOf(have.ID), Waits: v.WaitsOf(have.ID)}
	out.RemainingMs, _ = s.rep.LeaseRemaining(have.ID)
	return out
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
