package outbox_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
	"github.com/quiescehq/quiesce/outbox"
	"github.com/quiescehq/quiesce/rediscache"
)

// fakeTarget applies everything at once and remembers when.
type fakeTarget struct {
	applied atomic.Int64
	begins  atomic.Int64
	begin   func(n int64) error
	apply   func(writes []rediscache.Guarded) []rediscache.Outcome
}

func (f *fakeTarget) Begin(context.Context, []string) (outbox.Batch, error) {
	n := f.begins.Add(1)
	if f.begin != nil {
		if err := f.begin(n); err != nil {
			return nil, err
		}
	}
	return fakeBatch{f}, nil
}

type fakeBatch struct{ target *fakeTarget }

func (b fakeBatch) Apply(_ context.Context, writes []rediscache.Guarded) ([]rediscache.Outcome, error) {
	if b.target.apply != nil {
		return b.target.apply(writes), nil
	}
	b.target.applied.Add(int64(len(writes)))
	return all(writes, rediscache.OutcomeApplied), nil
}

func (fakeBatch) Invalidate(context.Context, []rediscache.KeyPair) error { return nil }
func (fakeBatch) Close()                                                 {}

func all(writes []rediscache.Guarded, outcome rediscache.Outcome) []rediscache.Outcome {
	outcomes := make([]rediscache.Outcome, len(writes))
	for i := range outcomes {
		outcomes[i] = outcome
	}
	return outcomes
}

// noRows is a source whose table is empty.
var noRows = sourceFunc(func(context.Context, *mapping.Mapping, [][]string) (map[string]*mapping.Row, error) { return nil, nil })

// bubble is a world without servers, for tests about time.
func bubble(t *testing.T, source outbox.Source, target outbox.Target) *world {
	t.Helper()
	w := &world{log: newLog(t), cfg: outbox.Default(), prefix: "p:"}
	w.places = outbox.Places{Sources: map[string]outbox.Source{sourceName: source}, Targets: map[string]outbox.Target{targetName: target}}
	columns := []mapping.Column{{Name: "id", Type: "bigint(20)", Kind: mapping.KindInteger, Bits: 64, KeyPart: 1},
		{Name: "v", Type: "varchar(100)", Kind: mapping.KindText}, {Name: "n", Type: "int(11)", Kind: mapping.KindInteger, Bits: 32}}
	w.log.must(t, fsm.PutMapping{Name: mappingName, Source: sourceName, Target: targetName, Table: "items", Spec: asJSON(t, w.spec()), Columns: asJSON(t, columns)})
	return w
}

func TestRun_IdleTaskDoesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		target := &fakeTarget{}
		w := bubble(t, noRows, target)
		resign := lead(t, w.task(t))
		w.enqueue(t, rows(1, 100)...)
		synctest.Wait()
		if got := target.applied.Load(); got != 99 {
			t.Fatalf("%d rows were applied at once, want 99", got)
		}
		before := w.log.views.Load()
		<-time.After(24 * time.Hour)
		if after := w.log.views.Load(); after != before {
			t.Errorf("an idle day took %d looks at the state", after-before)
		}
		resign()
	})
}

func TestRun_FailedRowIsTriedWhenItsBackoffEndsAndBuriedAtTheLastAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		target := &fakeTarget{apply: func(writes []rediscache.Guarded) []rediscache.Outcome { return all(writes, rediscache.OutcomeTooLate) }}
		w := bubble(t, noRows, target)
		task := w.task(t)
		resign := lead(t, task)
		w.enqueue(t, row(1))
		for attempt := uint32(1); attempt < w.cfg.AttemptsMax; attempt++ {
			synctest.Wait()
			e, ok := w.log.event(row(1))
			if !ok || e.Attempts != attempt || e.Failure != outbox.ClassTooLate {
				t.Fatalf("attempt %d left %+v (pending: %v)", attempt, e, ok)
			}
			now := w.log.Now()
			if wait := e.NextAt - now; e.NextAt <= now || time.Duration(wait)*time.Millisecond > w.cfg.BackoffMax {
				t.Fatalf("attempt %d is followed by a wait of %d ms", attempt, wait)
			}
			<-time.After(time.Duration(e.NextAt-now) * time.Millisecond)
		}
		synctest.Wait()
		letter, ok := w.log.letter(row(1))
		if !ok || letter.Attempts != w.cfg.AttemptsMax || w.log.pending(mappingName) != 0 {
			t.Errorf("after the last attempt: dead letter %+v (%v)", letter, ok)
		}
		if looks := w.log.views.Load(); looks > 40*int64(w.cfg.AttemptsMax) {
			t.Errorf("%d looks at the state for %d attempts: it polls", looks, w.cfg.AttemptsMax)
		}
		resign()
	})
}

func TestRun_HourOfOutageIsForgottenWithinTwoPauses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		down.Store(true)
		target := &fakeTarget{begin: func(int64) error {
			if down.Load() {
				return fmt.Errorf("%w: staged", rediscache.ErrUnreachable)
			}
			return nil
		}}
		w := bubble(t, noRows, target)
		resign := lead(t, w.task(t))
		w.enqueue(t, rows(1, 1001)...)
		<-time.After(time.Hour)
		if begins := target.begins.Load(); begins > 3700 {
			t.Errorf("%d calls in an hour of outage, want about one a second", begins)
		}
		down.Store(false)
		<-time.After(2*w.cfg.BreakerOpen + 10*time.Millisecond)
		synctest.Wait()
		if got := w.log.pending(mappingName); got != 0 {
			t.Errorf("%d events still wait", got)
		}
		resign()
	})
}

