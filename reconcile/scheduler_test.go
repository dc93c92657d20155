package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/reconcile/schedule"
)

// wall is a wall clock that a test sets.
type wall struct {
	mu sync.Mutex
	at time.Time
}

func (w *wall) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

func (w *wall) forward(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = w.at.Add(d)
}

// timed is a log with one mapping that is scheduled.
type timed struct {
	*testLog
	*wall
	t *testing.T
}

func newTimed(t *testing.T, at string, put fsm.PutSchedule) *timed {
	t.Helper()
	began, err := time.Parse(time.RFC3339, at)
	if err != nil {
		t.Fatal(err)
	}
	x := &timed{testLog: newTestLog(), wall: &wall{at: began}, t: t}
	x.must(t, fsm.PutMapping{Name: "orders", Source: "shop", Target: "cache", Spec: []byte("{}"), Columns: []byte("[]")})
	x.put(put)
	return x
}

func (x *timed) put(put fsm.PutSchedule) {
	x.t.Helper()
	put.Mapping, put.Mode, put.WallMs = "orders", fsm.PassDryRun, uint64(x.now().UnixMilli())
	x.must(x.t, put)
}

func (x *timed) scheduler() *scheduler {
	return &scheduler{log: x.testLog, clock: x.now, logger: slog.New(slog.DiscardHandler), known: map[string]*timetable{}}
}

// began lists the slots of the passes in the order in which they began, and ends those that run.
func (x *timed) began() (slots []string) {
	var running []uint64
	x.View(func(s *fsm.State) {
		s.Passes(0, func(p fsm.Pass) bool {
			slots = append(slots, time.UnixMilli(int64(p.Slot)).UTC().Format("02 15:04"))
			if p.State == fsm.PassRunning {
				running = append(running, p.ID)
			}
			return true
		})
	})
	for _, id := range running {
		x.must(x.t, fsm.FinishPass{ID: id})
	}
	return slots
}

// walk looks at every step of the clock, and ends what has begun.
func (x *timed) walk(s *scheduler, d, step time.Duration) []string {
	for end := x.now().Add(d); x.now().Before(end); {
		x.forward(step)
		s.look(x.t.Context())
		x.began()
	}
	return x.began()
}

func (x *timed) schedule() (planned fsm.Schedule) {
	x.View(func(s *fsm.State) { planned, _ = s.Schedule("orders") })
	return planned
}

func TestScheduler_EachSlotBeginsOnePassWhoeverLeads(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	random, losses := rand.New(rand.NewPCG(seed, 0)), rand.New(rand.NewPCG(seed, 1))
	x := newTimed(t, "2026-03-01T12:00:00Z", fsm.PutSchedule{Cron: "*/10 * * * *"})
	x.intercept = func(c fsm.Command) (apply, answer bool) {
		if _, start := c.(fsm.StartPass); start {
			return losses.IntN(4) > 0, losses.IntN(4) > 0
		}
		return true, true
	}
	leaders := []*scheduler{x.scheduler(), x.scheduler()}
	var want []string
	for range 3 * 60 {
		x.forward(time.Minute)
		if now := x.now(); now.Minute()%10 == 0 {
			want = append(want, now.UTC().Format("02 15:04"))
		}
		for range 4 { // both, side by side, and one of them gone for a while
			var both sync.WaitGroup
			for i, s := range leaders {
				if random.IntN(3) > 0 {
					both.Go(func() { s.look(x.t.Context()) })
				} else if random.IntN(20) == 0 {
					leaders[i] = x.scheduler()
				}
			}
			both.Wait()
		}
		x.began()
	}
	got := x.began()
	slices.Sort(want)
	if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
		t.Errorf("seed %d: a slot was taken twice, or late: %v", seed, got)
	}
	if len(got) < len(want)-2 { // all attempts of ten minutes may have been lost
		t.Errorf("seed %d: %d of %d slots: %v", seed, len(got), len(want), got)
	}
	if x.schedule().Skipped != 0 {
		t.Errorf("seed %d: %+v", seed, x.schedule())
	}
}

func TestScheduler_OfMissedSlotsTheNewestCountsIfItIsNotOld(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		cron string
		away time.Duration
		want string
	}{
		{"*/10 * * * *", 5*time.Hour + 5*time.Minute, "[01 17:00]"},
		{"0 13 * * *", time.Hour + 59*time.Minute, "[01 13:00]"},
		{"0 13 * * *", 2 * time.Hour, "[01 13:00]"},
		{"0 13 * * *", 2*time.Hour + time.Second, "[]"},
		{"0 13 * * *", 59 * time.Minute, "[]"},
		{"@hourly", 0, "[]"}, // the slot of this very moment was before the schedule
	} {
		x := newTimed(t, "2026-03-01T12:00:00Z", fsm.PutSchedule{Cron: test.cron})
		s := x.scheduler()
		s.look(t.Context())
		x.forward(test.away)
		s.look(t.Context())
		if got := fmt.Sprint(x.began()); got != test.want {
			t.Errorf("%s after %s: %s, want %s", test.cron, test.away, got, test.want)
		}
	}
}

