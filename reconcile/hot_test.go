package reconcile

import (
	"sync"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/fsm"
)

// stuckRelay is a relay that has not come to the end of its table, which the real one cannot be on purpose.
type stuckRelay struct {
	mu      sync.Mutex
	marks   uint64
	drained bool
	asked   chan struct{} // gets something when somebody was told "not yet"
}

func newStuckRelay() *stuckRelay { return &stuckRelay{asked: make(chan struct{}, 1)} }

func (r *stuckRelay) Mark(string) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.marks++
	return r.marks
}

func (r *stuckRelay) Drained(source string, _ uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if source != "shop" {
		return false
	}
	if !r.drained {
		select {
		case r.asked <- struct{}{}:
		default:
		}
	}
	return r.drained
}

// drain has the relay come to the end of its table with every reading from now on.
func (r *stuckRelay) drain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drained = true
}

func TestTask_RowsWithAnnouncedEventsAreHot(t *testing.T) {
	t.Parallel()
	const rows, planted = 2_000, 40
	w := newWorld(t, rows, nil)
	refs := w.unlink(0, rows, rows/planted)
	announced := w.log.must(t, fsm.PrepareEvents{Source: "shop", Events: refs[:30], TTLMs: 60_000}).Prepared.ID
	if p := w.run(fsm.PassDryRun, 0, 0); (p.Counts != fsm.PassCounts{Rows: rows, Equal: rows - planted, Hot: 30, Missing: 10}) {
		t.Errorf("announced: %+v", p.Counts)
	}
	w.log.must(t, fsm.CancelPrepared{ID: announced})
	if p := w.run(fsm.PassDryRun, 0, 0); (p.Counts != fsm.PassCounts{Rows: rows, Equal: rows - planted, Missing: planted}) {
		t.Errorf("the transaction was rolled back: %+v", p.Counts)
	}
}

// What may stand in an outbox table that was not read to its end is not reported, and does not hold up the scan.
func TestTask_DifferencesWaitForTheRelay(t *testing.T) {
	t.Parallel()
	const rows, planted = 5_000, 20
	w := newWorld(t, rows, nil)
	refs := w.unlink(0, 1_000, 1_000/planted)
	w.config.RelayWait = passTimeout
	relay := newStuckRelay()
	task := w.task(func(p *Parts) { p.Relays = relay })
	defer w.lead(task)()
	pass := w.start(fsm.PassDryRun, 0, 0)
	p := w.until(pass, "waiting for the relay", func(fsm.Pass) bool {
		under := task.Progress()
		return len(under) == 1 && under[0].Waiting == waitRelay && under[0].Rows == rows
	})
	if p.Counts.Differences() != 0 || p.Counts.Hot != 0 || p.State != fsm.PassRunning {
		t.Errorf("while the relay is behind: %s %+v", p.State, p.Counts)
	}
	w.log.must(t, fsm.EnqueueEvents{Events: refs[:15]}) // the relay finds something about fifteen of them
	relay.drain()
	if p := w.ended(pass); (p.Counts != fsm.PassCounts{Rows: rows, Equal: rows - planted, Hot: 15, Missing: 5}) {
		t.Errorf("%+v", p.Counts)
	}
}

func TestTask_RelayThatNeedsTooLongMakesRowsHot(t *testing.T) {
	t.Parallel()
	const rows, planted = 1_000, 20
	w := newWorld(t, rows, nil)
	w.unlink(0, rows, rows/planted)
	w.config.RelayWait = 50 * time.Millisecond
	relay := newStuckRelay()
	resign := w.lead(w.task(func(p *Parts) { p.Relays = relay }))
	p := w.ended(w.start(fsm.PassDryRun, 0, 0))
	resign()
	if want := (fsm.PassCounts{Rows: rows, Equal: rows - planted, Hot: planted}); p.Counts != want {
		t.Errorf("%+v, want %+v", p.Counts, want)
	}
}

// A paused relay says nothing for as long as it is paused, so nobody waits for it. What agrees has its verdict all the same.
func TestTask_PausedRelayMakesWhatDiffersHotAtOnce(t *testing.T) {
	t.Parallel()
	const rows, planted = 1_000, 20
	w := newWorld(t, rows, nil)
	w.unlink(0, rows, rows/planted)
	w.config.RelayWait = passTimeout
	relay := newStuckRelay()
	w.log.must(t, fsm.PauseOutbox{Scope: fsm.PauseSource, Name: "shop"})
	defer w.lead(w.task(func(p *Parts) { p.Relays = relay }))()
	if p := w.ended(w.start(fsm.PassDryRun, 0, 30_000)); (p.Counts != fsm.PassCounts{Rows: rows, Equal: rows - planted, Hot: planted}) {
		t.Errorf("paused: %+v", p.Counts)
	}
	w.log.must(t, fsm.ResumeOutbox{Scope: fsm.PauseSource, Name: "shop"})
	pass := w.start(fsm.PassDryRun, 0, 0)
	<-relay.asked
	relay.drain()
	if p := w.ended(pass); (p.Counts != fsm.PassCounts{Rows: rows, Equal: rows - planted, Missing: planted}) {
		t.Errorf("resumed: %+v", p.Counts)
	}
}
