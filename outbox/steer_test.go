package outbox_test

import (
	"testing"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/outbox"
)

// TestPause_HoldsWhatItNamesAndNothingElse: by mapping, by target, and all; what was held is delivered once the last pause ends.
func TestPause_HoldsWhatItNamesAndNothingElse(t *testing.T) {
	t.Parallel()
	w := shared(t)
	w.fill(t, 3)
	other := w.spec()
	other.Key = w.prefix + "other:{id}"
	w.putMapping(t, "other", other)
	lead(t, w.task(t))

	w.log.must(t, fsm.PauseOutbox{Scope: fsm.PauseMapping, Name: row(1).Mapping})
	w.enqueue(t, row(1), fsm.RowRef{Mapping: "other", PK: `["1"]`})
	eventually(t, "the other mapping's event to be delivered", func() bool { return w.pendingOf("other") == 0 })
	if n := w.pendingOf(row(1).Mapping); n != 1 {
		t.Errorf("%d events of the paused mapping are pending", n)
	}
	w.log.must(t, fsm.PauseOutbox{Scope: fsm.PauseAll})
	w.log.must(t, fsm.ResumeOutbox{Scope: fsm.PauseMapping, Name: row(1).Mapping})
	w.enqueue(t, fsm.RowRef{Mapping: "other", PK: `["2"]`})
	w.log.must(t, fsm.PauseOutbox{Scope: fsm.PauseTarget, Name: "elsewhere"})
	w.log.must(t, fsm.ResumeOutbox{Scope: fsm.PauseAll})
	w.drained(t)
}

// TestShare_CountsAndTellsWhatHoldsUp: while the target is down, and after.
func TestShare_CountsAndTellsWhatHoldsUp(t *testing.T) {
	t.Parallel()
	w, own := owned(t)
	w.fill(t, 2)
	task := w.task(t)
	lead(t, task)
	w.enqueue(t, row(1))
	w.drained(t)
	// The log has the acknowledgement before the leader has counted it.
	eventually(t, "the first delivery to be counted", func() bool {
		s := task.Share(row(1).Mapping)
		return s.Delivered == 1 && s.InFlight == 0 && s.Blocked == ""
	})
	own.KillRedis()
	w.enqueue(t, row(2))
	eventually(t, "the target to be known to be down", func() bool { return task.Share(row(1).Mapping).Blocked == outbox.BlockedTargetDown })
	own.StartRedis()
	w.drained(t)
	eventually(t, "nothing to hold it up", func() bool { s := task.Share(row(1).Mapping); return s.Blocked == "" && s.Delivered == 2 })
	if s := task.Share(row(1).Mapping); s.Failed == 0 {
		t.Errorf("%+v", s)
	}
}

// TestTimeline_TellsWhatBecameOfARow: the oldest first, of this row alone.
func TestTimeline_TellsWhatBecameOfARow(t *testing.T) {
	t.Parallel()
	w := shared(t)
	w.fill(t, 2)
	task := w.task(t)
	if _, entries := task.Timeline(row(1)); entries != nil {
		t.Errorf("before anything: %+v", entries)
	}
	lead(t, task)
	tokens := w.enqueue(t, row(1), row(2))
	w.drained(t)
	w.redis(t, "DEL "+w.key(1))
	w.redis(t, "RPUSH "+w.key(1)+" x")
	dead := w.enqueue(t, row(1))
	eventually(t, "a dead letter", func() bool {
		_, entries := task.Timeline(row(1))
		return len(entries) == 2
	})
	_, entries := task.Timeline(row(1))
	if entries[0].What != outbox.HappenedApplied || entries[0].Token != tokens[0].Token || entries[1].What != outbox.HappenedDead || entries[1].Token != dead[0].Token ||
		entries[1].Detail == "" || entries[0].Age < entries[1].Age {
		t.Errorf("%+v", entries)
	}
}

func (w *world) pendingOf(mapping string) (n int) {
	w.log.View(func(s *fsm.State) { n = s.Pending(mapping) })
	return n
}
