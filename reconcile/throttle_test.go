package reconcile

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/fsm"
)

// throttled waits until a pass stands still for a reason, and gives what is shown of it.
func (w *world) throttled(task *Task, reason string) Progress {
	w.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(passTimeout); time.Now().Before(deadline); <-tick.C {
		for _, p := range task.Progress() {
			if strings.HasPrefix(p.Throttled, reason) {
				return p
			}
		}
	}
	w.t.Fatalf("it never stood still for %q: %+v", reason, task.Progress())
	return Progress{}
}

// Each factor alone has a pass stand still, with its figures, and lets it go on.
func TestTask_StandsStillForEachKindOfLoad(t *testing.T) {
	t.Parallel()
	const rows = 3_000
	for name, test := range map[string]struct {
		reason string
		load   func(w *world, source *hookedSource, target *hookedTarget, high *atomic.Bool)
		relief func(w *world)
	}{
		"threads": {reason: "threads_running 31 > 25", load: func(_ *world, source *hookedSource, _ *hookedTarget, high *atomic.Bool) {
			source.threads = func() int { return map[bool]int{true: 31, false: 25}[high.Load()] }
		}},
		"latency": {reason: "target_latency 34ms > 20ms", load: func(_ *world, _ *hookedSource, target *hookedTarget, high *atomic.Bool) {
			target.latency = func() time.Duration {
				return map[bool]time.Duration{true: 34 * time.Millisecond, false: 20 * time.Millisecond}[high.Load()]
			}
		}},
		"backlog": {reason: "backlog 4 > 3", load: func(w *world, _ *hookedSource, _ *hookedTarget, _ *atomic.Bool) {
			w.config.BacklogMax = 3
			w.log.must(w.t, fsm.EnqueueEvents{Events: []fsm.RowRef{w.ref(1), w.ref(2), w.ref(3), w.ref(4)}})
		}, relief: func(w *world) { w.deliverAll() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rows, nil)
			w.config.ThrottleEvery = time.Millisecond
			w.config.TargetLatencyMax = passTimeout // the machine of the tests may be busy
			if name == "latency" {
				w.config.TargetLatencyMax = 20 * time.Millisecond
			}
			var high atomic.Bool
			source, target := &hookedSource{Source: w.source, threads: func() int { return 1 }}, &hookedTarget{Target: w.target}
			reads := 0
			source.onChunk = func(_ context.Context, call int) error {
				if reads = call; call == 2 {
					high.Store(true)
				}
				return nil
			}
			if name == "backlog" {
				source.onChunk = nil
			}
			test.load(w, source, target, &high)
			task := w.task(func(p *Parts) {
				p.Sources, p.Targets = map[string]Source{"shop": source}, map[string]Target{"cache": target}
			})
			defer w.lead(task)()
			pass := w.start(fsm.PassDryRun, 0, 0)
			shown := w.throttled(task, test.reason)
			if shown.Rows == rows || shown.Throttled != test.reason {
				t.Errorf("%+v", shown)
			}
			high.Store(false)
			if test.relief != nil {
				test.relief(w)
			}
			if p := w.ended(pass); p.State != fsm.PassDone || p.Counts.Equal != rows {
				t.Errorf("%s %q: %+v after %d reads", p.State, p.Reason, p.Counts, reads)
			}
		})
	}
}

// The rate of a pass is its own, and that of the leader is shared by all of its passes.
func TestTask_RatesBoundOnePassAndAllTogether(t *testing.T) {
	t.Parallel()
	const rows = 1_000
	w := newWorld(t, rows, nil)
	began := time.Now()
	task := w.task(nil)
	resign := w.lead(task)
	pass := w.begin(fsm.PassOptions{Mode: fsm.PassDryRun, RateMax: 1_000})
	w.throttled(task, "rate 1000/s")
	p := w.ended(pass)
	resign()
	if took := time.Since(began); p.Counts.Equal != rows || took < 850*time.Millisecond {
		t.Errorf("%d rows at 1,000 a second in %v", p.Counts.Rows, took)
	}

	w.config.KeysPerSecond = 2_000
	var record fsm.Mapping
	w.log.View(func(s *fsm.State) { record, _ = s.Mapping("orders") })
	w.log.must(t, fsm.PutMapping{Name: "others", Source: record.Source, Target: record.Target, Table: record.Table, Spec: record.Spec, Columns: record.Columns})
	began = time.Now()
	defer w.lead(w.task(nil))()
	one := w.start(fsm.PassDryRun, 0, 0)
	two := w.log.must(t, fsm.StartPass{Mapping: "others", PassOptions: fsm.PassOptions{Mode: fsm.PassDryRun}}).Pass.ID
	a, b := w.ended(one), w.ended(two)
	if took := time.Since(began); a.Counts.Equal != rows || b.Counts.Equal != rows || took < 850*time.Millisecond {
		t.Errorf("twice %d keys at 2,000 a second in %v", rows, took)
	}
}

