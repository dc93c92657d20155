package httpapi

import (
	"context"
	"net/http"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

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
		out.Index = v.Revision()
		g, valid := v.Grant(in.Body.Name, in.Body.Token)
		if !valid {
			v.Grants(in.Body.Name, func(newer fsm.Grant) bool { g = newer; return true })
		}
		out.Body = api.LockValidity{Valid: valid, Holder: g.Session, Token: g.Token}
	})
	out.Body.LeaseRemainingMs, _ = s.rep.LeaseRemaining(out.Body.Holder)
	return out, nil
}

type lockListing struct {
	Listing
	Name string `query:"name" maxLength:"256" doc:"Only this lock"`
}

func (s *Server) listLocks(v view, q *lockListing, p *page) api.Locks {
	out := api.Locks{Locks: []api.Lock{}}
	if q.Name != "" {
		if v.Holders(q.Name)+v.Waiting(q.Name) > 0 || v.DelayedUntil(q.Name) > 0 {
			out.Locks = append(out.Locks, s.lockOf(v, q.Name))
		}
		out.Page = p.head()
		return out
	}
	v.LockNames(p.from(), func(name string) bool {
		take, further := p.row(name, true)
		if take {
			out.Locks = append(out.Locks, s.lockOf(v, name))
		}
		return further
	})
	out.Page = p.head()
	return out
}

func (s *Server) lockOf(v view, name string) api.Lock {
	out := api.Lock{Name: name, HoldersTotal: v.Holders(name), Waiting: v.Waiting(name), DelayRemainingMs: v.until(v.DelayedUntil(name))}
	out.InUse, out.Limit = v.InUse(name)
	v.Grants(name, func(g fsm.Grant) bool {
		out.Mode = modeName(g.Mode)
		out.Holders = append(out.Holders, s.holderOf(v, g))
		return len(out.Holders) < api.QueueShownMax
	})
	v.Queue(name, func(t fsm.Ticket) bool {
		out.Queue = append(out.Queue, waitOf(v, name, t))
		return len(out.Queue) < api.QueueShownMax
	})
	return out
}

func (s *Server) holderOf(v view, g fsm.Grant) api.Holder {
	out := api.Holder{Session: g.Session, Owner: g.Owner, Token: g.Token, Permits: g.Permits, HeldMs: v.since(g.GrantedAt), Value: g.Value,
		RevokeReason: g.RevokeReason}
	if g.Count > 1 {
		out.Count = g.Count
	}
	if g.RevokeAt != 0 {
		out.RevokedInMs = max(1, v.until(g.RevokeAt))
	}
	out.LeaseRemainingMs, _ = s.rep.LeaseRemaining(g.Session)
	if t, ok := v.Ticket(g.Ticket); ok {
		out.Unclaimed = t.State == fsm.TicketGranted && !t.Claimed
	}
	return out
}

func waitOf(v view, name string, t fsm.Ticket) api.Wait {
	out := api.Wait{Ticket: t.ID, Session: t.Session(), Owner: t.Acquire.Owner, RemainingMs: v.until(t.Until)}
	for _, w := range t.Acquire.Wants {
		if w.Name == name {
			out.Mode, out.Permits = modeName(w.Mode), w.Permits
		}
		if len(t.Acquire.Wants) > 1 {
			out.Names = append(out.Names, w.Name)
		}
	}
	return out
}

func (s *Server) listDeadlocks(ctx context.Context, in *Consistent) (*answer[api.Deadlocks], error) {
	if err := s.fresh(ctx, in.Consistency); err != nil {
		return nil, err
	}
	out := &answer[api.Deadlocks]{Status: http.StatusOK, Body: api.Deadlocks{Cycles: []api.Deadlock{}}}
	s.view(func(v view) {
		cycles, cut := v.Deadlocks()
		for _, c := range cycles {
			out.Body.Cycles = append(out.Body.Cycles, api.Deadlock{Waits: waitsFor(c)})
		}
		out.Index, out.Body.Cut = v.Revision(), cut
	})
	out.Body.Index = out.Index
	return out, nil
}
