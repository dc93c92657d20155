package outbox_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/rediscache"
)

func TestRun_BusyMappingDoesNotStarveAnother(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		target := &fakeTarget{}
		w := bubble(t, noRows, target)
		w.cfg.BatchesMax, w.cfg.BatchRowsMax, w.cfg.ProbeRows = 1, 10, 1
		putTwin(t, w, "quiet")
		var batches, served atomic.Int64
		target.apply = func(writes []rediscache.Guarded) []rediscache.Outcome {
			if n := batches.Add(1); strings.Contains(writes[0].Write.Key, "quiet") {
				served.Store(n)
			}
			return all(writes, rediscache.OutcomeApplied)
		}
		w.enqueue(t, rows(1, 501)...)
		w.enqueue(t, fsm.RowRef{Mapping: "quiet", PK: row(1).PK})
		resign := lead(t, w.task(t))
		synctest.Wait()
		resign()
		if n := served.Load(); n < 1 || n > 2 {
			t.Errorf("the quiet mapping had its turn in batch %d, want the first or second", n)
		}
	})
}

// Dead letters are bounded. A row that finds no room stays pending, and must not be tried without a pause.
func TestRun_RowWithoutRoomAmongTheDeadBacksOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		target := &fakeTarget{apply: func(writes []rediscache.Guarded) []rediscache.Outcome {
			return all(writes, rediscache.OutcomeWrongType)
		}}
		w := bubble(t, noRows, target)
		const entriesMax = 100
		var entries atomic.Int64
		w.log.setTamper(func(ops []fsm.Op) tampered {
			if entries.Add(1) > entriesMax {
				return tampered{ops: ops} // enough seen: let it end
			}
			return tampered{ops: withoutBurials(ops)}
		})
		resign := lead(t, w.task(t))
		w.enqueue(t, row(1))
		<-time.After(time.Minute)
		if got := entries.Load(); got < 2 || got > 30 {
			t.Errorf("%d entries in a minute, want a few", got)
		}
		w.log.setTamper(nil)
		<-time.After(w.cfg.BackoffMax)
		synctest.Wait()
		if w.log.dead(mappingName) != 1 {
			t.Error("the row is not buried although there is room")
		}
		resign()
	})
}

func withoutBurials(ops []fsm.Op) []fsm.Op {
	kept := make([]fsm.Op, 0, len(ops))
	for _, op := range ops {
		if _, burial := op.Command.(fsm.BuryEvents); !burial {
			kept = append(kept, op)
		}
	}
	return kept
}

func TestRun_SettlementOfUnknownOutcomeCountsAsRecent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := bubble(t, noRows, &fakeTarget{})
		task := w.task(t)
		resign := lead(t, task)
		synctest.Wait()
		since := w.log.revision()
		w.log.setTamper(func(ops []fsm.Op) tampered { return tampered{ops: ops, answerFails: true} })
		w.enqueue(t, row(1))
		synctest.Wait()
		if _, pending := w.log.event(row(1)); pending {
			t.Fatal("the event is still pending")
		}
		if touched, covered := task.Recent(row(1), since); !touched || !covered {
			t.Errorf("touched %v, covered %v", touched, covered)
		}
		resign()
	})
}
