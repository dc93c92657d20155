package quiescetest

import (
	"cmp"
	"slices"
	"sync"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/httpapi"
)

// leases holds the deadlines of the sessions in memory, as a leader does: the state knows them as of the last logged renewal, which is the
// first keepalive of a term. Its lock is taken below the node's.
type leases struct {
	mu  sync.Mutex
	set map[string]*lease
}

type lease struct {
	ttlMs      uint64
	deadline   uint64 // cluster time
	generation uint64
	logged     bool // a renewal of this term is in the log
}

func newLeases() *leases { return &leases{set: map[string]*lease{}} }

// load takes over the sessions of the state at the beginning of a term.
func (ls *leases) load(s *fsm.State) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	clear(ls.set)
	s.Sessions("", func(v fsm.Session) bool {
		ls.putLocked(s, v)
		return true
	})
}

// changed follows the state.
func (ls *leases) changed(s *fsm.State, changes []fsm.Change) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, c := range changes {
		if c.Table != "sessions" {
			continue
		}
		if v, live := s.Session(c.Key); live {
			ls.putLocked(s, v)
		} else {
			delete(ls.set, c.Key)
		}
	}
}

func (ls *leases) putLocked(s *fsm.State, v fsm.Session) {
	have := ls.set[v.ID]
	if have == nil {
		have = &lease{}
		ls.set[v.ID] = have
	}
	have.ttlMs, have.generation = v.TTLMs, v.Generation
	have.deadline = max(have.deadline, v.Deadline)
	have.logged = v.RenewedTerm == s.Term()
}

// unlogged are those of the sessions whose renewal must be logged before it is acknowledged.
func (ls *leases) unlogged(ids []string) []string {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	var out []string
	for _, id := range ids {
		if have := ls.set[id]; have != nil && !have.logged {
			out = append(out, id)
		}
	}
	return out
}

// extend moves the deadlines. The node is locked, so that no expiry is on its way.
func (ls *leases) extend(ids []string, now uint64) []httpapi.Lease {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	out := make([]httpapi.Lease, 0, len(ids))
	for _, id := range ids {
		have := ls.set[id]
		if have == nil {
			out = append(out, httpapi.Lease{ID: id, Gone: true})
			continue
		}
		have.deadline = max(have.deadline, now+have.ttlMs)
		out = append(out, httpapi.Lease{ID: id, TTLMs: have.ttlMs, RemainingMs: have.deadline - now})
	}
	return out
}

func (ls *leases) remaining(id string, now uint64) (uint64, bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	have := ls.set[id]
	if have == nil {
		return 0, false
	}
	return have.deadline - min(have.deadline, now), true
}

// end makes leases due at once: all of them when no id is given.
func (ls *leases) end(ids ...string) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for id, have := range ls.set {
		if len(ids) == 0 || slices.Contains(ids, id) {
			have.deadline = 0
		}
	}
}

// next is when the first lease is due: after its deadline, not at it.
func (ls *leases) next() (uint64, bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	first, any := uint64(0), false
	for _, have := range ls.set {
		if !any || have.deadline < first {
			first, any = have.deadline, true
		}
	}
	return first + 1, any
}

// due are the commands that end the sessions whose time is up, those that are longest overdue first.
func (ls *leases) due(now uint64) []fsm.Op {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	type overdue struct {
		id string
		*lease
	}
	var all []overdue
	for id, have := range ls.set {
		if have.deadline < now {
			all = append(all, overdue{id, have})
		}
	}
	slices.SortFunc(all, func(a, b overdue) int {
		return cmp.Or(cmp.Compare(a.deadline, b.deadline), cmp.Compare(a.id, b.id))
	})
	ops := make([]fsm.Op, 0, min(len(all), expiriesPerEntry))
	for _, v := range all[:min(len(all), expiriesPerEntry)] {
		ops = append(ops, fsm.Op{Command: fsm.ExpireSession{ID: v.id, Generation: v.generation}})
	}
	return ops
}
