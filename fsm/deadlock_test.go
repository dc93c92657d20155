package fsm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func wait(session, owner string, names ...string) AcquireLock {
	return AcquireLock{Session: session, Owner: owner, Wants: want(names...), WaitMs: WaitMaxMs}
}

func TestDeadlock_ClosingWaitIsToldItsCircle(t *testing.T) {
	t.Parallel()
	open := []Command{OpenSession{ID: "a", TTLMs: 1000}, OpenSession{ID: "b", TTLMs: 1000}, OpenSession{ID: "c", TTLMs: 1000}}
	tests := []struct {
		name   string
		before []Command
		last   AcquireLock
		want   string
	}{
		{"two holders that want each other's", []Command{wait("a", "", "x"), wait("b", "", "y"), wait("a", "", "y")}, wait("b", "", "x"),
			"[b wants x, in the way a][a wants y, in the way b]"},
		{"three in a round", []Command{wait("a", "", "x"), wait("b", "", "y"), wait("c", "", "z"), wait("a", "", "y"), wait("b", "", "z")}, wait("c", "", "x"),
			"[c wants x, in the way a][a wants y, in the way b][b wants z, in the way c]"},
		{"by the turn of a wait for two", []Command{wait("b", "", "y"), wait("a", "", "x", "y")}, wait("b", "", "x"),
			"[b wants x, before it a][a wants y, in the way b]"},
		{"a line is no circle", []Command{wait("a", "", "x"), wait("b", "", "y"), wait("b", "", "x")}, wait("c", "", "y"), ""},
		{"owners of one session are strangers", []Command{wait("a", "1", "x"), wait("b", "1", "y"), wait("a", "1", "y")}, wait("b", "2", "x"), ""},
		{"two of one session", []Command{wait("a", "1", "x"), wait("a", "2", "y"), wait("a", "1", "y")}, wait("a", "2", "x"),
			"[a wants x, in the way a][a wants y, in the way a]"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := fresh(t, append(open, test.before...)...)
			if cycles, _ := s.Deadlocks(); len(cycles) != 0 {
				t.Fatalf("a circle before the last wait: %+v", cycles)
			}
			r := do(s, test.last)
			if got := tell(s.Cycle(r.Lock.Ticket)); got != test.want {
				t.Errorf("the circle is %s, want %s", got, test.want)
			}
			cycles, cut := s.Deadlocks()
			if cut || (len(cycles) == 1) != (test.want != "") {
				t.Errorf("all circles: %+v, cut %v", cycles, cut)
			}
			if test.want == "" {
				return
			}
			do(s, CancelTicket{ID: r.Lock.Ticket, Reason: "deadlock"})
			if cycles, _ := s.Deadlocks(); len(cycles) != 0 {
				t.Errorf("cancelled, and still %+v", cycles)
			}
		})
	}
}

func tell(cycle []WaitFor) string {
	out := ""
	for _, w := range cycle {
		how := "in the way"
		if w.ByTurn {
			how = "before it"
		}
		out += fmt.Sprintf("[%s wants %s, %s %s]", w.Session, w.Name, how, w.BlockedBy)
	}
	return out
}

// The obvious test is to play on: a circle is there exactly when somebody still waits after all who can have given back what they hold.
func TestDeadlock_FoundExactlyWhenNobodyCanGoOn(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(seedOf(t), 5))
	found := 0
	for range 400 {
		s := fresh(t)
		for i := range 4 {
			do(s, OpenSession{ID: fmt.Sprint("s", i), TTLMs: 1000})
		}
		for range 8 + r.IntN(12) {
			session := fmt.Sprint("s", r.IntN(4))
			if s.WaitsOf(session) == 0 { // a party that waits does nothing else: then playing on is exact
				names := []string{"l0", "l1", "l2", "l3"}
				r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
				do(s, wait(session, "", names[:1+r.IntN(2)]...))
			}
		}
		cycles, cut := s.Deadlocks()
		if cut {
			t.Fatal("so small a state was cut")
		}
		if stuck := playOn(s); stuck != (len(cycles) > 0) {
			t.Fatalf("stuck %v, circles %+v", stuck, cycles)
		}
		if len(cycles) > 0 {
			found++
		}
	}
	if found < 20 || found > 380 {
		t.Errorf("%d of 400 had a circle: that tests little", found)
	}
}

// playOn lets every party that does not wait give back all that it has, until nothing changes, and tells whether somebody still waits.
func playOn(s *State) bool {
	for again := true; again; {
		again = false
		for i := range 4 {
			session := fmt.Sprint("s", i)
			if s.WaitsOf(session) > 0 {
				continue
			}
			var held []Grant
			s.Holdings(session, func(g Grant) bool { held = append(held, g); return true })
			for _, g := range held {
				again = true
				do(s, ReleaseLock{Session: session, Locks: []HeldLock{{g.Name, g.Token}}})
			}
		}
	}
	return slices.ContainsFunc([]string{"s0", "s1", "s2", "s3"}, func(id string) bool { return s.WaitsOf(id) > 0 })
}

// A long queue costs a bounded number of looks.
func TestDeadlock_SearchIsBounded(t *testing.T) {
	t.Parallel()
	s := fresh(t, OpenSession{ID: "a", TTLMs: 1000}, wait("a", "h", "y"), wait("a", "0", "x"))
	for i := range 3 * cycleStepsMax {
		do(s, wait("a", fmt.Sprint("w", i), "x"))
	}
	r := do(s, wait("a", "h", "x"))
	if c := s.Cycle(r.Lock.Ticket); c != nil {
		t.Errorf("%+v", c)
	}
	if cycles, cut := s.Deadlocks(); len(cycles) != 0 || cut {
		t.Errorf("%+v, cut %v", cycles, cut)
	}
}
