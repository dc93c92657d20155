package reconcile

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/cluster_test/services"
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
	"github.com/quiescehq/quiesce/rediscache"
)

func (w *world) waits(task *Task, code string) {
	w.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(passTimeout); time.Now().Before(deadline); <-tick.C {
		if under := task.Progress(); len(under) > 0 && under[0].Waiting == code {
			return
		}
	}
	w.t.Fatalf("it never waited for %s: %+v", code, task.Progress())
}

func (w *world) flush(rows int) {
	w.t.Helper()
	for from := 0; from < rows; from += 1_000 {
		w.unlink(from, min(rows, from+1_000), 1)
	}
}

func TestTask_CacheFlushedInMidPassIsReportedFromThereOn(t *testing.T) {
	t.Parallel()
	const rows, before = 20_000, 10
	w := newWorld(t, rows, nil)
	w.config.OpenMax = 2_000
	w.config.ChunkRowsMax = 500
	target := &hookedTarget{before: func(_ context.Context, call int) error {
		if call == before+1 {
			w.flush(rows)
		}
		return nil
	}}
	task := w.task(w.hookTarget(target))
	resign := w.lead(task)
	pass, most := w.start(fsm.PassDryRun, 0, 300), 0
	p := w.until(pass, "over", func(p fsm.Pass) bool {
		for _, under := range task.Progress() {
			most = max(most, under.Open)
		}
		return p.State != fsm.PassRunning
	})
	resign()
	want := fsm.PassCounts{Rows: rows, Equal: before * 500, Missing: rows - before*500}
	if p.State != fsm.PassDone || p.Counts != want {
		t.Errorf("%s %q: %+v, want %+v", p.State, p.Reason, p.Counts, want)
	}
	if limit := w.config.OpenMax + w.config.ChunkRowsMax; most > limit || most == 0 {
		t.Errorf("up to %d open differences, at most %d allowed", most, limit)
	}
}

func TestTask_ChangedMappingEndsThePass(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 5_000, nil)
	w.unlink(0, 100, 1)
	target := &hookedTarget{before: func(_ context.Context, call int) error {
		if call == 5 {
			spec := w.mapping.Spec()
			spec.TTLMillis += 3_600_000
			w.put(spec)
		}
		return nil
	}}
	defer w.lead(w.task(w.hookTarget(target)))()
	p := w.ended(w.start(fsm.PassRewrite, unlimited, 20))
	if p.State != fsm.PassFailed || !strings.HasPrefix(p.Reason, "mapping_changed: ") || p.Counts.Rows >= 5_000 {
		t.Errorf("%s %q: %+v", p.State, p.Reason, p.Counts)
	}
}

func TestTask_ChangedTableEndsThePass(t *testing.T) {
	t.Parallel()
	for name, statement := range map[string]string{
		"column dropped": "ALTER TABLE orders DROP COLUMN total",
		"column retyped": "ALTER TABLE orders MODIFY total INT",
		"table dropped":  "DROP TABLE orders",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 2_000, nil)
			source := &hookedSource{onChunk: func(_ context.Context, call int) error {
				if call == 3 {
					w.exec(statement)
				}
				return nil
			}}
			defer w.lead(w.task(w.hookSource(source)))()
			p := w.ended(w.start(fsm.PassDryRun, 0, 0))
			if p.State != fsm.PassFailed || !strings.HasPrefix(p.Reason, "table_changed: ") {
				t.Errorf("%s %q", p.State, p.Reason)
			}
		})
	}
}

func TestTask_PassOverInvalidatingMappingFailsAndSaysWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 10, func(s *mapping.Spec) { s.Mode = mapping.Invalidate })
	for _, mode := range []fsm.PassMode{fsm.PassDryRun, fsm.PassRewrite} {
		p := w.run(mode, 0, 0)
		if p.State != fsm.PassFailed || !strings.HasPrefix(p.Reason, "not_comparable: ") || p.Counts.Rows != 0 {
			t.Errorf("%s: %s %q: %+v", mode, p.State, p.Reason, p.Counts)
		}
	}
}

func TestTask_FaultsOfPlacesDelayThePassAndChangeNoCount(t *testing.T) {
	t.Parallel()
	const rows = 5_000
	w := newWorld(t, rows, nil)
	want := w.plant(rows, plan{stale: 30, missing: 30})
	flaky := func(err error) func(context.Context, int) error {
		return func(_ context.Context, call int) error {
			if call%3 != 0 {
				return fmt.Errorf("%w: planted", err)
			}
			return nil
		}
	}
	source := &hookedSource{Source: w.source, onChunk: flaky(mysql.ErrUnreachable), onRows: flaky(mysql.ErrNotPrimary)}
	target := &hookedTarget{Target: w.target, before: flaky(rediscache.ErrSnooze)}
	defer w.lead(w.task(func(p *Parts) {
		p.Sources, p.Targets = map[string]Source{"shop": source}, map[string]Target{"cache": target}
	}))()
	if p := w.ended(w.start(fsm.PassDryRun, 0, 10)); p.State != fsm.PassDone || p.Counts != want {
		t.Errorf("%s %q: %+v, want %+v", p.State, p.Reason, p.Counts, want)
	}
}

