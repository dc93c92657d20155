package fsm

import (
	"slices"
	"testing"
)

func tick(t testing.TB, s *State, ms uint64) {
	t.Helper()
	apply(t, s, 1, Entry{Now: s.Now() + ms, Ops: []Op{{Command: Tick{}}}})
}

func finish(t testing.TB, s *State, id string) {
	t.Helper()
	v, _ := s.Instance(id)
	must(t, s, FinishInstance{ID: id, Incarnation: v.Incarnation, Left: true})
}

// A platform that starts the successor first leaves no gap to keep a place for; without a declared number nobody can know.
func TestBudget_NoPlaceIsKeptWhenNobodyIsMissing(t *testing.T) {
	t.Parallel()
	for replicas, kept := range map[uint32]bool{0: true, 3: false, 4: true} {
		s := fleet(t, PutService{MaxUnavailable: 1, Replicas: replicas}, 4) // three, and one in advance
		must(t, s, DrainInstance{ID: "i0", Intent: IntentRestart})
		finish(t, s, "i0")
		if v, _ := s.Instance("i0"); (v.HoldUntil != 0) != kept {
			t.Errorf("%d replicas: the place is kept until %d", replicas, v.HoldUntil)
		}
	}
}

func TestBudget_PercentagesRound(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		c            PutService
		n, drainable int
	}{
		{PutService{MaxUnavailablePercent: 10}, 3, 1}, // down, but at least one
		{PutService{MaxUnavailablePercent: 50}, 5, 2},
		{PutService{MinAvailablePercent: 50}, 5, 2}, // up: three must stay
		{PutService{MinAvailablePercent: 100}, 3, 0},
		{PutService{MaxUnavailablePercent: 25, Replicas: 8}, 4, 2},
		{PutService{MinAvailable: 2}, 5, 3},
		{PutService{}, 3, 1}, // nobody said anything
	} {
		s := fleet(t, x.c, x.n)
		for i := range x.n {
			must(t, s, DrainInstance{ID: "i" + string(rune('0'+i)), Intent: IntentRemove})
		}
		if got := len(draining(s)); got != x.drainable {
			t.Errorf("%+v of %d: %d drain, want %d", x.c, x.n, got, x.drainable)
		}
	}
}

// A lone instance does not stand in its own way; one of two that have not settled does in the other's.
func TestBudget_OwnPlaceIsNotHeldAgainstOne(t *testing.T) {
	t.Parallel()
	settle := uint64(100)
	for _, c := range []PutService{{MaxUnavailable: 1, SettleMs: &settle}, {MinAvailablePercent: 50, SettleMs: &settle}} {
		for n, want := range map[int]InstanceState{1: InstanceDraining, 2: InstanceQueued} {
			if c.MinAvailablePercent > 0 {
				want = InstanceQueued // nobody counts as available yet
			}
			s := fleet(t, c, n)
			must(t, s, DrainInstance{ID: "i0", Intent: IntentRemove})
			if got := stateOf(s, "i0"); got != want {
				t.Errorf("%+v, %d of them: %s", c, n, got)
			}
		}
	}
}

// What is told of the earliest grant is a bound that is kept: here nobody intervenes, and it is the very moment.
func TestOutlook_EarliestGrantIsWhenTheOthersPlacesAreFree(t *testing.T) {
	t.Parallel()
	settle := uint64(1000)
	for _, x := range []struct {
		name     string
		c        PutService
		gap      uint64 // between the starts of i0, i1 and i2
		asks     string
		earliest uint64 // after the last start
	}{
		{"its own settling is not in its way", PutService{MaxUnavailable: 1}, 100, "i2", 900},
		{"the youngest of the others decides", PutService{MaxUnavailable: 1}, 100, "i0", 1000},
		{"two may be away", PutService{MaxUnavailable: 2}, 100, "i0", 900},
		{"two of three must serve", PutService{MinAvailable: 2}, 100, "i0", 1000},
		{"one of three must serve", PutService{MinAvailable: 1}, 100, "i2", 800},
	} {
		x.c.Name, x.c.SettleMs = "svc", &settle
		s := fresh(t, x.c)
		for i := range 3 {
			if i > 0 {
				tick(t, s, x.gap)
			}
			join(t, s, i)
		}
		now := s.Now()
		r := must(t, s, DrainInstance{ID: x.asks, Intent: IntentRemove})
		if o := r.Instance.Outlook; o == nil || o.Earliest != now+x.earliest {
			t.Errorf("%s: %+v, want %d after %d", x.name, o, x.earliest, now)
			continue
		}
		tick(t, s, x.earliest-1)
		before := stateOf(s, x.asks)
		tick(t, s, 1)
		if after := stateOf(s, x.asks); before != InstanceQueued || after != InstanceDraining {
			t.Errorf("%s: %s before that moment, %s then", x.name, before, after)
		}
	}
}

// Settling counts again after a pause, and whoever was only queued served on.
func TestBudget_PauseAndUndoSettleAnew(t *testing.T) {
	t.Parallel()
	settle := uint64(100)
	s := fleet(t, PutService{MaxUnavailable: 1, SettleMs: &settle}, 2)
	tick(t, s, settle)
	settled := func(id string) bool { v, _ := s.Instance(id); return v.Settled() }
	must(t, s, PauseInstance{ID: "i0"})
	must(t, s, ResumeInstance{ID: "i0"})
	if settled("i0") {
		t.Error("a resumed instance counts at once")
	}
	tick(t, s, settle)
	must(t, s, DrainInstance{ID: "i0", Intent: IntentRestart})
	must(t, s, DrainInstance{ID: "i1", Intent: IntentRestart})
	must(t, s, UndoDrain{ID: "i1"}) // it was queued
	must(t, s, UndoDrain{ID: "i0"}) // it was out of service
	if !settled("i1") || settled("i0") {
		t.Errorf("i0 settled %v, i1 settled %v", settled("i0"), settled("i1"))
	}
}

