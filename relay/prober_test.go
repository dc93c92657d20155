package relay_test

import (
	"context"
	"errors"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/quiescehq/quiesce/fsm"
)

// prepare announces one event and gives its id and the id of its fence.
func (w *world) prepare(pk string) (id uint64, fence string) {
	w.Helper()
	r := w.log.must(w.T, fsm.PrepareEvents{Source: sourceName, Events: []fsm.RowRef{{Mapping: mappingName, PK: pk}}, TTLMs: 30_000})
	return r.Prepared.ID, fsm.FenceID(clusterName, r.Prepared.ID)
}

// verdicts notes what the task logs of fences.
func (w *world) verdicts() (of func(id uint64) []fsm.Verdict) {
	seen := make(chan fsm.Probe, 1000)
	w.log.stand(func(_ context.Context, command fsm.Command, apply func() fsm.Result) ([]fsm.Result, error) {
		if c, ok := command.(fsm.ProbePrepared); ok {
			for _, p := range c.Probes {
				seen <- p
			}
		}
		return []fsm.Result{apply()}, nil
	})
	all := map[uint64][]fsm.Verdict{}
	return func(id uint64) []fsm.Verdict {
		for {
			select {
			case p := <-seen:
				all[p.ID] = append(all[p.ID], p.Verdict)
			default:
				return all[id]
			}
		}
	}
}

const fenceInsert = "INSERT INTO quiesce_fence (id) VALUES (?)"

func (w *world) delivered(pk string) func() bool {
	return func() bool { _, ok := w.log.event(mappingName, pk); return ok }
}

func TestProbe_CommitWithoutSubmitIsDelivered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	verdicts := w.verdicts()
	id, fence := w.prepare(`["1"]`)
	tx := w.begin()
	tx.exec(fenceInsert, fence)
	tx.commit()
	w.start()
	w.until("the relay runs", func() bool { return w.status().Drained >= 0 })
	if w.delivered(`["1"]`)() {
		t.Fatal("delivered before its time")
	}
	w.log.later(time.Minute)
	w.until("the event is pending", w.delivered(`["1"]`))
	if got := verdicts(id); len(got) != 1 || got[0] != fsm.VerdictCommitted {
		t.Errorf("verdicts %v", got)
	}
	if n := w.number("SELECT COUNT(*) FROM quiesce_fence WHERE id = ? AND probe = 0", fence); n != 1 {
		t.Error("the probe changed the fence of the transaction")
	}
}

func TestProbe_RollbackWithoutSubmitTakesTheFence(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	verdicts := w.verdicts()
	rolledBack, fence := w.prepare(`["1"]`)
	tx := w.begin()
	tx.exec(fenceInsert, fence)
	if err := tx.tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	stopped, lateFence := w.prepare(`["2"]`) // its application stands still and has not begun
	w.start()
	w.log.later(time.Minute)
	w.until("both events are pending", func() bool { return w.delivered(`["1"]`)() && w.delivered(`["2"]`)() })
	for _, id := range []uint64{rolledBack, stopped} {
		if got := verdicts(id); len(got) != 1 || got[0] != fsm.VerdictRolledBack {
			t.Errorf("verdicts %v", got)
		}
	}
	late := w.begin()
	_, err := late.tx.Exec(fenceInsert, lateFence)
	var refused *driver.MySQLError
	if !errors.As(err, &refused) || refused.Number != 1062 {
		t.Errorf("the late transaction's fence: %v, want 1062", err)
	}
}

func TestProbe_OpenTransactionIsAskedAgainUntilItCommits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cfg.OpenMin, w.cfg.OpenMax = time.Millisecond, 2*time.Millisecond
	verdicts := w.verdicts()
	id, fence := w.prepare(`["1"]`)
	tx := w.begin()
	tx.exec(fenceInsert, fence)
	w.log.later(time.Minute)
	w.start()
	w.until("it was found open twice", func() bool { return len(verdicts(id)) >= 2 })
	if w.delivered(`["1"]`)() {
		t.Error("delivered while the transaction is open")
	}
	if p, ok := w.log.prepared(id); !ok || p.Probes < 2 {
		t.Errorf("prepared %+v, %v: the looks are not counted", p, ok)
	}
	tx.commit()
	w.until("the event is pending", w.delivered(`["1"]`))
	got := verdicts(id)
	if got[0] != fsm.VerdictOpen || got[len(got)-1] != fsm.VerdictCommitted {
		t.Errorf("verdicts %v", got)
	}
}

