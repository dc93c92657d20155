package fsm

import (
	"github.com/tidwall/btree"
)

// timer is a deadline of some row. Timers are derived from rows: a row that changed its deadline simply has another timer, and the old
// one finds nothing due when it fires.
type timer struct {
	due  uint64
	what timerKind
	key  string
	id   uint64
}

type timerKind uint8

const (
	timerTicket timerKind = iota + 1 // end of a wait or of a claim
	timerKept                        // an ended ticket has been kept long enough
	timerStored                      // an idempotency result ends its window
	timerLeaving
	timerAcked    // a client may have been silent for a window
	timerInstance // an ended instance has been kept long enough
	timerDelay    // of a lock
	timerRevoke   // of a grant
	timerSettle   // an instance counts as available
	timerOverdraft
	timerHold // a place is kept no longer
	timerForce
	timerObserve // end of a plan's observation
	timerPlan    // deadline of a plan
	timerCleanup // a cleanup may begin
)

// timers fire in the order of (due, kind, key): the same on every replica.
type timers struct{ tree *btree.BTreeG[timer] }

func newTimers() timers {
	return timers{btree.NewBTreeGOptions(timerLess, btree.Options{NoLocks: true})}
}

func timerLess(a, b timer) bool {
	if a.due != b.due {
		return a.due < b.due
	}
	if a.what != b.what {
		return a.what < b.what
	}
	if a.id != b.id {
		return a.id < b.id
	}
	return a.key < b.key
}

// NextDeadline is the cluster time of the earliest deadline that is housekeeping. The leader may let it pass a little.
func (s *State) NextDeadline() (uint64, bool) {
	t, ok := s.timers.tree.Min()
	return t.due, ok
}

// NextWaitDeadline is the cluster time of the earliest deadline that somebody waits for.
func (s *State) NextWaitDeadline() (uint64, bool) {
	t, ok := s.urgent.tree.Min()
	return t.due, ok
}

func (t timer) of(s *State) timers {
	switch t.what {
	case timerTicket, timerDelay, timerRevoke, timerSettle, timerOverdraft, timerHold, timerObserve:
		return s.urgent
	}
	return s.timers
}

func (s *State) setTimer(t timer)  { t.of(s).tree.Set(t) }
func (s *State) dropTimer(t timer) { t.of(s).tree.Delete(t) }

// dueTimer takes the earliest deadline that has come, of both kinds.
func (s *State) dueTimer() (timer, bool) {
	t, ok := s.timers.tree.Min()
	if u, urgent := s.urgent.tree.Min(); urgent && (!ok || timerLess(u, t)) {
		t, ok = u, true
	}
	if !ok || t.due > s.counters.Now {
		return timer{}, false
	}
	s.dropTimer(t)
	return t, true
}

func (s *State) fireTimers() {
	for {
		t, ok := s.dueTimer()
		if !ok {
			return
		}
		s.step(func() Result { s.fire(t); return Result{} })
	}
}

// fire acts only for the row whose deadline is the timer's own. Asking whether the row's deadline has passed would not do: when time jumps
// over a left-over timer and the real one, a replica that has the left-over would act earlier in the order than one that was restored.
func (s *State) fire(t timer) {
	switch t.what {
	case timerTicket, timerKept:
		s.ticketDue(t.id, t.due)
	case timerStored:
		s.storedDue(t.id, t.due)
	case timerAcked:
		s.ackedDue(t.key, t.due)
	case timerLeaving:
		s.leavingDue(t.key, t.due)
	case timerInstance:
		s.instanceDue(t.key, t.due)
	case timerDelay:
		s.delayDue(t.key, t.due)
	case timerRevoke:
		s.revocationDue(t.key, t.id, t.due)
	case timerSettle:
		s.settleDue(t.key, t.due)
	case timerOverdraft:
		s.overdraftDue(t.key, t.due)
	case timerHold:
		s.holdDue(t.key, t.due)
	case timerForce:
		s.forceDue(t.key, t.due)
	case timerObserve:
		s.observed(t.id, t.due)
	case timerPlan:
		s.planOverdue(t.id, t.due)
	case timerCleanup:
		s.cleanupDue(t.id, t.due)
	}
}

// index is an ordered set of pairs (group, member), derived from rows.
type index struct {
	tree   *btree.BTreeG[pair]
	counts map[string]int  // by group
	hint   *btree.PathHint // changes come in runs of neighbours; it speeds up the search and decides nothing
}

type pair struct {
	group string
	num   uint64
	name  string
}

func newIndex() index {
	return index{btree.NewBTreeGOptions(pairLess, btree.Options{NoLocks: true}), map[string]int{}, new(btree.PathHint)}
}

func pairLess(a, b pair) bool {
	if a.group != b.group {
		return a.group < b.group
	}
	if a.num != b.num {
		return a.num < b.num
	}
	return a.name < b.name
}

func (x index) add(p pair) {
	if _, there := x.tree.SetHint(p, x.hint); !there {
		x.counts[p.group]++
	}
}

func (x index) remove(p pair) {
	if _, there := x.tree.DeleteHint(p, x.hint); !there {
		return
	}
	if x.counts[p.group]--; x.counts[p.group] == 0 {
		delete(x.counts, p.group)
	}
}

// first is the smallest member of a group.
func (x index) first(group string) (pair, bool) {
	if x.counts[group] == 0 {
		return pair{}, false
	}
	var found pair
	ok := false
	x.each(group, func(p pair) bool { found, ok = p, true; return false })
	return found, ok
}

func (x index) each(group string, visit func(pair) bool) {
	x.tree.Ascend(pair{group: group}, func(p pair) bool { return p.group == group && visit(p) })
}

// all collects a group, for callers that change it while they walk.
func (x index) all(group string) []pair {
	var out []pair
	x.each(group, func(p pair) bool { out = append(out, p); return true })
	return out
}

func (x index) count(group string) int { return x.counts[group] }

// before is the member of a group that stands before the given one.
func (x index) before(p pair) (pair, bool) {
	var found pair
	ok := false
	x.tree.Descend(p, func(q pair) bool {
		if q == p {
			return true
		}
		found, ok = q, q.group == p.group
		return false
	})
	return found, ok
}
