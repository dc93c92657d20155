package fsm

import (
	"fmt"
	"slices"
	"testing"
)

// fleet is a service with n settled instances: i0, i1, ... of incarnations that the state gives.
func fleet(t testing.TB, c PutService, n int) *State {
	t.Helper()
	zero := uint64(0)
	c.Name = "svc"
	if c.SettleMs == nil {
		c.SettleMs = &zero
	}
	s := fresh(t, c)
	for i := range n {
		join(t, s, i)
	}
	return s
}

func join(t testing.TB, s *State, i int) Instance {
	t.Helper()
	id := fmt.Sprint("i", i)
	must(t, s, RegisterInstance{ID: id, Session: "s" + id, Service: "svc", Name: fmt.Sprint("pod", i%100), TTLMs: 10_000})
	v, _ := s.Instance(id)
	must(t, s, SetInstanceReady{ID: id, Incarnation: v.Incarnation})
	v, _ = s.Instance(id)
	return v
}

func must(t testing.TB, s *State, c Command) Result {
	t.Helper()
	r := apply(t, s, s.Term()|1, Entry{Now: s.Now(), Ops: []Op{{Command: c}}})[0]
	if r.Refused() {
		t.Fatalf("%T: %+v", c, r)
	}
	return r
}

func stateOf(s *State, id string) InstanceState {
	v, _ := s.Instance(id)
	return v.State
}

func targets(s *State, plan uint64) (out []TargetState) {
	p, _ := s.Plan(plan)
	for _, t := range p.Steps[p.Step].Targets {
		out = append(out, t.State)
	}
	return out
}

// leave ends a draining instance, and starts the next one in its place.
func (f *restarts) leave(id string) {
	v, _ := f.s.Instance(id)
	must(f.t, f.s, FinishInstance{ID: id, Incarnation: v.Incarnation, Left: true})
	f.next++
	join(f.t, f.s, f.next)
}

type restarts struct {
	t    testing.TB
	s    *State
	next int
}

func draining(s *State) (ids []string) {
	s.Members("svc", func(v Instance) bool {
		if v.State == InstanceDraining {
			ids = append(ids, v.ID)
		}
		return true
	})
	return ids
}

func TestPlan_WavesWaitForTheSlowestAndTheBudgetHoldsWithin(t *testing.T) {
	t.Parallel()
	s := fleet(t, PutService{MaxUnavailable: 2}, 7)
	f := &restarts{t, s, 99}
	plan := must(t, s, NewPlan{Rules: PlanRules{Intent: PlanRestart, Services: []string{"svc"}, Canary: 1, Wave: 3}, Start: true}).Plan.ID
	for _, want := range [][]string{{"i0"}, {"i1", "i2"}, {"i3"}, {"i4", "i5"}, {"i6"}} { // a canary, then waves of three of which two may go at a time
		if got := draining(s); !slices.Equal(got, want) {
			t.Fatalf("%v drain, want %v: %v", got, want, targets(s, plan))
		}
		for _, id := range want {
			f.leave(id)
			if want[0] == "i1" { // the third of the wave follows when the first is through
				break
			}
		}
		if want[0] == "i1" {
			if got := draining(s); !slices.Equal(got, []string{"i2", "i3"}) {
				t.Fatalf("%v drain", got)
			}
			f.leave("i2")
		}
	}
	if p, _ := s.Plan(plan); p.State != PlanSucceeded {
		t.Fatalf("%+v", p)
	}
}

func TestPlan_HaltsAtTheFirstLossAndTakesBackWhatIsQueued(t *testing.T) {
	t.Parallel()
	s := fleet(t, PutService{MaxUnavailable: 1}, 4)
	plan := must(t, s, NewPlan{Rules: PlanRules{Intent: PlanRestart, Services: []string{"svc"}, Wave: 3}, Start: true}).Plan.ID
	if got := targets(s, plan); !slices.Equal(got, []TargetState{TargetDraining, TargetQueued, TargetQueued, TargetPending}) {
		t.Fatal(got)
	}
	must(t, s, ExpireSession{ID: "si3", Generation: 1}) // no target that was asked: a stray all the same
	p, _ := s.Plan(plan)
	if p.State != PlanFailed || p.Why == "" || stateOf(s, "i1") != InstanceReady || stateOf(s, "i2") != InstanceReady || stateOf(s, "i0") != InstanceDraining {
		t.Fatalf("%+v, i1 %s, i2 %s", p, stateOf(s, "i1"), stateOf(s, "i2"))
	}
}

func TestPlan_SuccessorThatNeverComesFailsIt(t *testing.T) {
	t.Parallel()
	hold := uint64(500)
	s := fleet(t, PutService{MaxUnavailable: 1, RestartHoldMs: &hold}, 2)
	plan := must(t, s, NewPlan{Rules: PlanRules{Intent: PlanRestart, Services: []string{"svc"}}, Start: true}).Plan.ID
	v, _ := s.Instance("i0")
	must(t, s, FinishInstance{ID: "i0", Incarnation: v.Incarnation, Left: true})
	if got := targets(s, plan); got[0] != TargetWaiting || got[1] != TargetPending {
		t.Fatal(got)
	}
	apply(t, s, 1, Entry{Now: s.Now() + hold, Ops: []Op{{Command: Tick{}}}})
	if p, _ := s.Plan(plan); p.State != PlanFailed {
		t.Fatalf("%+v", p)
	}
}