func TestProbe_FencePurgedBeforeALateLookIsHarmless(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, fence := w.prepare(`["1"]`)
	tx := w.begin()
	tx.exec(fenceInsert, fence)
	tx.commit()
	w.exec("DELETE FROM quiesce_fence") // as a purge by hand, or of a cluster that was restored from an older backup
	w.log.later(time.Minute)
	w.start()
	w.until("the event is pending", w.delivered(`["1"]`))
}

// The first look takes the fence, and its entry is lost with the leader. The next must not take the leader's own row for a commit.
func TestProbe_OwnFenceOfAnEarlierLookIsNoCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, fence := w.prepare(`["1"]`)
	verdict, err := w.source.Probe(t.Context(), fence)
	if err != nil || verdict != "rolled_back" {
		t.Fatalf("%s, %v", verdict, err)
	}
	verdicts := w.verdicts()
	w.log.later(time.Minute)
	w.start()
	w.until("the event is pending", w.delivered(`["1"]`))
	if got := verdicts(id); len(got) != 1 || got[0] != fsm.VerdictRolledBack {
		t.Errorf("verdicts %v", got)
	}
}

func TestProbe_LostAnswerIsAskedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.prepare(`["1"]`)
	lost := false
	w.log.stand(func(_ context.Context, command fsm.Command, apply func() fsm.Result) ([]fsm.Result, error) {
		if _, ok := command.(fsm.ProbePrepared); ok && !lost {
			lost = true // one prober, one goroutine
			return nil, errOutcomeUnknown
		}
		return []fsm.Result{apply()}, nil
	})
	w.log.later(time.Minute)
	w.start()
	w.until("the event is pending", w.delivered(`["1"]`))
}

func TestProbe_PausedLooksAtNoFence(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.log.must(t, fsm.PauseOutbox{Scope: fsm.PauseSource, Name: sourceName})
	_, fence := w.prepare(`["1"]`)
	w.log.later(time.Minute)
	w.start()
	w.until("it is paused", func() bool { return w.status().State == "paused" })
	if n := w.number("SELECT COUNT(*) FROM quiesce_fence WHERE id = ?", fence); n != 0 {
		t.Error("a fence was looked at")
	}
	w.log.must(t, fsm.ResumeOutbox{Scope: fsm.PauseSource, Name: sourceName})
	w.until("the event is pending", w.delivered(`["1"]`))
}

func TestPurge_OnlyFencesThatAreOfNoUseGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cfg.PurgeEvery = 20 * time.Millisecond
	waiting, _ := w.prepare(`["1"]`)
	over, _ := w.prepare(`["2"]`)
	young, _ := w.prepare(`["3"]`)
	w.log.must(t, fsm.SubmitPrepared{ID: over})
	w.log.must(t, fsm.SubmitPrepared{ID: young})
	fence := func(id string, probe int, age string) {
		w.exec("INSERT INTO quiesce_fence (id, probe, created_at) VALUES (?, ?, CURRENT_TIMESTAMP - INTERVAL "+age+")", id, probe)
	}
	stays, goes := map[string]bool{}, map[string]bool{}
	put := func(set map[string]bool, id string, probe int, age string) { set[id] = true; fence(id, probe, age) }
	put(stays, fsm.FenceID(clusterName, waiting), 0, "2 HOUR")
	put(goes, fsm.FenceID(clusterName, over), 0, "2 HOUR")
	put(stays, fsm.FenceID(clusterName, young), 0, "1 SECOND")
	put(stays, fsm.FenceID(clusterName, 900), 1, "2 HOUR") // a transaction may still come to it
	put(goes, fsm.FenceID(clusterName, 901), 1, "25 HOUR")
	put(stays, "c-other.p1", 0, "2 HOUR")
	put(goes, "c-other.p2", 0, "25 HOUR")
	put(stays, clusterName+".p01", 0, "2 HOUR")
	w.start()
	left := func() map[string]bool {
		found := map[string]bool{}
		rows, err := w.db.Query("SELECT id FROM quiesce_fence")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				t.Fatal(err)
			}
			found[id] = true
		}
		return found
	}
	w.until("what is of no use is gone", func() bool {
		found := left()
		for id := range goes {
			if found[id] {
				return false
			}
		}
		return true
	})
	found := left()
	for id := range stays {
		if !found[id] {
			t.Errorf("fence %s is gone", id)
		}
	}
}
