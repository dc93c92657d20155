package failover

import (
	"log/slog"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/fsm"
)

// doubtful is a log with mappings of each kind, all in doubt, and what starts their passes.
func doubtful(t *testing.T) (*memory, *doubts) {
	m := newMemory(t)
	m.do(t, fsm.PutMapping{Name: "carts", Source: "main", Target: "cache", Spec: []byte(`{"mode":"write_through","owns_prefix":true}`)})
	m.do(t, fsm.PutMapping{Name: "menus", Source: "main", Target: "cache", Spec: []byte(`{"mode":"invalidate","owns_prefix":true}`)})
	m.do(t, fsm.ObserveStore{Kind: fsm.StoreTarget, Name: "cache", Identity: "x", Cause: "restarted"})
	cfg := Default()
	cfg.PassRetry = time.Nanosecond
	return m, &doubts{task: &Task{Parts: Parts{Log: m, Logger: slog.New(slog.DiscardHandler)}, config: cfg}, tried: map[string]time.Time{}}
}

func (m *memory) passOf(mapping string) (p fsm.Pass) {
	d, _ := m.doubt(mapping)
	m.View(func(s *fsm.State) { p, _ = s.Pass(d.Pass) })
	return p
}

func TestDoubt_IsEndedByAPassThatFitsTheMapping(t *testing.T) {
	t.Parallel()
	m, d := doubtful(t)
	d.look(t.Context())
	for mapping, want := range map[string]struct {
		mode   fsm.PassMode
		extras bool
	}{
		"orders": {fsm.PassRewrite, false}, "carts": {fsm.PassRewrite, true}, "pages": {fsm.PassInvalidate, false}, "menus": {fsm.PassInvalidate, true},
	} {
		p := m.passOf(mapping)
		if p.Mode != want.mode || p.Extras != want.extras || p.Cap != fsm.TokenMax || p.Fill || p.From != "" || p.SamplePPM != 0 {
			t.Errorf("%s: %+v", mapping, p)
		}
		m.do(t, fsm.FinishPass{ID: p.ID})
		if _, ok := m.doubt(mapping); ok {
			t.Errorf("%s: the doubt outlives its pass", mapping)
		}
	}
}

func TestDoubt_WaitsForAPassThatIsHeld(t *testing.T) {
	t.Parallel()
	m, d := doubtful(t)
	d.look(t.Context())
	held, paused := m.passOf("carts"), m.passOf("orders")
	m.do(t, fsm.HoldPass{ID: held.ID, Hold: fsm.HoldExtras, Reason: "3 keys without a row"})
	m.do(t, fsm.PausePass{ID: paused.ID})
	for range 3 {
		d.look(t.Context())
	}
	if now := m.passOf("carts"); now.ID != held.ID || now.State != fsm.PassHeld {
		t.Errorf("a held pass was followed by another: %+v", now)
	}
	if now := m.passOf("orders"); now.ID != paused.ID {
		t.Errorf("a paused pass was followed by another: %+v", now)
	}
	m.do(t, fsm.CancelPass{ID: held.ID})
	d.look(t.Context())
	if now := m.passOf("carts"); now.ID == held.ID || now.State != fsm.PassRunning {
		t.Errorf("a pass that was cancelled ends no doubt, and is followed by none: %+v", now)
	}
}

// What asks for a word about the last doubt does not keep a new one from being looked at. What somebody else began does: it is not ours to end.
func TestDoubt_NewOneDoesNotWaitForWhatTheLastOneAsks(t *testing.T) {
	t.Parallel()
	m, d := doubtful(t)
	d.look(t.Context())
	held, doubt := m.passOf("carts"), "restarted again"
	m.do(t, fsm.HoldPass{ID: held.ID, Hold: fsm.HoldExtras, Reason: "3 keys without a row"})
	theirs := m.passOf("orders").ID
	m.do(t, fsm.CancelPass{ID: theirs})
	m.do(t, fsm.StartPass{Mapping: "orders", PassOptions: fsm.PassOptions{Mode: fsm.PassRewrite}})
	m.View(func(s *fsm.State) { p, _ := s.Unfinished("orders"); theirs = p.ID })
	m.do(t, fsm.HoldPass{ID: theirs, Hold: fsm.HoldCap, Reason: "more differ"})
	m.do(t, fsm.ObserveStore{Kind: fsm.StoreTarget, Name: "cache", Before: "x", Identity: "y", Cause: doubt})
	d.look(t.Context())
	if now := m.passOf("carts"); now.ID == held.ID || now.State != fsm.PassRunning || now.Cause != doubt {
		t.Errorf("the new doubt has %+v", now)
	}
	m.View(func(s *fsm.State) {
		if p, _ := s.Pass(held.ID); p.State != fsm.PassCancelled || p.Reason == "" {
			t.Errorf("the pass of the last doubt is %+v", p)
		}
		if p, _ := s.Pass(theirs); p.State != fsm.PassHeld {
			t.Errorf("somebody's pass is %+v", p)
		}
	})
	m.do(t, fsm.CancelPass{ID: theirs})
	d.look(t.Context())
	if now := m.passOf("orders"); now.Cause != doubt {
		t.Errorf("after somebody's pass: %+v", now)
	}
}