// setClock is a clock on the wall that tests set.
type setClock struct{ at atomic.Pointer[time.Time] }

func (c *setClock) set(text string) {
	t, err := time.Parse(time.DateTime, text)
	if err != nil {
		panic(err)
	}
	c.at.Store(&t)
}

func (c *setClock) now() time.Time { return *c.at.Load() }

// A pass of a schedule with a window stands still outside of it, takes no place from others meanwhile, and goes on in the next.
func TestTask_StandsStillOutsideItsWindow(t *testing.T) {
	t.Parallel()
	const rows = 3_000
	w := newWorld(t, rows, nil)
	w.config.PassesMax = 1
	want := w.plant(rows, plan{stale: 20, missing: 20})
	var clock setClock
	clock.set("2026-01-05 01:00:00")
	source := &hookedSource{onChunk: func(_ context.Context, call int) error {
		if call == 4 {
			clock.set("2026-01-05 05:00:00")
		}
		return nil
	}}
	task := w.task(func(p *Parts) {
		w.hookSource(source)(p)
		p.Clock = clock.now
	})
	w.log.must(t, fsm.PutSchedule{Mapping: "orders", PassOptions: fsm.PassOptions{Mode: fsm.PassDryRun, RateMax: 1_500}, Cron: "0 1 * * *", WindowFrom: "01:00", WindowTo: "05:00"})
	slot := uint64(clock.now().UnixMilli())
	pass := w.log.must(t, fsm.StartPass{Mapping: "orders", Slot: slot}).Pass.ID
	defer w.lead(task)()
	w.throttled(task, throttledWindow)
	if p := w.log.pass(pass); p.State != fsm.PassRunning || p.Counts.Rows == rows {
		t.Errorf("outside: %s %+v", p.State, p.Counts)
	}
	var record fsm.Mapping
	w.log.View(func(s *fsm.State) { record, _ = s.Mapping("orders") })
	w.log.must(t, fsm.PutMapping{Name: "others", Source: record.Source, Target: record.Target, Table: record.Table, Spec: record.Spec, Columns: record.Columns})
	other := w.log.must(t, fsm.StartPass{Mapping: "others", PassOptions: fsm.PassOptions{Mode: fsm.PassDryRun}}).Pass.ID
	if p := w.ended(other); p.State != fsm.PassDone {
		t.Errorf("another pass: %s %q", p.State, p.Reason)
	}
	if p := w.log.pass(pass); p.State != fsm.PassRunning {
		t.Errorf("still outside: %s", p.State)
	}
	clock.set("2026-01-06 01:30:00")
	if p := w.ended(pass); p.State != fsm.PassDone || p.Counts != want {
		t.Errorf("%s %q: %+v, want %+v", p.State, p.Reason, p.Counts, want)
	}
}

func TestProgress_TellsTheRateOfTheLastSecondsAndHowLongItTakes(t *testing.T) {
	t.Parallel()
	p := &progress{}
	p.begin(1_000, 21_000)
	began := p.marks[0].at
	if s := p.snapshot(began); s.ETA != 0 || s.RowsPerSecond != 0 || s.Estimate != 21_000 {
		t.Errorf("at the beginning: %+v", s)
	}
	p.update(func(s *Progress) { s.Rows = 10_000 })
	if s := p.snapshot(began.Add(10 * time.Second)); s.RowsPerSecond != 1_000 || s.ETA != 10*time.Second {
		t.Errorf("after ten seconds: %v rows a second, %v", s.RowsPerSecond, s.ETA)
	}
	// Standing still shows soon, and nobody can say how long it takes.
	for i := range 30 {
		p.snapshot(began.Add(10*time.Second + time.Duration(i)*time.Second))
	}
	if s := p.snapshot(began.Add(41 * time.Second)); s.RowsPerSecond > 1 || s.ETA != 0 {
		t.Errorf("standing still: %v rows a second, %v", s.RowsPerSecond, s.ETA)
	}
	p.update(func(s *Progress) { s.Rows = 20_000 })
	if s := p.snapshot(began.Add(42 * time.Second)); s.ETA != 0 {
		t.Errorf("at the end: %v", s.ETA)
	}
}
