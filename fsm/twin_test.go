package fsm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"
)

// lockTwin is the obvious way to say who holds what and who waits: two lists, searched from the front. It knows nothing of rows, indexes,
// tokens or tickets. Nothing expires in it, and every grant is claimed.
type lockTwin struct {
	alive  map[string]bool
	grants []twinGrant // in the order of granting
	waits  []AcquireLock
}

type twinGrant struct {
	session, owner string
	LockWant
	count int // 0: not reentrant
}

func (w *lockTwin) acquire(c AcquireLock) {
	if !w.alive[c.Session] || w.limitDiffers(c) {
		return
	}
	blockedByItself := false
	free := true
	for _, l := range c.Wants {
		if w.reentrant(c, l) >= 0 {
			continue
		}
		if w.countsOther(c, l) || !w.room(l) || slices.ContainsFunc(w.waits, func(o AcquireLock) bool { return wants(o, l.Name) }) {
			free = false
			blockedByItself = blockedByItself || slices.ContainsFunc(w.grants, func(g twinGrant) bool {
				return g.Name == l.Name && g.session == c.Session && g.owner == c.Owner
			})
		}
	}
	switch {
	case free:
		w.give(c)
	case c.WaitMs > 0 && !blockedByItself && !w.waitsTooOften(c):
		w.waits = append(w.waits, c)
	}
}

func (w *lockTwin) waitsTooOften(c AcquireLock) bool {
	n := 0
	for _, o := range w.waits {
		if o.Reentrant && o.party() == c.party() {
			n++
		}
	}
	return c.Reentrant && n >= ReentrantWaitsMax
}

func (w *lockTwin) limitDiffers(c AcquireLock) bool {
	for _, l := range c.Wants {
		other := func(o LockWant) bool {
			return o.Name == l.Name && l.Mode == Permits && o.Mode == Permits && o.Limit != l.Limit
		}
		if slices.ContainsFunc(w.grants, func(g twinGrant) bool { return other(g.LockWant) }) ||
			slices.ContainsFunc(w.waits, func(o AcquireLock) bool { return slices.ContainsFunc(o.Wants, other) }) {
			return true
		}
	}
	return false
}

func wants(c AcquireLock, name string) bool {
	return slices.ContainsFunc(c.Wants, func(l LockWant) bool { return l.Name == name })
}

func (w *lockTwin) reentrant(c AcquireLock, l LockWant) int {
	return slices.IndexFunc(w.grants, func(g twinGrant) bool {
		return c.Reentrant && g.count > 0 && g.session == c.Session && g.owner == c.Owner && g.LockWant == l
	})
}

func (w *lockTwin) countsOther(c AcquireLock, l LockWant) bool {
	return w.reentrant(c, l) < 0 && slices.ContainsFunc(w.grants, func(g twinGrant) bool {
		return c.Reentrant && g.count > 0 && g.Name == l.Name && g.session == c.Session && g.owner == c.Owner
	})
}

func (w *lockTwin) room(l LockWant) bool {
	taken := uint64(0)
	for _, g := range w.grants {
		if g.Name != l.Name {
			continue
		}
		if g.Mode != l.Mode || l.Mode == Exclusive {
			return false
		}
		taken += g.Permits
	}
	return l.Mode != Permits || taken+l.Permits <= l.Limit
}

func (w *lockTwin) give(c AcquireLock) {
	for _, l := range c.Wants {
		if i := w.reentrant(c, l); i >= 0 {
			w.grants[i].count++
			continue
		}
		g := twinGrant{session: c.Session, owner: c.Owner, LockWant: l}
		if c.Reentrant {
			g.count = 1
		}
		w.grants = append(w.grants, g)
	}
}

// settle grants waits until none can be: each must be the first that wants each of its names, and fit.
func (w *lockTwin) settle() {
	for again := true; again; {
		again = false
		for i, c := range w.waits {
			ok := true
			for _, l := range c.Wants {
				first := slices.IndexFunc(w.waits, func(o AcquireLock) bool { return wants(o, l.Name) })
				ok = ok && (w.reentrant(c, l) >= 0 || first == i && w.room(l) && !w.countsOther(c, l))
			}
			if ok {
				w.waits = slices.Delete(w.waits, i, i+1)
				w.give(c)
				again = true
				break
			}
		}
	}
}

func (w *lockTwin) release(g Grant) {
	i := slices.IndexFunc(w.grants, func(o twinGrant) bool { return o.same(g) })
	if w.grants[i].count > 1 {
		w.grants[i].count--
		return
	}
	w.grants = slices.Delete(w.grants, i, i+1)
}

// same finds a grant of the state in the twin. Two grants of one owner that are alike in everything are as good as each other.
func (g twinGrant) same(o Grant) bool {
	return g.session == o.Session && g.owner == o.Owner && g.LockWant == (LockWant{o.Name, o.Mode, o.Permits, o.Limit}) && uint64(g.count) == o.Count
}

