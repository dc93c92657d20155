package fsm

import (
	"fmt"
	"testing"
)

// check verifies the invariants of doc.go that hold between entries. It looks at everything: tests only.
func (s *State) check() error {
	for _, c := range []func(*State) error{checkLocks, checkTickets, checkInstances, checkServices, checkPlans, checkCleanups, checkOutbox, checkStored} {
		if err := c(s); err != nil {
			return err
		}
	}
	if s.counters.Revision%derivedEvery != 0 {
		return nil
	}
	return checkDerived(s)
}

// derivedEvery thins out the one check that rebuilds everything.
const derivedEvery = 8

// checkLocks looks at every name: who holds it may hold it together, and who waits has a reason to.
func checkLocks(s *State) error {
	var err error
	s.LockNames("", func(name string) bool {
		err = checkLock(s, name)
		return err == nil
	})
	return err
}

func checkLock(s *State, name string) error {
	var mode LockMode
	var permits, limit, last uint64
	holders := 0
	var err error
	s.Grants(name, func(g Grant) bool {
		holders++
		switch {
		case !s.sessions.has(g.Session):
			err = fmt.Errorf("I4: %q is held by session %q, which does not exist", name, g.Session)
		case g.Token > s.counters.Token || g.Token <= last:
			err = fmt.Errorf("I4: %q has token %d after %d, the last given is %d", name, g.Token, last, s.counters.Token)
		case holders > 1 && (g.Mode != mode || g.Mode == Exclusive || g.Limit != limit):
			err = fmt.Errorf("I4: %q is held in mode %d beside mode %d", name, g.Mode, mode)
		case g.Mode == Permits && permits+g.Permits > g.Limit:
			err = fmt.Errorf("I4: %q has %d permits of %d taken", name, permits+g.Permits, g.Limit)
		}
		mode, limit, permits, last = g.Mode, g.Limit, permits+g.Permits, g.Token
		return err == nil
	})
	if head, waiting := s.queues.first(name); err == nil && waiting {
		if t, _ := s.tickets.get(head.num); s.grantable(t) {
			err = fmt.Errorf("I5: ticket %d waits for %q and could have all that it wants", t.ID, name)
		}
	}
	return err
}

func checkTickets(s *State) error {
	var err error
	unclaimed := map[string]bool{}
	s.tickets.ascend(0, func(_ uint64, t Ticket) bool {
		switch {
		case t.State == TicketWaiting && !s.sessions.has(t.Session()):
			err = fmt.Errorf("ticket %d waits for a session that is gone", t.ID)
		case t.State == TicketGranted && len(t.Tokens) != len(t.Acquire.Wants):
			err = fmt.Errorf("ticket %d was granted %d of %d names", t.ID, len(t.Tokens), len(t.Acquire.Wants))
		case t.Until == 0:
			err = fmt.Errorf("ticket %d in state %d has no deadline", t.ID, t.State)
		case t.State == TicketGranted && !t.Claimed:
			for i, w := range t.Acquire.Wants {
				unclaimed[grantKey(w.Name, t.Tokens[i])] = true
			}
		}
		return err == nil
	})
	s.grants.ascend("", func(key string, g Grant) bool {
		t, ok := s.tickets.get(g.Ticket)
		if ok && err == nil && !unclaimed[key] && t.State != TicketGranted {
			err = fmt.Errorf("grant %d of %q belongs to ticket %d in state %d", g.Token, g.Name, t.ID, t.State)
		}
		return err == nil
	})
	return err
}

func checkInstances(s *State) error {
	var err error
	names := map[string]string{}
	s.instances.ascend("", func(id string, v Instance) bool {
		if !v.State.live() {
			return true
		}
		key := v.Service + "/" + v.Name
		switch {
		case names[key] != "":
			err = fmt.Errorf("%s has two live incarnations: %s and %s", key, names[key], id)
		case !s.sessions.has(v.Session):
			err = fmt.Errorf("instance %s is %s without a session", id, v.State)
		case v.State == InstanceDraining && v.Grant == 0:
			err = fmt.Errorf("I7: instance %s drains without a grant", id)
		}
		names[key] = id
		return err == nil
	})
	return err
}

func checkOutbox(s *State) error {
	var err error
	s.events.ascend("", func(key string, e Event) bool {
		switch {
		case e.Token > s.counters.Token:
			err = fmt.Errorf("I8: event %q has token %d beyond %d", key, e.Token, s.counters.Token)
		case !s.mappings.has(e.Mapping):
			err = fmt.Errorf("event %q of a mapping that is gone", key)
		case s.dead.has(key):
			err = fmt.Errorf("row %q is pending and dead", key)
		}
		return err == nil
	})
	return err
}