func TestPlan_SuccessorThatDiesBeforeItSettlesFailsIt(t *testing.T) {
	t.Parallel()
	settle := uint64(300)
	s := fleet(t, PutService{MaxUnavailable: 1, SettleMs: &settle}, 2)
	apply(t, s, 1, Entry{Now: s.Now() + settle, Ops: []Op{{Command: Tick{}}}})
	plan := must(t, s, NewPlan{Rules: PlanRules{Intent: PlanRestart, Services: []string{"svc"}}, Start: true}).Plan.ID
	(&restarts{t, s, 99}).leave("i0")
	if got := targets(s, plan); got[0] != TargetWaiting {
		t.Fatal(got)
	}
	must(t, s, ExpireSession{ID: "si100", Generation: 1})
	if p, _ := s.Plan(plan); p.State != PlanFailed {
		t.Fatalf("%+v", p)
	}
}

func TestPlan_DeadlineAndPauseAfterTheCanary(t *testing.T) {
	t.Parallel()
	s := fleet(t, PutService{MaxUnavailable: 1}, 3)
	f := &restarts{t, s, 99}
	plan := must(t, s, NewPlan{Rules: PlanRules{Intent: PlanRestart, Services: []string{"svc"}, CanaryPercent: 5, ObserveMs: 1000, PauseAfter: true, DeadlineMs: 5000}, Start: true}).Plan.ID
	f.leave("i0")
	p, _ := s.Plan(plan)
	if p.Stage != StageObserving || len(draining(s)) != 0 {
		t.Fatalf("%+v", p)
	}
	apply(t, s, 1, Entry{Now: s.Now() + 1000, Ops: []Op{{Command: Tick{}}}})
	if p, _ = s.Plan(plan); p.State != PlanPaused || len(draining(s)) != 0 {
		t.Fatalf("%+v", p)
	}
	must(t, s, ResumePlan{ID: plan})
	if got := draining(s); !slices.Equal(got, []string{"i1"}) {
		t.Fatal(got)
	}
	apply(t, s, 1, Entry{Now: s.Now() + 4000, Ops: []Op{{Command: Tick{}}}})
	if p, _ = s.Plan(plan); p.State != PlanFailed || p.Why != "its deadline has passed" {
		t.Fatalf("%+v", p)
	}
}

// A whole service goes at once when that is allowed; without the plan the budget lets one go.
func TestPlan_ShutdownLiftsTheBudgetOfItsServiceAlone(t *testing.T) {
	t.Parallel()
	s := fleet(t, PutService{MinAvailable: 2}, 3)
	v, _ := s.Instance("i0")
	must(t, s, DrainInstance{ID: "i0", Incarnation: v.Incarnation, Intent: IntentRemove})
	must(t, s, DrainInstance{ID: "i1", Intent: IntentRemove})
	if got := draining(s); len(got) != 1 {
		t.Fatal(got)
	}
	must(t, s, NewPlan{Rules: PlanRules{Intent: PlanShutdown, Services: []string{"svc"}, AllowZero: true}, Start: true})
	if got := draining(s); len(got) != 3 {
		t.Fatal(got)
	}
}

func TestPlan_WorstTimeComesFromTheRecord(t *testing.T) {
	t.Parallel()
	s := fleet(t, PutService{MaxUnavailable: 2}, 5)
	outline := func() Estimate {
		p, refused := s.Outline(PlanRules{Intent: PlanRestart, Services: []string{"svc"}, Canary: 1, ObserveMs: 7})
		if refused.Refused() {
			t.Fatalf("%+v", refused)
		}
		return s.Estimate(p)
	}
	if e := outline(); e.Steps[0].OnRecord != 0 || e.Steps[0].Rounds != 3 || e.WorstMs != 3*(drainSlackMs+RestartHoldDefaultMs)+7 {
		t.Fatalf("%+v", e)
	}
	must(t, s, DrainInstance{ID: "i0", Intent: IntentRestart})
	apply(t, s, 1, Entry{Now: s.Now() + 40, Ops: []Op{{Command: Tick{}}}})
	v, _ := s.Instance("i0")
	must(t, s, FinishInstance{ID: "i0", Incarnation: v.Incarnation, Left: true})
	apply(t, s, 1, Entry{Now: s.Now() + 60, Ops: []Op{{Command: Tick{}}}})
	join(t, s, 100)
	if e := outline(); e.Steps[0].DrainMs != 40 || e.Steps[0].RestartMs != 60 || e.WorstMs != 3*100+7 {
		t.Fatalf("%+v", e)
	}
}

// A thousand instances in one plan: each grant looks at all of them, and that must stay cheap.
func BenchmarkPlan_Restart1000(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		s := New()
		s.Apply(1, Entry{Ops: []Op{{Command: TermStart{}}}})
		zero := uint64(0)
		do(s, PutService{Name: "svc", MaxUnavailable: 50, SettleMs: &zero})
		for i := range PlanTargetsMax {
			do(s, RegisterInstance{ID: fmt.Sprint("i", i), Session: fmt.Sprint("si", i), Service: "svc", Name: fmt.Sprint(i), TTLMs: 10_000})
			v, _ := s.Instance(fmt.Sprint("i", i))
			do(s, SetInstanceReady{ID: v.ID, Incarnation: v.Incarnation})
		}
		b.StartTimer()
		do(s, NewPlan{Rules: PlanRules{Intent: PlanRestart, Services: []string{"svc"}}, Start: true})
		next := PlanTargetsMax
		for {
			ids := draining(s)
			if len(ids) == 0 {
				break
			}
			for _, id := range ids {
				v, _ := s.Instance(id)
				do(s, FinishInstance{ID: id, Incarnation: v.Incarnation, Left: true})
				n := fmt.Sprint("i", next)
				do(s, RegisterInstance{ID: n, Session: "s" + n, Service: "svc", Name: v.Name, TTLMs: 10_000})
				v, _ = s.Instance(n)
				do(s, SetInstanceReady{ID: n, Incarnation: v.Incarnation})
				next++
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/PlanTargetsMax, "µs/instance")
}
