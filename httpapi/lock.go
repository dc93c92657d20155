package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"strings"

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
		answer: s.acquired,
	}
}

func (s *Server) acquired(r fsm.Result) (api.Acquired, int) {
	if r.Lock.Ticket != 0 {
		return api.Acquired{Ticket: r.Lock.Ticket, Position: r.Lock.Position, Deadlock: s.cycle(r.Lock.Ticket)}, http.StatusAccepted
	}
	return api.Acquired{Grants: grantsOf(r.Lock.Grants)}, http.StatusOK
}

func grantsOf(granted []fsm.GrantedTo) []api.Grant {
	out := make([]api.Grant, len(granted))
	for i, g := range granted {
		out[i] = api.Grant{Name: g.Name, Token: g.Token}
		if g.Count > 1 {
			out[i].Count = g.Count
		}
	}
	return out
}

var lockModes = map[string]fsm.LockMode{"": fsm.Exclusive, api.ModeExclusive: fsm.Exclusive, api.ModeShared: fsm.Shared, api.ModePermits: fsm.Permits}

func modeName(m fsm.LockMode) string {
	return [...]string{fsm.Exclusive: api.ModeExclusive, fsm.Shared: api.ModeShared, fsm.Permits: api.ModePermits}[m]
}

func planAcquire(b *api.AcquireLocks) (fsm.Command, error) {
	switch {
	case b.Session == "":
		return nil, invalid("body.session", "is needed, unless a ticket is given")
	case len(b.Locks) == 0:
		return nil, invalid("body.locks", "is needed, unless a ticket is given")
	}
	if p := checkID("body.session", b.Session); p != nil {
		return nil, p
	}
	if p := checkOwnerAndValue(b.Owner, b.Value); p != nil {
		return nil, p
	}
	c := fsm.AcquireLock{Session: b.Session, Owner: b.Owner, WaitMs: b.WaitMs, ClaimMs: b.ClaimMs, Reentrant: b.Reentrant, DelayMs: b.LockDelayMs,
		Value: b.Value, Wants: make([]fsm.LockWant, len(b.Locks))}
	for i, l := range b.Locks {
		w, p := want(fmt.Sprintf("body.locks[%d]", i), l)
		if p != nil {
			return nil, p
		}
		for _, other := range c.Wants[:i] {
			if other.Name == w.Name {
				return nil, invalid("body.locks", "the same name twice")
			}
		}
		c.Wants[i] = w
	}
	return c, nil
}

func checkOwnerAndValue(owner, value string) *refusal {
	if owner != "" {
		if p := checkName("body.owner", owner); p != nil {
			return p
		}
	}
	if len(value) > api.ValueBytesMax {
		return invalid("body.value", "at most 4096 bytes")
	}
	return nil
}

func want(field string, l api.LockWanted) (fsm.LockWant, *refusal) {
	w := fsm.LockWant{Name: l.Name, Mode: lockModes[l.Mode], Permits: l.Permits, Limit: l.Limit}
	if p := checkName(field+".name", l.Name); p != nil {
		return w, p
	}
	switch {
	case w.Mode != fsm.Permits && (w.Permits != 0 || w.Limit != 0):
		return w, invalid(field, "permits and limit go with the mode permits")
	case w.Mode == fsm.Permits && w.Limit == 0:
		return w, invalid(field+".limit", "is needed with the mode permits")
	case w.Mode == fsm.Permits && w.Permits > w.Limit:
		return w, invalid(field+".permits", "more than there are")
	case w.Mode == fsm.Permits && w.Permits == 0:
		w.Permits = 1
	}
	return w, nil
}

func (s *Server) releaseLock() operation[api.ReleaseLocks, nothing] {
	return operation[api.ReleaseLocks, nothing]{s: s, name: api.OpRelease,
		plan: func(_ context.Context, c call[api.ReleaseLocks]) (fsm.Command, error) { return planRelease(c.body) },
	}
}

func planRelease(b *api.ReleaseLocks) (fsm.Command, error) {
	out := fsm.ReleaseLock{Session: b.Session, Locks: make([]fsm.HeldLock, len(b.Locks))}
	for i, l := range b.Locks {
		if p := checkName(fmt.Sprintf("body.locks[%d].name", i), l.Name); p != nil {
			return nil, p
		}
		out.Locks[i] = fsm.HeldLock{Name: l.Name, Token: l.Token}
	}
	return out, nil
}

func (s *Server) cancelWait() operation[api.CancelWait, nothing] {
	return operation[api.CancelWait, nothing]{s: s, name: api.OpCancelWait,
		plan: func(_ context.Context, c call[api.CancelWait]) (fsm.Command, error) {
			return fsm.CancelTicket{ID: c.body.Ticket, Reason: c.body.Reason, WallMs: wallMs()}, nil
		},
	}
}