func TestScheduler_SlotsInTheirZoneAndWindow(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		at   string
		put  fsm.PutSchedule
		want string
	}{
		"the night that has an hour twice":  {"2026-10-24T12:00:00Z", fsm.PutSchedule{Cron: "30 2 * * *", Zone: "Europe/Berlin"}, "[25 00:30 26 01:30]"},
		"and the one that lacks it":         {"2026-03-28T12:00:00Z", fsm.PutSchedule{Cron: "30 2 * * *", Zone: "Europe/Berlin"}, "[30 00:30]"},
		"a window over midnight":            {"2026-03-01T12:00:00Z", fsm.PutSchedule{Cron: "0 */2 * * *", WindowFrom: "22:00", WindowTo: "02:00"}, "[01 22:00 02 00:00 02 22:00 03 00:00]"},
		"what another version may have put": {"2026-03-01T12:00:00Z", fsm.PutSchedule{Cron: "every now and then"}, "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newTimed(t, test.at, test.put)
			if got := fmt.Sprint(x.walk(x.scheduler(), 38*time.Hour, time.Minute)); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

func TestScheduler_JitterDelaysASlotAndLosesNone(t *testing.T) {
	t.Parallel()
	const jitter = 90 * time.Minute // longer than a slot may be late
	x := newTimed(t, "2026-03-01T12:00:00Z", fsm.PutSchedule{Cron: "0 */3 * * *", JitterMs: uint64(jitter.Milliseconds())})
	s := x.scheduler()
	for hour := 15; hour < 24; hour += 3 {
		slot := time.Date(2026, 3, 1, hour, 0, 0, 0, time.UTC)
		begin := slot.Add(schedule.Delay("orders", slot, jitter))
		x.forward(begin.Add(-time.Millisecond).Sub(x.now()))
		s.look(t.Context())
		before := len(x.began())
		x.forward(time.Millisecond)
		s.look(t.Context())
		if after := x.began(); before != hour/3-5 || len(after) != before+1 || after[before] != slot.Format("02 15:04") {
			t.Fatalf("slot %s, to begin %s: %d passes before, %v then", slot, begin, before, after)
		}
	}
}

func TestScheduler_SlotOfAnUnfinishedPassIsSkippedAndNotMadeUpFor(t *testing.T) {
	t.Parallel()
	x := newTimed(t, "2026-03-01T12:00:00Z", fsm.PutSchedule{Cron: "@hourly"})
	s := x.scheduler()
	x.forward(time.Hour)
	s.look(t.Context())
	for range 2 {
		x.forward(time.Hour)
		s.look(t.Context())
		s.look(t.Context())
	}
	if planned := x.schedule(); planned.Skipped != 2 {
		t.Errorf("%+v", planned)
	}
	if got := fmt.Sprint(x.began()); got != "[01 13:00]" {
		t.Error(got)
	}
	x.forward(time.Minute)
	s.look(t.Context())
	if got := fmt.Sprint(x.began()); got != "[01 13:00]" {
		t.Errorf("made up for: %s", got)
	}
	x.forward(time.Hour)
	s.look(t.Context())
	if got := fmt.Sprint(x.began()); got != "[01 13:00 01 16:00]" {
		t.Error(got)
	}
}

func TestScheduler_FollowsAScheduleThatChangesOrGoes(t *testing.T) {
	t.Parallel()
	x := newTimed(t, "2026-03-01T12:00:00Z", fsm.PutSchedule{Cron: "@hourly"})
	s := x.scheduler()
	s.look(t.Context())
	x.put(fsm.PutSchedule{Cron: "*/20 * * * *"})
	if got := fmt.Sprint(x.walk(s, 45*time.Minute, time.Minute)); got != "[01 12:20 01 12:40]" {
		t.Error(got)
	}
	x.must(t, fsm.DeleteSchedule{Mapping: "orders"})
	if got := x.walk(s, 2*time.Hour, time.Minute); len(got) != 2 || len(s.known) != 0 {
		t.Errorf("%v, %d known", got, len(s.known))
	}
	// A clock that is set back finds its slots taken.
	x.put(fsm.PutSchedule{Cron: "@hourly"})
	x.forward(time.Hour)
	s.look(t.Context())
	taken := len(x.began())
	x.forward(-90 * time.Minute)
	if got := x.walk(s, 80*time.Minute, time.Minute); len(got) != taken {
		t.Errorf("a slot was taken twice: %v", got)
	}
}

// The whole task: a slot comes, its pass runs to its end.
func TestTask_RunsAPassAtItsTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 50, nil)
	w.config.ThreadsRunningMax, w.config.TargetLatencyMax = 100_000, time.Minute
	clock := &wall{at: time.Date(2026, 3, 1, 2, 59, 0, 0, time.UTC)}
	w.log.must(t, fsm.PutSchedule{Mapping: "orders", PassOptions: fsm.PassOptions{Mode: fsm.PassDryRun}, Cron: "0 3 * * *", WindowFrom: "03:00", WindowTo: "04:00", WallMs: uint64(clock.now().UnixMilli())})
	defer w.lead(w.task(func(p *Parts) { p.Clock = clock.now }))()
	passes := func() (n int, last fsm.Pass) {
		w.log.View(func(s *fsm.State) { s.Passes(0, func(p fsm.Pass) bool { n, last = n+1, p; return true }) })
		return n, last
	}
	if n, _ := passes(); n != 0 {
		t.Errorf("%d passes before the slot", n)
	}
	clock.forward(time.Minute)
	deadline, cancel := context.WithTimeout(t.Context(), passTimeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if n, p := passes(); n == 1 && p.State == fsm.PassDone {
			if p.Counts.Equal != 50 || p.Slot != uint64(clock.now().UnixMilli()) {
				t.Errorf("%+v", p)
			}
			return
		}
		select {
		case <-tick.C:
		case <-deadline.Done():
			t.Fatal("no pass")
		}
	}
}
