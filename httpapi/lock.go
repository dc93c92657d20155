package httpapi

import (
	"context"
	"net/http"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// acquireOp is an acquire as a batch has it: a wait answers its ticket at once.
func (s *Server) acquireOp() operation[api.AcquireLocks, api.Acquired] {
	return operation[api.AcquireLocks, api.Acquired]{s: s, name: api.OpAcquire,
		plan: func(_ context.Context, c call[api.AcquireLocks]) (fsm.Command, error) {
			if c.body.Ticket != 0 {
				return nil, invalid("body.ticket", "a wait is taken up again at /v1/locks/acquire")
			}
			return planAcquire(c.body)
		},
		answer: func(r fsm.Result) (api.Acquired, int) {
			if r.Lock.Ticket != 0 {
				return api.Acquired{Ticket: r.Lock.Ticket, Position: r.Lock.Position}, http.StatusAccepted
			}
			return api.Acquired{Grants: []api.Grant{{Name: r.Lock.Name, Token: r.Lock.Token}}}, http.StatusOK
		},
	}
}

func planAcquire(b *api.AcquireLocks) (fsm.Command, error) {
	switch {
	case b.Session == "":
		return nil, invalid("body.session", "is needed, unless a ticket is given")
	case len(b.Locks) != 1:
		return nil, invalid("body.locks", "this version takes exactly one lock at a time")
	case b.Locks[0].Mode != "" && b.Locks[0].Mode != api.ModeExclusive:
		return nil, invalid("body.locks[0].mode", "this version has exclusive locks only")
	}
	if p := checkID("body.session", b.Session); p != nil {
		return nil, p
	}
	if p := checkName("body.locks[0].name", b.Locks[0].Name); p != nil {
		return nil, p
	}
	return fsm.AcquireLock{Session: b.Session, Name: b.Locks[0].Name, WaitMs: b.WaitMs, ClaimMs: b.ClaimMs}, nil
}

func (s *Server) releaseLock() operation[api.ReleaseLocks, nothing] {
	return operation[api.ReleaseLocks, nothing]{s: s, name: api.OpRelease,
		plan: func(_ context.Context, c call[api.ReleaseLocks]) (fsm.Command, error) {
			if len(c.body.Locks) != 1 {
				return nil, invalid("body.locks", "this version takes exactly one lock at a time")
			}
			l := c.body.Locks[0]
			if p := checkName("body.locks[0].name", l.Name); p != nil {
				return nil, p
			}
			return fsm.ReleaseLock{Session: c.body.Session, Name: l.Name, Token: l.Token}, nil
		},
	}
}

func (s *Server) cancelWait() operation[api.CancelWait, nothing] {
	return operation[api.CancelWait, nothing]{s: s, name: api.OpCancelWait,
		plan: func(_ context.Context, c call[api.CancelWait]) (fsm.Command, error) {
			return fsm.CancelTicket{ID: c.body.Ticket}, nil
		},
	}
}

// validateLock is a read with a body, for lock names do not travel in paths; it is linearizable always.
func (s *Server) validateLock(ctx context.Context, in *unkeyed[api.ValidateLock]) (*answer[api.LockValidity], error) {
	if p := checkName("body.name", in.Body.Name); p != nil {
		return nil, p
	}
	if err := s.fresh(ctx, api.Linearizable); err != nil {
		return nil, err
	}
	out := &answer[api.LockValidity]{Status: http.StatusOK}
	s.view(func(v view) {
		l, held := v.Lock(in.Body.Name)
		out.Index = v.Revision()
		out.Body = api.LockValidity{Valid: held && l.Token == in.Body.Token, Holder: l.Session, Token: l.Token}
	})
	return out, nil
}

type lockListing struct {
	Listing
	Name string `query:"name" maxLength:"256" doc:"Only this lock"`
}

func (s *Server) listLocks(v view, q *lockListing, p *page) api.Locks {
	out := api.Locks{Locks: []api.Lock{}}
	if q.Name != "" {
		if l, held := v.Lock(q.Name); held {
			out.Locks = append(out.Locks, s.lockOf(v, l))
		}
		out.Page = p.head()
		return out
	}
	v.Locks(p.from(), func(l fsm.Lock) bool {
		take, further := p.row(l.Name, true)
		if take {
			out.Locks = append(out.Locks, s.lockOf(v, l))
		}
		return further
	})
	out.Page = p.head()
	return out
}

func (s *Server) lockOf(v view, l fsm.Lock) api.Lock {
	out := api.Lock{Name: l.Name, Session: l.Session, Token: l.Token, HeldMs: v.since(l.GrantedAt)}
	out.LeaseRemainingMs, _ = s.rep.LeaseRemaining(l.Session)
	if t, ok := v.Ticket(l.Ticket); ok {
		out.Unclaimed = !t.Claimed
	}
	v.Queue(l.Name, func(t fsm.Ticket) bool {
		if len(out.Queue) == api.QueueShownMax {
			out.QueueCut = true
			return false
		}
		out.Queue = append(out.Queue, api.Wait{Ticket: t.ID, Session: t.Session, RemainingMs: v.until(t.Until)})
		return true
	})
	return out
}
