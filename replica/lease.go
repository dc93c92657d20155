package replica

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/quiescehq/quiesce/fsm"
)

// Lease is the answer to one keepalive.
type Lease struct {
	ID          string
	Gone        bool // the session does not exist (any more)
	TTLMs       uint64
	RemainingMs uint64 // until it may expire, counted from the answer
}

// lessor holds the deadlines of all sessions in the leader's memory. The state knows the deadline as of the last logged renewal; keepalives
// move only the one here, but for a session's first in a term, which is logged before it is acknowledged. So a new leader can tell who
// was alive in the preceding term.
type lessor struct {
	r      *Replica
	l      *leadership
	ticket chan struct{} // a wait was added or changed: the tick may have to come earlier

	mu     sync.Mutex
	leases map[string]*lease
}

type lease struct {
	ttlMs      uint64
	deadline   uint64 // cluster time
	generation uint64
	logged     bool          // a renewal of this term is in the log
	verdict    chan struct{} // not nil while an expiry is on its way; closed when its outcome is known
	unknown    bool          // the last expiry has an unknown outcome: nothing may be acknowledged
}

func newLessor(r *Replica, l *leadership) *lessor {
	return &lessor{r: r, l: l, ticket: make(chan struct{}, 1), leases: make(map[string]*lease)}
}

// load takes over the sessions of the state. The machine is locked.
func (ls *lessor) load(s *fsm.State) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	s.Sessions("", func(v fsm.Session) bool {
		ls.putLocked(v)
		return true
	})
}

func (ls *lessor) putLocked(v fsm.Session) {
	have := ls.leases[v.ID]
	if have == nil {
		have = &lease{}
		ls.leases[v.ID] = have
	}
	have.ttlMs, have.generation = v.TTLMs, v.Generation
	have.deadline = max(have.deadline, v.Deadline)
	have.logged = v.RenewedTerm == ls.l.term
}

// changed follows the state. The machine is locked for writing.
func (ls *lessor) changed(changes []fsm.Change) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, c := range changes {
		switch c.Table {
		case "sessions":
			if v, ok := ls.r.machine.state.Session(c.Key); ok {
				ls.putLocked(v)
			} else {
				ls.removeLocked(c.Key)
			}
		case "tickets", "instances", "plans": // each may have a deadline that somebody waits for
			select {
			case ls.ticket <- struct{}{}:
			default:
			}
		}
	}
}

// removeLocked also tells the keepalives that wait for the outcome of an expiry.
func (ls *lessor) removeLocked(id string) {
	if have := ls.leases[id]; have != nil && have.verdict != nil {
		close(have.verdict)
	}
	delete(ls.leases, id)
}

// Keepalive renews sessions and answers in order. An error means that nothing was acknowledged.
func (r *Replica) Keepalive(ctx context.Context, ids []string) ([]Lease, error) {
	l := r.leading.Load()
	if l == nil || !l.ready.Load() {
		return nil, r.notLeading()
	}
	return l.leases.renew(ctx, ids)
}

// LeaseRemaining is how long a session has, by the leader's memory; false on other nodes and for sessions that are gone.
func (r *Replica) LeaseRemaining(id string) (remainingMs uint64, ok bool) {
	l := r.leading.Load()
	if l == nil || !l.ready.Load() {
		return 0, false
	}
	l.leases.mu.Lock()
	defer l.leases.mu.Unlock()
	have := l.leases.leases[id]
	if have == nil {
		return 0, false
	}
	return minus(have.deadline, l.now()), true
}

func (ls *lessor) renew(ctx context.Context, ids []string) ([]Lease, error) {
	arrived := ls.l.now()
	first, err := ls.awaitVerdicts(ctx, ids)
	if err != nil {
		return nil, err
	}
	if len(first) > 0 {
		if _, err := ls.r.propose(ctx, ls.l, []fsm.Op{{Command: fsm.RenewSessions{IDs: first}}}); err != nil {
			return nil, err
		}
	}
	if err := ls.l.round(ctx); err != nil {
		return nil, err
	}
	return ls.extend(ctx, ids, arrived)
}

// awaitVerdicts waits until no expiry of these sessions is on its way, and finds those whose renewal must be logged.
func (ls *lessor) awaitVerdicts(ctx context.Context, ids []string) (first []string, err error) {
	for _, id := range ids {
		for {
			ls.mu.Lock()
			have := ls.leases[id]
			if have == nil || have.verdict == nil {
				if have != nil && have.unknown {
					err = ErrOutcomeUnknown
				} else if have != nil && !have.logged {
					first = append(first, id)
				}
				ls.mu.Unlock()
				break
			}
			verdict := have.verdict
			ls.mu.Unlock()
			select {
			case <-verdict:
			case <-ctx.Done():
				return nil, canceled(ctx)
			case <-ls.l.ended:
				return nil, ErrOutcomeUnknown
			}
		}
	}
	return first, err
}

// extend moves the deadlines. A session whose expiry began meanwhile is waited for: it is gone, or lives on and is renewed.
func (ls *lessor) extend(ctx context.Context, ids []string, arrived uint64) ([]Lease, error) {
	out := make([]Lease, 0, len(ids))
	for _, id := range ids {
		for {
			answer, verdict := ls.extendOne(id, arrived)
			if verdict == nil {
				out = append(out, answer)
				break
			}
			select {
			case <-verdict:
			case <-ctx.Done():
				return nil, canceled(ctx)
			case <-ls.l.ended:
				return nil, ErrOutcomeUnknown
			}
		}
	}
	return out, nil
}

func (ls *lessor) extendOne(id string, arrived uint64) (Lease, chan struct{}) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	have := ls.leases[id]
	if have == nil {
		return Lease{ID: id, Gone: true}, nil
	}
	if have.verdict != nil {
		return Lease{}, have.verdict
	}
	have.deadline = max(have.deadline, arrived+have.ttlMs)
	return Lease{ID: id, TTLMs: have.ttlMs, RemainingMs: minus(have.deadline, ls.l.now())}, nil
}

// run expires sessions: it marks them first, so that their keepalives wait, and proposes then.
func (ls *lessor) run(ctx context.Context) error {
	ticker := time.NewTicker(expiryInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			ls.expire(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

func (ls *lessor) expire(ctx context.Context) {
	ids, ops := ls.markDue()
	if len(ops) == 0 {
		return
	}
	results, err := ls.r.propose(ctx, ls.l, ops)
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for i, id := range ids {
		have := ls.leases[id]
		if have == nil {
			continue // applied: changed has removed it and told the waiting
		}
		have.unknown = err != nil && !errors.Is(err, ErrNotApplied)
		close(have.verdict)
		have.verdict = nil
		if err == nil {
			ls.r.log.Debug("expiry refused", "session", id, "code", string(results[i].Code))
		}
	}
}

func (ls *lessor) markDue() (ids []string, ops []fsm.Op) {
	now := ls.l.now()
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for id, have := range ls.leases {
		if have.deadline >= now || have.verdict != nil {
			continue
		}
		have.verdict = make(chan struct{})
		ids = append(ids, id)
		ops = append(ops, fsm.Op{Command: fsm.ExpireSession{ID: id, Generation: have.generation}})
		if len(ops) == expiriesPerRun {
			break
		}
	}
	return ids, ops
}

func minus(a, b uint64) uint64 {
	if a <= b {
		return 0
	}
	return a - b
}