func TestRun_LateBatchIsHalvedWithoutSpendingAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const fits = 3
		target := &fakeTarget{}
		target.apply = func(writes []rediscache.Guarded) []rediscache.Outcome {
			if len(writes) > fits {
				return all(writes, rediscache.OutcomeTooLate)
			}
			target.applied.Add(int64(len(writes)))
			return all(writes, rediscache.OutcomeApplied)
		}
		w := bubble(t, noRows, target)
		task := w.task(t)
		resign := lead(t, task)
		w.enqueue(t, rows(1, 101)...)
		synctest.Wait()
		if m := task.Stats().Mappings[0]; m.Pending != 0 || m.Failed != 0 || target.applied.Load() != 100 {
			t.Errorf("%d rows applied, stats %+v", target.applied.Load(), m)
		}
		resign()
	})
}

func TestRun_LogThatDoesNotAnswerIsNotPestered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		target := &fakeTarget{}
		w := bubble(t, noRows, target)
		var entries atomic.Int64
		w.log.setTamper(func(ops []fsm.Op) tampered { entries.Add(1); return tampered{ops: ops, lostBefore: true} })
		resign := lead(t, w.task(t))
		w.enqueue(t, row(1))
		<-time.After(time.Minute)
		if got := entries.Load(); got > 12 {
			t.Errorf("%d entries in a minute, want a few", got)
		}
		w.log.setTamper(nil)
		<-time.After(w.cfg.BackoffMax)
		synctest.Wait()
		if got := w.log.pending(mappingName); got != 0 {
			t.Errorf("%d events still wait", got)
		}
		resign()
	})
}

func TestRun_BrokenTableDoesNotHoldUpItsNeighbour(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := sourceFunc(func(_ context.Context, m *mapping.Mapping, _ [][]string) (map[string]*mapping.Row, error) {
			if m.Spec().Table == "items" {
				return nil, fmt.Errorf("%w: staged", mysql.ErrTableChanged)
			}
			return nil, nil
		})
		w := bubble(t, source, &fakeTarget{})
		w.cfg.BatchesMax = 1
		putTwin(t, w, "neighbour")
		resign := lead(t, w.task(t))
		w.enqueue(t, rows(1, 501)...)
		neighbour := fsm.RowRef{Mapping: "neighbour", PK: row(1).PK}
		w.enqueue(t, neighbour)
		synctest.Wait()
		if _, pending := w.log.event(neighbour); pending {
			t.Error("the neighbour waits")
		}
		resign()
	})
}

// putTwin declares a mapping like the first one, over a table of its own name.
func putTwin(t *testing.T, w *world, name string) {
	t.Helper()
	var record fsm.Mapping
	w.log.View(func(s *fsm.State) { record, _ = s.Mapping(mappingName) })
	var spec mapping.Spec
	if err := json.Unmarshal(record.Spec, &spec); err != nil {
		t.Fatal(err)
	}
	spec.Table, spec.Key = name, w.prefix+name+":{id}"
	w.log.must(t, fsm.PutMapping{Name: name, Source: record.Source, Target: record.Target, Table: name, Spec: asJSON(t, spec), Columns: record.Columns})
}

func TestRun_RecentKnowsWhatWasSettledSince(t *testing.T) {
	t.Parallel()
	w := shared(t)
	w.fill(t, 2)
	task := w.task(t)
	if _, covered := task.Recent(row(1), w.log.revision()); covered {
		t.Error("a node that does not lead claims to know")
	}
	resign := lead(t, task)
	w.enqueue(t, row(2))
	w.drained(t)
	before := w.log.revision()
	w.enqueue(t, row(1))
	w.drained(t)
	for _, known := range []struct {
		id      int
		since   uint64
		touched bool
	}{{1, before, true}, {2, before, false}, {1, w.log.revision(), false}} {
		eventually(t, fmt.Sprintf("%+v", known), func() bool {
			touched, covered := task.Recent(row(known.id), known.since)
			return touched == known.touched && covered
		})
	}
	resign()
}

// From the moment in which a row's event is gone until its settlement is in the ring there may be no gap: a pass would take the row for settled long ago.
func TestRun_RecentHasNoGapWhileRowsAreSettled(t *testing.T) {
	t.Parallel()
	w := shared(t)
	w.write(t, 1, "a")
	task := w.task(t)
	lead(t, task)
	w.enqueue(t, row(1))
	w.drained(t)
	for range 300 {
		since := w.log.revision()
		w.enqueue(t, row(1))
		eventually(t, "the event is gone", func() bool { _, pending := w.log.event(row(1)); return !pending })
		if touched, covered := task.Recent(row(1), since); !touched || !covered {
			t.Fatalf("touched %v, covered %v right after the settlement", touched, covered)
		}
	}
}

func TestRun_TermsFollowEachOtherOnOneTask(t *testing.T) {
	t.Parallel()
	w := shared(t)
	w.fill(t, 30)
	task := w.task(t)
	for term := range 3 {
		resign := lead(t, task)
		w.enqueue(t, rows(1+10*term, 11+10*term)...)
		w.drained(t)
		resign()
		if m := task.Stats().Mappings[0]; m.InFlight != 0 || len(task.Stats().Breakers) != 0 {
			t.Errorf("after term %d: %+v", term, m)
		}
	}
	w.agree(t, 30)
	if m := task.Stats().Mappings[0]; m.Delivered != 30 {
		t.Errorf("%d deliveries are counted over three terms, want 30", m.Delivered)
	}
}

func BenchmarkDelivery(b *testing.B) {
	w := shared(b)
	const count = 50_000
	w.fill(b, count)
	task, err := outbox.New(w.cfg, w.log, w.places, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		b.StopTimer()
		w.enqueueAll(b, count)
		b.StartTimer()
		resign := lead(b, task)
		eventually(b, "drained", func() bool { return w.log.pending(mappingName) == 0 })
		resign()
	}
	b.ReportMetric(float64(count)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