func TestTask_SaysWhatIsMissingOnThisNode(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 10, nil)
	for code, change := range map[string]func(*Parts){
		"source_missing": func(p *Parts) { p.Sources = nil },
		"target_missing": func(p *Parts) { p.Targets = nil },
	} {
		pass := w.start(fsm.PassDryRun, 0, 0)
		task := w.task(change)
		resign := w.lead(task)
		w.waits(task, code)
		resign()
		if p := w.finish(pass); p.Counts.Equal != 10 { // another leader has it
			t.Errorf("%s: %+v", code, p)
		}
	}
}

// finish leads until a pass that was begun before is over.
func (w *world) finish(pass uint64) fsm.Pass {
	defer w.lead(w.task(nil))()
	return w.ended(pass)
}

func TestTask_CancelledPassStopsSoonAndMakesRoom(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 5_000, nil)
	stuck := newGate(1) // so there is no checkpoint whose refusal would end it
	source := &hookedSource{onChunk: stuck.pass}
	task := w.task(w.hookSource(source))
	defer w.lead(task)()
	first := w.start(fsm.PassDryRun, 0, 0)
	<-stuck.reached
	w.log.must(t, fsm.CancelPass{ID: first})
	w.until(first, "off the task's hands", func(p fsm.Pass) bool { return p.State == fsm.PassCancelled && len(task.Progress()) == 0 })
	close(stuck.open)
	if p := w.ended(w.start(fsm.PassDryRun, 0, 0)); p.Counts.Equal != 5_000 {
		t.Errorf("%+v", p)
	}
}

func TestTask_PassesBeyondTheBoundWaitTheirTurn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1_000, nil)
	w.config.PassesMax = 1
	var record fsm.Mapping
	w.log.View(func(s *fsm.State) { record, _ = s.Mapping("orders") })
	w.log.must(t, fsm.PutMapping{Name: "others", Source: record.Source, Target: record.Target, Table: record.Table, Spec: record.Spec, Columns: record.Columns})
	stuck := newGate(2)
	task := w.task(w.hookSource(&hookedSource{onChunk: stuck.pass}))
	first := w.start(fsm.PassDryRun, 0, 0)
	second := w.log.must(t, fsm.StartPass{Mapping: "others", PassOptions: fsm.PassOptions{Mode: fsm.PassDryRun}}).Pass.ID
	defer w.lead(task)()
	<-stuck.reached
	if under := task.Progress(); len(under) != 2 || under[0].Pass != first || under[0].Waiting != "" || under[1].Pass != second || under[1].Waiting != waitTurn {
		t.Errorf("under way: %+v", under)
	}
	close(stuck.open)
	one, two := w.ended(first), w.ended(second)
	if one.Counts.Equal != 1_000 || two.Counts.Equal != 1_000 || two.FinishedAt < one.FinishedAt {
		t.Errorf("%+v, %+v", one, two)
	}
}

func TestTask_OutagesOfBothServersAreSatOut(t *testing.T) {
	t.Parallel()
	const rows, before = 4_000, 4
	pair := services.Own(t)
	w := newWorldAt(t, services.Services{MySQLDSN: pair.MySQLDSN, RedisAddr: pair.RedisAddr, Prefix: "own:"}, rows, nil)
	stuckTarget, stuckSource := newGate(before+1), newGate(7)
	source := &hookedSource{Source: w.source, onChunk: stuckSource.pass}
	target := &hookedTarget{Target: w.target, before: stuckTarget.pass}
	task := w.task(func(p *Parts) {
		p.Sources, p.Targets = map[string]Source{"shop": source}, map[string]Target{"cache": target}
	})
	defer w.lead(task)()
	pass := w.start(fsm.PassDryRun, 0, 20)
	<-stuckTarget.reached
	pair.KillRedis()
	close(stuckTarget.open)
	w.waits(task, "target_unreachable")
	pair.StartRedis() // it comes back empty
	<-stuckSource.reached
	pair.KillMySQL()
	close(stuckSource.open)
	w.waits(task, "source_unreachable")
	pair.StartMySQL()
	p := w.ended(pass)
	want := fsm.PassCounts{Rows: rows, Equal: before * 500, Missing: rows - before*500}
	if p.State != fsm.PassDone || p.Counts != want {
		t.Errorf("%s %q: %+v, want %+v", p.State, p.Reason, p.Counts, want)
	}
}
