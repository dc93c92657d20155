package drain

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/fsm"
)

// heard collects what is logged.
type heard struct {
	mu    sync.Mutex
	lines []string
	more  chan struct{}
}

func (h *heard) Write(b []byte) (int, error) {
	h.mu.Lock()
	h.lines = append(h.lines, string(b))
	h.mu.Unlock()
	h.more <- struct{}{}
	return len(b), nil
}

func (h *heard) await(t *testing.T) {
	t.Helper()
	select {
	case <-h.more:
	case <-time.After(20 * time.Second):
		t.Fatalf("nothing more was told than %q", h.lines)
	}
}

// What happened before the term began is not told again; each later thing once.
func TestNotices_TellOverdraftsAndLossesOnce(t *testing.T) {
	l, out := newTestLog(t), &heard{more: make(chan struct{}, 16)}
	lose := func(id string) {
		t.Helper()
		l.must(t, fsm.RegisterInstance{ID: id, Session: "s" + id, Service: "web", Name: id, TTLMs: 9000})
		l.must(t, fsm.ExpireSession{ID: "s" + id, Generation: 1})
	}
	lose("before")
	ctx, cancel := context.WithCancel(t.Context())
	var joined sync.WaitGroup
	defer joined.Wait()
	defer cancel()
	n := newNotices(l, slog.New(slog.NewTextHandler(out, nil)))
	joined.Go(func() { _ = n.run(ctx) })
	lose("after")
	out.await(t)
	l.must(t, fsm.PutService{Name: "web", MinAvailable: 5}) // nobody may go
	r := l.must(t, fsm.RegisterInstance{ID: "p", Session: "sp", Service: "web", Name: "p", TTLMs: 9000})
	l.must(t, fsm.SetInstanceReady{ID: "p", Incarnation: r.Instance.Incarnation})
	l.must(t, fsm.PauseInstance{ID: "p", Force: true})
	out.await(t)
	cancel()
	joined.Wait()
	if len(out.lines) != 2 || !strings.Contains(out.lines[0], "lost") || !strings.Contains(out.lines[0], "instances=1") || !strings.Contains(out.lines[1], "overdrafts=1") {
		t.Errorf("%q", out.lines)
	}
}
