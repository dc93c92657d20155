package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

const (
	// A wait ends in the log at the first entry after its deadline, and the leader ticks once a second. A request parks this much longer
	// than it said, to answer the end and not a ticket.
	ticketLateness = 3 * time.Second
	// A parked request looks this often whether its node still leads.
	leadRecheck = 500 * time.Millisecond
	claimMax    = 5 * time.Second
)

// acquire takes a lock, or waits for it, or takes up a wait. The wait itself stands in the log: the connection, this request and this node
// may all go without harm to it.
func (s *Server) acquire(ctx context.Context, in *withBody[api.AcquireLocks]) (*answer[api.Acquired], error) {
	b := &in.Body
	if b.Ticket != 0 {
		return s.reattach(ctx, b)
	}
	key, p := in.stateKey(exchangeOf(ctx).fingerprint())
	if p != nil {
		return nil, p
	}
	command, err := planAcquire(b)
	if err != nil {
		return nil, err
	}
	return s.acquireBy(ctx, b, fsm.Op{Command: command, Key: key})
}

func (s *Server) acquireBy(ctx context.Context, b *api.AcquireLocks, op fsm.Op) (*answer[api.Acquired], error) {
	r, err := s.propose(ctx, op)
	if err != nil {
		return nil, err
	}
	if r.Lock.Ticket == 0 {
		return s.granted(r.Index, b.Session, 0, r.Lock.Grants), nil
	}
	if cycle := s.cycle(r.Lock.Ticket); cycle != nil {
		out := parked(r.Lock.Ticket, r.Lock.Position, r.Index) // whoever asked decides whether to wait all the same
		out.Body.Deadlock = cycle
		return out, nil
	}
	return s.park(ctx, r.Lock.Ticket, min(api.ParkMaxMs*time.Millisecond, time.Duration(b.WaitMs)*time.Millisecond+ticketLateness))
}

func (s *Server) reattach(ctx context.Context, b *api.AcquireLocks) (*answer[api.Acquired], error) {
	if b.Session != "" || b.Owner != "" || len(b.Locks) != 0 || b.ClaimMs != 0 || b.Reentrant || b.LockDelayMs != 0 || b.Value != "" {
		return nil, invalid("body.ticket", "nothing but wait_ms goes with a ticket")
	}
	patience := api.ParkMaxMs * time.Millisecond
	if b.WaitMs > 0 {
		patience = min(patience, time.Duration(b.WaitMs)*time.Millisecond)
	}
	// A wait that this node sees waiting is told of what is applied from now on. Only what it says at once must be proven: that it does not
	// know the ticket, which a leader might that has not applied everything yet, or how the wait ended.
	waiting := false
	s.rep.View(func(st *fsm.State) {
		t, _ := st.Ticket(b.Ticket)
		waiting = t.State == fsm.TicketWaiting
	})
	if !waiting || !s.rep.Leader().Self {
		if err := s.fresh(ctx, api.Linearizable); err != nil {
			return nil, err
		}
	}
	return s.park(ctx, b.Ticket, patience)
}

// park answers how a wait ended, or its ticket when the patience, the leadership or this node ends first.
func (s *Server) park(ctx context.Context, id uint64, patience time.Duration) (*answer[api.Acquired], error) {
	w := s.rep.Watch("tickets", strconv.FormatUint(id, 10))
	defer w.Close()
	s.parked.add(id)
	defer s.parked.remove(id)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	recheck := time.NewTicker(leadRecheck)
	defer recheck.Stop()
	position := 0
	for {
		var t fsm.Ticket
		var grants []fsm.GrantedTo
		var index uint64
		var found bool
		s.rep.View(func(st *fsm.State) {
			t, found = st.Ticket(id)
			grants, index = st.Granted(t), st.Revision()
		})
		if !found {
			return nil, refusedBy(fsm.Result{Code: fsm.CodeTicketNotFound, Detail: "it ended long ago or never was", Index: index})
		}
		if t.State != fsm.TicketWaiting {
			return s.ended(ctx, t, index, grants)
		}
		select {
		case <-w.Wake():
			continue
		case <-recheck.C:
			if s.rep.Leader().Self {
				continue
			}
		case <-timer.C:
		case <-s.draining:
		case <-ctx.Done():
		}
		s.rep.View(func(st *fsm.State) { position, index = st.Position(id), st.Revision() })
		return parked(id, position, index), nil
	}
}

func parked(ticket uint64, position int, index uint64) *answer[api.Acquired] {
	return &answer[api.Acquired]{Status: http.StatusAccepted, Index: index, Body: api.Acquired{Ticket: ticket, Position: position}}
}

func (s *Server) granted(index uint64, session string, ticket uint64, grants []fsm.GrantedTo) *answer[api.Acquired] {
	out := &answer[api.Acquired]{Status: http.StatusOK, Index: index}
	out.Body = api.Acquired{Grants: grantsOf(grants), Ticket: ticket}
	out.Body.LeaseRemainingMs, _ = s.rep.LeaseRemaining(session)
	return out
}

// tickets are the waits whose requests are parked at this node, each with how many.
type tickets struct {
	mu sync.Mutex
	n  map[uint64]int
}

func (t *tickets) add(id uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n[id]++
}

func (t *tickets) remove(id uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n[id]--; t.n[id] == 0 {
		delete(t.n, id)
	}
}

func (t *tickets) has(id uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n[id] > 0
}

// ended answers a wait that is over.
func (s *Server) ended(ctx context.Context, t fsm.Ticket, index uint64, grants []fsm.GrantedTo) (*answer[api.Acquired], error) {
	over := func(code api.Code, detail string) (*answer[api.Acquired], error) {
		p := problem(code, detail)
		p.Index = index
		return nil, p
	}
	switch t.State {
	case fsm.TicketGranted:
		return s.claim(ctx, t, index, grants)
	case fsm.TicketTimedOut:
		return over(api.CodeLockWaitTimeout, "waited in vain")
	case fsm.TicketSessionGone:
		return over(api.CodeSessionNotFound, "the session ended while it waited")
	case fsm.TicketCancelled:
		return over(api.CodeTicketEnded, "the wait was cancelled")
	case fsm.TicketUnclaimed:
		return over(api.CodeTicketEnded, "the lock was granted and nobody came for it within claim_ms")
	case fsm.TicketReleased:
		return over(api.CodeTicketEnded, "the lock was granted, and given back or lost since")
	}
	return nil, s.bug(ctx, errUnknownTicketState)
}

// claim logs that the owner is being told of the grant, and tells it then. Telling beside the claim would save a commit for each hand-over
// that was waited for, but a grant must not be told by a node that no longer leads, or later than claim_ms: the lock would go to the next
// while the first believes in it. When the claim does not come through the ticket is the answer, for it finds the grant wherever it stands.
func (s *Server) claim(ctx context.Context, t fsm.Ticket, index uint64, grants []fsm.GrantedTo) (*answer[api.Acquired], error) {
	if t.Claimed {
		return s.granted(index, t.Session(), t.ID, grants), nil
	}
	ctx, cancel := context.WithTimeout(ctx, claimMax)
	defer cancel()
	results, err := s.rep.Propose(ctx, fsm.Op{Command: fsm.ClaimTicket{ID: t.ID}})
	if err != nil {
		return parked(t.ID, 0, index), nil
	}
	if results[0].Refused() {
		return nil, refusedBy(results[0])
	}
	return s.granted(results[0].Index, t.Session(), t.ID, results[0].Lock.Grants), nil
}