func checkStored(s *State) error {
	if s.stored.len() != s.ages.len() || s.stored.len() > KeysMax {
		return fmt.Errorf("I6: %d results, %d ages", s.stored.len(), s.ages.len())
	}
	if n := len(s.ages.list); n > 2*s.stored.len()+agesSlack {
		return fmt.Errorf("I6: %d results are listed in %d places", s.stored.len(), n)
	}
	return nil
}

func (a *ages) alive() (alive []age) {
	for _, x := range a.list {
		if x.key != "" {
			alive = append(alive, x)
		}
	}
	return alive
}

// checkDerived compares the indexes with those that a restore would build.
func checkDerived(s *State) error {
	fresh := New()
	fresh.counters = s.counters
	c := s.Clone()
	fresh.nodes, fresh.sessions, fresh.grants, fresh.tickets, fresh.delays = c.nodes, c.sessions, c.grants, c.tickets, c.delays
	fresh.stored, fresh.acked, fresh.instances, fresh.events, fresh.dead = c.stored, c.acked, c.instances, c.events, c.dead
	fresh.plans, fresh.cleanups, fresh.prepared = c.plans, c.cleanups, c.prepared
	fresh.reindex()
	for _, x := range []struct {
		name       string
		have, want index
	}{
		{"queues", s.queues, fresh.queues}, {"holdings", s.holdings, fresh.holdings}, {"waits", s.waits, fresh.waits},
		{"asking", s.asking, fresh.asking},
		{"members", s.members, fresh.members}, {"drains", s.drains, fresh.drains}, {"due", s.due, fresh.due},
		{"held", s.held, fresh.held}, {"orphans", s.orphans, fresh.orphans},
		{"probes", s.probes, fresh.probes}, {"preparers", s.preparers, fresh.preparers},
	} {
		if have, want := fmt.Sprint(x.have.tree.Items()), fmt.Sprint(x.want.tree.Items()); have != want {
			return fmt.Errorf("index %s is %s, the tables say %s", x.name, have, want)
		}
		if have, want := fmt.Sprint(x.have.counts), fmt.Sprint(x.want.counts); have != want {
			return fmt.Errorf("index %s counts %s, the tables say %s", x.name, have, want)
		}
	}
	for _, x := range []struct {
		name       string
		have, want any
	}{{"uses", s.uses, fresh.uses}, {"owns", s.owns, fresh.owns}, {"holding", s.holding, fresh.holding}, {"revoked", s.revoked, fresh.revoked},
		{"named", s.named, fresh.named},
		{"occupied", s.occupied, fresh.occupied}, {"working", s.working, fresh.working},
		{"reserved", s.reserved, fresh.reserved}, {"reservedOf", s.reservedOf, fresh.reservedOf}, {"announced", s.announced, fresh.announced},
		{"outstanding", s.outstanding, fresh.outstanding}, {"ages", s.ages.alive(), fresh.ages.alive()}} {
		if have, want := fmt.Sprint(x.have), fmt.Sprint(x.want); have != want {
			return fmt.Errorf("%s is %s, the tables say %s", x.name, have, want)
		}
	}
	// A timer may be left over from a deadline that moved; none may be missing.
	for _, x := range []struct{ have, want timers }{{s.timers, fresh.timers}, {s.urgent, fresh.urgent}} {
		for _, t := range x.want.tree.Items() {
			if _, ok := x.have.tree.Get(t); !ok && t.what != timerAcked && t.what != timerStored { // these may stand earlier, and are then set again
				return fmt.Errorf("timer %+v is missing", t)
			}
		}
	}
	for name, want := range fresh.pending {
		if s.pending[name] != want {
			return fmt.Errorf("mapping %s has %d pending events counted, %d there", name, s.pending[name], want)
		}
	}
	return nil
}

// apply runs one entry and fails the test when an invariant does not hold after it.
func apply(t testing.TB, s *State, term uint64, e Entry) []Result {
	t.Helper()
	decoded, err := DecodeEntry(EncodeEntry(e))
	if err != nil {
		t.Fatalf("decode: %v", err)
	}
	results, _ := s.Apply(term, decoded)
	if err := s.check(); err != nil {
		t.Fatalf("after %+v: %v", e, err)
	}
	return results
}
