package reconcile

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/rediscache"
)

// write changes rows and enqueues their events some time after the commit, as an application would. It ends with nothing kept back.
func (w *world) write(ctx context.Context, random *rand.Rand, rows int) error {
	for ctx.Err() == nil {
		var refs []fsm.RowRef
		for range 20 {
			i := random.IntN(rows/2) * 2 // even rows only: the odd ones are left to be damaged
			if _, err := w.db.Exec("UPDATE orders SET total = total + 1 WHERE id = ?", id(i)); err != nil {
				return err
			}
			refs = append(refs, w.ref(i))
		}
		pause(ctx, time.Duration(random.IntN(20))*time.Millisecond)
		if _, err := w.log.Propose(context.WithoutCancel(ctx), fsm.Op{Command: fsm.EnqueueEvents{Events: refs}}); err != nil {
			return err
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// keepDelivering empties the outbox each time that the period has passed.
func (w *world) keepDelivering(ctx context.Context, period time.Duration) error {
	for ctx.Err() == nil {
		for range 1 + w.log.pending()/batchRows {
			if err := w.deliver(context.WithoutCancel(ctx)); err != nil {
				return err
			}
		}
		pause(ctx, period)
	}
	return nil
}

func TestTask_ReportsNothingInFlight(t *testing.T) {
	t.Parallel()
	for name, period := range map[string]time.Duration{
		"fast delivery":                       5 * time.Millisecond,
		"delivery slower than a confirmation": 2_500 * time.Millisecond,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			passUnderLoad(t, period)
		})
	}
}

func passUnderLoad(t *testing.T, period time.Duration) {
	const rows = 20_000
	seed := uint64(time.Now().UnixNano())
	w := newWorld(t, rows, nil)
	for i := 1; i < 200; i += 20 { // ten rows that nobody writes
		w.spoil(w.key(i))
	}
	rereads := 0
	source := &hookedSource{onRows: func(context.Context, int) error { rereads++; return nil }}
	task := w.task(w.hookSource(source))

	ctx, stopWriting := context.WithCancel(t.Context())
	load, ctx := errgroup.WithContext(ctx)
	for n := range 3 {
		load.Go(func() error { return w.write(ctx, rand.New(rand.NewPCG(seed, uint64(n))), rows) })
	}
	load.Go(func() error { return w.keepDelivering(ctx, period) })
	resign := w.lead(task)
	var passes []fsm.Pass
	for range 3 {
		passes = append(passes, w.ended(w.start(fsm.PassDryRun, 0, 1_500)))
	}
	stopWriting()
	if err := load.Wait(); err != nil {
		t.Fatal(err)
	}
	resign()
	for _, p := range passes {
		if p.State != fsm.PassDone || p.Counts.Rows != rows || p.Counts.Stale != 10 || p.Counts.Differences() != 10 {
			t.Errorf("seed %d: %s %q: %+v", seed, p.State, p.Reason, p.Counts)
		}
		t.Logf("%+v in %d ms", p.Counts, p.FinishedAt-p.StartedAt)
	}
	if rereads <= 2*len(passes) {
		t.Errorf("seed %d: nothing was in flight", seed)
	}
	w.deliverAll()
	if p := w.run(fsm.PassDryRun, 0, 0); p.Counts.Equal != rows-10 || p.Counts.Stale != 10 {
		t.Errorf("seed %d: at rest: %+v", seed, p.Counts)
	}
}

func TestTask_RowsWithPendingEventsAreHot(t *testing.T) {
	t.Parallel()
	const rows, planted = 2_000, 40
	w := newWorld(t, rows, nil)
	refs := w.unlink(0, rows, rows/planted)
	w.log.must(t, fsm.EnqueueEvents{Events: refs[:30]})
	for _, ref := range refs[30:35] {
		w.memory.claim(ref) // being delivered, its event already settled
	}
	p := w.run(fsm.PassDryRun, 0, 0)
	want := fsm.PassCounts{Rows: rows, Equal: rows - planted, Hot: 35, Missing: 5}
	if p.Counts != want {
		t.Errorf("%+v, want %+v", p.Counts, want)
	}
	if p.Expected.Count != rows-35 || p.Actual.Count != rows-planted {
		t.Errorf("hot rows are in the sums: %+v, %+v", p.Expected, p.Actual)
	}
}

func TestTask_LooksAgainBeforeItAccuses(t *testing.T) {
	t.Parallel()
	const rows = 1_000
	w := newWorld(t, rows, nil)
	first := &hookedTarget{after: func(call int, requests []rediscache.KeyRequest, actuals []mapping.Actual) {
		if call == 1 { // what a reader sees who came before the delivery
			clear(actuals)
			for i := range actuals {
				actuals[i].Type = mapping.TypeNone
			}
		}
	}}
	resign := w.lead(w.task(w.hookTarget(first)))
	p := w.ended(w.start(fsm.PassDryRun, 0, 60_000))
	resign()
	if (p.Counts != fsm.PassCounts{Rows: rows, Equal: rows}) || first.calls.Load() < 3 {
		t.Errorf("%d reads: %+v", first.calls.Load(), p)
	}
}

func TestTask_DifferenceThatHealsInTimeIsNotCounted(t *testing.T) {
	t.Parallel()
	const rows = 1_000
	w := newWorld(t, rows, nil)
	w.unlink(0, 10, 1)
	task := w.task(nil)
	resign := w.lead(task)
	pass := w.start(fsm.PassDryRun, 0, 1_000)
	w.until(pass, "waiting for confirmation", func(fsm.Pass) bool {
		under := task.Progress()
		return len(under) == 1 && under[0].Open == 10 && under[0].Waiting == waitConfirming
	})
	w.heal(5)
	p := w.ended(pass)
	resign()
	if (p.Counts != fsm.PassCounts{Rows: rows, Equal: rows - 5, Missing: 5}) {
		t.Errorf("%+v", p.Counts)
	}
	if age := p.FinishedAt - p.StartedAt; age < 1_000 {
		t.Errorf("confirmed after %d ms", age)
	}
}

// heal delivers the first n rows without an event.
func (w *world) heal(n int) {
	w.t.Helper()
	rows, err := w.source.ReadChunk(context.Background(), w.mapping, nil, n)
	if err != nil {
		w.t.Fatal(err)
	}
	guarded := make([]rediscache.Guarded, n)
	for i := range rows {
		if guarded[i].Write, err = w.mapping.Render(rows[i].Key, &rows[i], 2); err != nil {
			w.t.Fatal(err)
		}
		guarded[i].Token = 2
	}
	w.apply(guarded)
}

func TestTask_WaitsForTheOutboxToRemember(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 100, nil)
	w.memory.floor = math.MaxUint64
	task := w.task(nil)
	defer w.lead(task)()
	pass := w.start(fsm.PassDryRun, 0, 0)
	w.until(pass, "waiting for the outbox", func(fsm.Pass) bool {
		under := task.Progress()
		return len(under) == 1 && under[0].Waiting == "outbox_not_running"
	})
	w.memory.mu.Lock()
	w.memory.floor = 0
	w.memory.mu.Unlock()
	if p := w.ended(pass); p.Counts.Equal != 100 {
		t.Errorf("%+v", p)
	}
}

func TestTask_VanishedRowIsNoDifference(t *testing.T) {
	t.Parallel()
	const rows = 600
	w := newWorld(t, rows, nil)
	w.unlink(0, 3, 1)
	target := &hookedTarget{before: func(_ context.Context, call int) error {
		if call == 1 { // the rows have been read
			w.exec(fmt.Sprintf("DELETE FROM orders WHERE id <= %d", id(2)))
		}
		return nil
	}}
	defer w.lead(w.task(w.hookTarget(target)))()
	p := w.ended(w.start(fsm.PassDryRun, 0, 0))
	if (p.Counts != fsm.PassCounts{Rows: rows, Equal: rows - 3, Hot: 3}) {
		t.Errorf("%+v", p.Counts)
	}
}