func (w *lockTwin) end(session string) {
	delete(w.alive, session)
	w.grants = slices.DeleteFunc(w.grants, func(g twinGrant) bool { return g.session == session })
	w.waits = slices.DeleteFunc(w.waits, func(c AcquireLock) bool { return c.Session == session })
}

// String lists everything in an order of its own: the state grants what can be granted at once in another order than the twin.
func (w *lockTwin) String() string {
	var lines []string
	for _, g := range w.grants {
		lines = append(lines, fmt.Sprintf("%s held by %s/%s mode %d permits %d of %d count %d", g.Name, g.session, g.owner, g.Mode, g.Permits, g.Limit, g.count))
	}
	sort.Strings(lines)
	for _, c := range w.waits {
		lines = append(lines, fmt.Sprintf("%s/%s waits for %v", c.Session, c.Owner, c.Wants))
	}
	return strings.Join(lines, "\n")
}

func asTwin(s *State) string {
	w := &lockTwin{}
	s.grants.ascend("", func(_ string, g Grant) bool {
		w.grants = append(w.grants, twinGrant{g.Session, g.Owner, LockWant{g.Name, g.Mode, g.Permits, g.Limit}, int(g.Count)})
		return true
	})
	s.tickets.ascend(0, func(_ uint64, t Ticket) bool {
		if t.State == TicketWaiting {
			w.waits = append(w.waits, t.Acquire)
		}
		return true
	})
	return w.String()
}

func TestLock_AgreesWithItsTwin(t *testing.T) {
	t.Parallel()
	st := &story{r: rand.New(rand.NewPCG(seedOf(t), 2)), s: fresh(t)}
	w := &lockTwin{alive: map[string]bool{}}
	seen := map[string]int{}
	for step := range 5_000 {
		c := twinCommand(st, w)
		if c == nil {
			continue
		}
		before := st.s.Clone()
		r := apply(t, st.s, 1, Entry{Ops: []Op{{Command: c}}})[0]
		seen[fmt.Sprintf("%T %s", c, r.Code)]++
		w.settle()
		if have, want := asTwin(st.s), w.String(); have != want {
			t.Fatalf("step %d, %+v: %+v\nthe state has\n%s\nthe twin has\n%s", step, c, r, have, want)
		}
		if err := newGrantsRise(st.s, before); err != nil {
			t.Fatalf("step %d, %+v: %v", step, c, err)
		}
		claimAll(st.s)
	}
	t.Logf("%v", seen)
	for _, want := range []string{"fsm.AcquireLock ", "fsm.AcquireLock lock_held", "fsm.AcquireLock limit_mismatch", "fsm.ReleaseLock ", "fsm.DowngradeLock ", "fsm.CloseSession "} {
		if seen[want] < 10 {
			t.Errorf("%q came %d times only", want, seen[want])
		}
	}
}

// twinCommand draws a command and tells the twin of it.
func twinCommand(st *story, w *lockTwin) Command {
	session := st.name("s", 5)
	switch n := st.r.IntN(20); {
	case n < 2:
		w.alive[session] = true
		return OpenSession{ID: session, TTLMs: 1000}
	case n == 2 && st.r.IntN(3) == 0:
		w.end(session)
		return CloseSession{ID: session}
	case n < 11:
		c := AcquireLock{Session: session, Owner: st.name("o", 2), Wants: st.wants(), WaitMs: uint64(st.r.IntN(2)) * WaitMaxMs, ClaimMs: ClaimDefaultMs, Reentrant: st.r.IntN(3) == 0}
		if st.r.IntN(6) == 0 && c.Wants[0].Mode == Permits {
			c.Wants[0].Limit = 4
		}
		w.acquire(c)
		return c
	}
	var all []Grant
	st.s.grants.ascend("", func(_ string, g Grant) bool { all = append(all, g); return true })
	if len(all) == 0 {
		return nil
	}
	g := all[st.r.IntN(len(all))]
	if g.Mode == Exclusive && st.r.IntN(4) == 0 {
		i := slices.IndexFunc(w.grants, func(o twinGrant) bool { return o.same(g) })
		w.grants[i].Mode = Shared
		return DowngradeLock{Session: g.Session, Name: g.Name, Token: g.Token}
	}
	w.release(g)
	return ReleaseLock{Session: g.Session, Locks: []HeldLock{{Name: g.Name, Token: g.Token}}}
}

// newGrantsRise finds grants that were not there before under tokens that had been given already.
func newGrantsRise(s *State, before *State) error {
	var err error
	s.grants.ascend("", func(key string, g Grant) bool {
		if !before.grants.has(key) && g.Token <= before.counters.Token {
			err = fmt.Errorf("%s was granted under token %d, the last before was %d", g.Name, g.Token, before.counters.Token)
		}
		return err == nil
	})
	return err
}

func claimAll(s *State) {
	var ids []uint64
	s.tickets.ascend(0, func(id uint64, t Ticket) bool {
		if t.State == TicketGranted && !t.Claimed {
			ids = append(ids, id)
		}
		return true
	})
	for _, id := range ids {
		do(s, ClaimTicket{ID: id})
	}
}