func TestInstance_SupersededInItsLastPhasesHasLeft(t *testing.T) {
	t.Parallel()
	for phase, want := range map[string]InstanceState{"flush": InstanceLost, "close": InstanceLeft, "leave": InstanceLeft} {
		s := fleet(t, PutService{}, 1)
		must(t, s, DrainInstance{ID: "i0", Intent: IntentRestart})
		v, _ := s.Instance("i0")
		must(t, s, ReportPhase{ID: "i0", Incarnation: v.Incarnation, Phase: phase, Seq: 1})
		must(t, s, RegisterInstance{ID: "j", Session: "sj", Service: "svc", Name: v.Name, TTLMs: 1000})
		if got := stateOf(s, "i0"); got != want {
			t.Errorf("superseded in %s it is %s", phase, got)
		}
	}
}

// An end that nobody wished for keeps the lock's delay: its holder may still run.
func TestInstance_LocksOfOneThatDidNotLeaveHaveTheirDelay(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		how     string
		end     func(s *State)
		delayed bool
	}{
		{"left", func(s *State) { finish(t, s, "i0") }, false},
		{"forced", func(s *State) { tick(t, s, drainSlackMs) }, true},
		{"superseded", func(s *State) {
			must(t, s, RegisterInstance{ID: "j", Session: "sj", Service: "svc", Name: "pod0", TTLMs: 1000})
		}, true},
		{"lost", func(s *State) { must(t, s, ExpireSession{ID: "si0", Generation: 1}) }, true},
	} {
		s := fleet(t, PutService{}, 1)
		must(t, s, AcquireLock{Session: "si0", Wants: want("x", "y"), DelayMs: 60_000})
		must(t, s, DrainInstance{ID: "i0", Intent: IntentRemove})
		x.end(s)
		v, _ := s.Instance("i0")
		if _, delayed := s.delays.get("x"); delayed != x.delayed || v.LocksFreed != 2 {
			t.Errorf("%s (%s): delayed %v, %d locks freed", x.how, v.State, delayed, v.LocksFreed)
		}
		if v.Unadopted != x.delayed {
			t.Errorf("%s: to be adopted %v", x.how, v.Unadopted)
		}
	}
}

func TestPlan_ShutdownKeepsTheBudgetOfServicesThatWait(t *testing.T) {
	t.Parallel()
	s := fleet(t, PutService{MinAvailable: 1, DependsOn: []string{"base"}}, 1)
	must(t, s, PutService{Name: "base", MinAvailable: 1, SettleMs: new(uint64)})
	must(t, s, RegisterInstance{ID: "b", Session: "sb", Service: "base", Name: "b", TTLMs: 9000})
	v, _ := s.Instance("b")
	must(t, s, SetInstanceReady{ID: "b", Incarnation: v.Incarnation})
	must(t, s, NewPlan{Rules: PlanRules{Intent: PlanShutdown, Services: []string{"base", "svc"}, AllowZero: true}, Start: true})
	must(t, s, DrainInstance{ID: "b", Intent: IntentRemove})
	if stateOf(s, "i0") != InstanceDraining || stateOf(s, "b") != InstanceQueued {
		t.Fatalf("i0 %s, b %s", stateOf(s, "i0"), stateOf(s, "b"))
	}
	finish(t, s, "i0")
	if stateOf(s, "b") != InstanceDraining {
		t.Fatalf("b %s", stateOf(s, "b"))
	}
}

func TestPlan_CountsLossesOfThoseThatAreNoTargets(t *testing.T) {
	t.Parallel()
	s := fleet(t, PutService{MaxUnavailable: 1}, 2)
	plan := must(t, s, NewPlan{Rules: PlanRules{Intent: PlanRestart, Services: []string{"svc"}}, Start: true}).Plan.ID
	join(t, s, 50)
	must(t, s, ExpireSession{ID: "si50", Generation: 1})
	if p, _ := s.Plan(plan); p.State != PlanFailed {
		t.Fatalf("%+v", p)
	}
}

// The keys of a service stay as long as its place is kept: it is expected back.
func TestCleanup_WaitsForKeptPlaces(t *testing.T) {
	t.Parallel()
	hold := uint64(1000)
	s := fleet(t, PutService{RestartHoldMs: &hold, Cleanup: &ServiceCleanup{Target: "cache", Patterns: []string{"svc:*"}}}, 1)
	states := func() (out []CleanupState) {
		s.Cleanups(0, func(c Cleanup) bool { out = append(out, c.State); return true })
		return out
	}
	must(t, s, DrainInstance{ID: "i0", Intent: IntentRestart})
	finish(t, s, "i0")
	if got := states(); len(got) != 0 {
		t.Fatal(got)
	}
	tick(t, s, hold)
	if got := states(); !slices.Equal(got, []CleanupState{CleanupRunning}) {
		t.Fatal(got)
	}
	join(t, s, 1)
	finish(t, s, "i1") // it leaves without a drain: a place is kept again
	tick(t, s, hold)
	if got := states(); !slices.Equal(got, []CleanupState{CleanupStopped, CleanupRunning}) {
		t.Fatal(got)
	}
}