func (s *Server) downgradeLock() operation[api.DowngradeLock, nothing] {
	return operation[api.DowngradeLock, nothing]{s: s, name: api.OpDowngrade,
		plan: func(_ context.Context, c call[api.DowngradeLock]) (fsm.Command, error) {
			return fsm.DowngradeLock{Session: c.body.Session, Name: c.body.Name, Token: c.body.Token}, named("body.name", c.body.Name)
		},
	}
}

func (s *Server) handOffLock() operation[api.HandOffLock, api.HandedOff] {
	return operation[api.HandOffLock, api.HandedOff]{s: s, name: api.OpHandOff,
		plan: func(_ context.Context, c call[api.HandOffLock]) (fsm.Command, error) {
			return fsm.HandOffLock{Session: c.body.Session, Name: c.body.Name, Token: c.body.Token, To: c.body.To}, named("body.name", c.body.Name)
		},
		answer: func(r fsm.Result) (api.HandedOff, int) {
			to := r.Lock.Taken[0]
			return api.HandedOff{Session: to.Session, Token: to.Token, Ticket: r.Lock.Ticket}, http.StatusOK
		},
	}
}

func (s *Server) forceReleaseLock() operation[api.ForceReleaseLock, api.Taken] {
	return operation[api.ForceReleaseLock, api.Taken]{s: s, name: api.OpForceRelease, answer: taken,
		plan: func(_ context.Context, c call[api.ForceReleaseLock]) (fsm.Command, error) {
			b := c.body
			return fsm.ForceReleaseLock{Name: b.Name, Token: b.Token, Reason: b.Reason, By: b.By, WallMs: wallMs()}, named("body.name", b.Name)
		},
	}
}

func (s *Server) revokeLock() operation[api.RevokeLock, api.Taken] {
	return operation[api.RevokeLock, api.Taken]{s: s, name: api.OpRevoke, answer: taken,
		plan: func(_ context.Context, c call[api.RevokeLock]) (fsm.Command, error) {
			b := c.body
			return fsm.RevokeLock{Name: b.Name, Token: b.Token, WithinMs: b.WithinMs, Reason: b.Reason, By: b.By, WallMs: wallMs()}, named("body.name", b.Name)
		},
	}
}

func taken(r fsm.Result) (api.Taken, int) {
	out := api.Taken{Grants: make([]api.TakenGrant, len(r.Lock.Taken))}
	for i, t := range r.Lock.Taken {
		out.Grants[i] = api.TakenGrant{Session: t.Session, Owner: t.Owner, Token: t.Token}
	}
	return out, http.StatusOK
}

// named is checkName as an error.
func named(field, name string) error {
	if p := checkName(field, name); p != nil {
		return p
	}
	return nil
}

// escort lists what is proposed together with a command, in its entry: the claims of those waits that it will probably grant and whose
// requests are parked here. It saves the hand-over a second commit. A claim of what was not granted is refused and does no harm; a grant
// whose claim was forgotten here is claimed when its request wakes.
func (s *Server) escort(c fsm.Command) []fsm.Op {
	var names []string
	switch c := c.(type) {
	case fsm.ReleaseLock:
		for _, l := range c.Locks {
			names = append(names, l.Name)
		}
	case fsm.HandOffLock:
		names = append(names, c.Name)
	default:
		return nil
	}
	var claims []fsm.Op
	s.rep.View(func(st *fsm.State) {
		for _, name := range names {
			if st.Waiting(name) == 0 {
				continue
			}
			st.Queue(name, func(t fsm.Ticket) bool {
				if s.parked.has(t.ID) {
					claims = append(claims, fsm.Op{Command: fsm.ClaimTicket{ID: t.ID}})
				}
				return len(claims) < escortMax && t.Acquire.Wants[0].Mode != fsm.Exclusive // what is exclusive lets nobody after it in
			})
		}
	})
	return claims
}

// escortMax bounds the claims that go with one release: a crowd of readers claims for itself.
const escortMax = 16

// cycle finds the circle of waits that a new ticket closes, and says so.
func (s *Server) cycle(ticket uint64) []api.WaitFor {
	var found []fsm.WaitFor
	s.rep.View(func(st *fsm.State) { found = st.Cycle(ticket) })
	if found == nil {
		return nil
	}
	s.metrics.deadlocks.Inc()
	out := waitsFor(found)
	var names []string
	for _, w := range out {
		names = append(names, w.Name)
	}
	s.log.Warn("a circle of waits", "ticket", ticket, "locks", strings.Join(names, ", "))
	return out
}

func waitsFor(cycle []fsm.WaitFor) []api.WaitFor {
	out := make([]api.WaitFor, len(cycle))
	for i, w := range cycle {
		out[i] = api.WaitFor{Ticket: w.Ticket, Session: w.Session, Owner: w.Owner, Name: w.Name, BlockedBy: w.BlockedBy, BlockedByTurn: w.ByTurn}
	}
	return out
}
