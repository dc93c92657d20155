package alert

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/solo"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// memory is a log of one process.
type memory struct{ *solo.Log }

func newMemory(t *testing.T) *memory {
	m := &memory{solo.New("n1")}
	m.do(t, fsm.PutMapping{Name: "orders", Source: "main", Target: "cache", Spec: []byte("{}")})
	return m
}

func (m *memory) do(t *testing.T, c fsm.Command) fsm.Result {
	t.Helper()
	r := m.Do(c)
	if r.Refused() {
		t.Fatalf("%T: %+v", c, r)
	}
	return r
}

func row(i int) fsm.RowRef { return fsm.RowRef{Mapping: "orders", PK: fmt.Sprintf(`["%d"]`, i)} }

// bury makes a dead letter of a row.
func (m *memory) bury(t *testing.T, i int, class string) {
	t.Helper()
	m.do(t, fsm.EnqueueEvents{Events: []fsm.RowRef{row(i)}})
	m.do(t, fsm.BuryEvents{Events: []fsm.Failure{{Event: fsm.Settlement{Row: row(i), Revision: 1, Token: 1 << 40}, Class: class}}})
}

// receiver is a hook's other end.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	heard  []Notice
	signed []bool
	status int
	hang   chan struct{} // not nil: answers when it is closed
}

func newReceiver(t *testing.T, secret string) *receiver {
	r := &receiver{status: http.StatusNoContent}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		r.mu.Lock()
		hang, status := r.hang, r.status
		r.mu.Unlock()
		if hang != nil {
			select {
			case <-hang:
			case <-q.Context().Done():
			}
			return
		}
		var n Notice
		if err == nil && status/100 == 2 && json.Unmarshal(body, &n) == nil {
			mac := hmac.New(sha256.New, []byte(secret))
			mac.Write(body)
			r.mu.Lock()
			r.heard = append(r.heard, n)
			r.signed = append(r.signed, q.Header.Get(HeaderSignature) == "sha256="+hex.EncodeToString(mac.Sum(nil)))
			r.mu.Unlock()
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) all() []Notice {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Notice(nil), r.heard...)
}

func (r *receiver) answer(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

// await waits for the nth notice, from 1.
func (r *receiver) await(t *testing.T, n int) Notice {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-ticker.C {
		if heard := r.all(); len(heard) >= n {
			return heard[n-1]
		}
	}
	t.Fatalf("never heard notice %d: %+v", n, r.all())
	return Notice{}
}

func start(t *testing.T, m *memory, hooks ...Hook) {
	t.Helper()
	cfg := Default(hooks...)
	cfg.Every, cfg.Repeat, cfg.RetryMin, cfg.RetryMax = 5*time.Millisecond, 20*time.Millisecond, 5*time.Millisecond, 20*time.Millisecond
	task, err := New(cfg, m, "n1", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- task.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestTask_TellsTheBeginningTheGrowthAndTheEnd(t *testing.T) {
	t.Parallel()
	m, r := newMemory(t), newReceiver(t, "secret")
	start(t, m, Hook{URL: r.URL, Secret: "secret"})
	m.bury(t, 1, "wrong_type")
	if n := r.await(t, 1); n.Kind != DeadLetter || n.State != Firing || n.Mapping != "orders" || n.Count != 1 || n.Cluster != "solo" || n.Node != "n1" || n.Classes["wrong_type"] != 1 {
		t.Errorf("%+v", n)
	}
	m.bury(t, 2, "too_large")
	if n := r.await(t, 2); n.Count != 2 || n.Classes["too_large"] != 1 || n.State != Firing {
		t.Errorf("%+v", n)
	}
	m.do(t, fsm.DiscardEvents{Rows: []fsm.RowRef{row(1)}}) // fewer: nothing new
	m.do(t, fsm.DiscardEvents{Rows: []fsm.RowRef{row(2)}})
	if n := r.await(t, 3); n.State != Resolved || n.Kind != DeadLetter {
		t.Errorf("%+v", n)
	}
	m.bury(t, 3, "wrong_type")
	if n := r.await(t, 4); n.State != Firing || n.Count != 1 {
		t.Errorf("%+v", n)
	}
	for i, ok := range r.signed {
		if !ok {
			t.Errorf("notice %d has a wrong signature", i+1)
		}
	}
}

func TestTask_KnowsEveryKind(t *testing.T) {
	t.Parallel()
	m, r := newMemory(t), newReceiver(t, "")
	m.do(t, fsm.EnqueueEvents{Events: []fsm.RowRef{row(1)}})
	m.do(t, fsm.ObserveStore{Kind: fsm.StoreTarget, Name: "cache", Identity: "b", Cause: "restarted"})
	pass := m.do(t, fsm.StartPass{Mapping: "orders", PassOptions: fsm.PassOptions{Mode: fsm.PassDryRun, Cap: 10}}).Pass.ID
	m.do(t, fsm.CheckpointPass{ID: pass, Cursor: "x", Counts: fsm.PassCounts{Rows: 5, Stale: 2, Missing: 1}})
	m.do(t, fsm.FinishPass{ID: pass})
	m.Advance(10 * time.Second)
	start(t, m, Hook{URL: r.URL, Lag: 10 * time.Second})
	heard := map[Kind]Notice{}
	for i := range 3 {
		n := r.await(t, i+1)
		heard[n.Kind] = n
	}
	if n := heard[Lag]; n.LagMs < 10_000 || n.Pending != 1 {
		t.Errorf("%+v", n)
	}
	if n := heard[Doubt]; n.Cause != "restarted" {
		t.Errorf("%+v", n)
	}
	if n := heard[Divergence]; n.Count != 3 || n.Classes["stale"] != 2 || n.Classes["missing"] != 1 || n.Pass != pass {
		t.Errorf("%+v", n)
	}
}

// TestTask_ExtraKeysAreADivergenceAndAHeldPassAsks: and the question is over when somebody answers it.
func TestTask_ExtraKeysAreADivergenceAndAHeldPassAsks(t *testing.T) {
	t.Parallel()
	m, r := newMemory(t), newReceiver(t, "")
	pass := m.do(t, fsm.StartPass{Mapping: "orders", PassOptions: fsm.PassOptions{Mode: fsm.PassRewrite, Extras: true}}).Pass.ID
	m.do(t, fsm.CheckpointKeys{ID: pass, Scan: fsm.KeyCursor{Life: "x"}, Counts: fsm.KeyCounts{Looked: 9, Matched: 9, Extra: 4}})
	m.do(t, fsm.HoldPass{ID: pass, Hold: fsm.HoldExtras, Reason: "4 keys have no row"})
	start(t, m, Hook{URL: r.URL, Kinds: []Kind{Held, Divergence}})
	if n := r.await(t, 1); n.Kind != Held || n.State != Firing || n.Pass != pass || n.Cause != "extras" || n.Count != 4 || n.Classes["extra"] != 4 {
		t.Errorf("%+v", n)
	}
	m.do(t, fsm.ApprovePass{ID: pass})
	if n := r.await(t, 2); n.Kind != Held || n.State != Resolved {
		t.Errorf("%+v", n)
	}
	m.do(t, fsm.CheckpointKeys{ID: pass, Scan: fsm.KeyCursor{Life: "y"}, Counts: fsm.KeyCounts{Looked: 9, Matched: 9, Extra: 1}})
	m.do(t, fsm.FinishPass{ID: pass})
	if n := r.await(t, 3); n.Kind != Divergence || n.State != Firing || n.Count != 1 || n.Classes["extra"] != 1 {
		t.Errorf("%+v", n)
	}

	// What a backfill wrote was not promised to be there.
	fill := m.do(t, fsm.StartPass{Mapping: "orders", PassOptions: fsm.PassOptions{Mode: fsm.PassRewrite, Fill: true}}).Pass.ID
	m.do(t, fsm.CheckpointPass{ID: fill, Cursor: "x", Counts: fsm.PassCounts{Rows: 9, Missing: 9, Repaired: 9}, Filled: 9})
	m.do(t, fsm.FinishPass{ID: fill})
	if n := r.await(t, 4); n.Kind != Divergence || n.State != Resolved {
		t.Errorf("%+v", n)
	}
}

func TestTask_HooksHearWhatTheyAskedFor(t *testing.T) {
	t.Parallel()
	m, dead, slow := newMemory(t), newReceiver(t, ""), newReceiver(t, "")
	m.do(t, fsm.EnqueueEvents{Events: []fsm.RowRef{row(1)}})
	m.Advance(2 * time.Second)
	start(t, m, Hook{URL: dead.URL, Kinds: []Kind{DeadLetter}}, Hook{URL: slow.URL, Kinds: []Kind{Lag}, Lag: time.Second}, Hook{URL: slow.URL, Kinds: []Kind{Lag}, Lag: time.Hour})
	if n := slow.await(t, 1); n.Kind != Lag {
		t.Errorf("%+v", n)
	}
	m.bury(t, 2, "x")
	if n := dead.await(t, 1); n.Kind != DeadLetter {
		t.Errorf("%+v", n)
	}
	if heard := slow.all(); len(heard) != 1 {
		t.Errorf("%+v", heard)
	}
}

func TestTask_WhatWasNotHeardIsToldAnew(t *testing.T) {
	t.Parallel()
	m, r := newMemory(t), newReceiver(t, "")
	r.answer(http.StatusServiceUnavailable)
	start(t, m, Hook{URL: r.URL})
	m.bury(t, 1, "x")
	m.bury(t, 2, "x")
	r.answer(http.StatusOK)
	if n := r.await(t, 1); n.State != Firing || n.Count == 0 {
		t.Errorf("%+v", n)
	}
}

func TestTask_HookThatHangsHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	m, hangs, r := newMemory(t), newReceiver(t, ""), newReceiver(t, "")
	hangs.hang = make(chan struct{})
	t.Cleanup(func() { close(hangs.hang) })
	start(t, m, Hook{URL: hangs.URL}, Hook{URL: r.URL})
	m.bury(t, 1, "x")
	r.await(t, 1)
	m.bury(t, 2, "x")
	r.await(t, 2)
}

func TestHook_RefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	for _, h := range []Hook{{}, {URL: "ftp://x/"}, {URL: "http://"}, {URL: "http://x/", Lag: time.Millisecond}, {URL: "http://x/", Kinds: []Kind{"weather"}}, {URL: "http://x/", Secret: strings.Repeat("x", secretBytes+1)}} {
		if err := h.Validate(); !errors.Is(err, ErrConfig) {
			t.Errorf("%+v: %v", h, err)
		}
	}
	if err := Default(make([]Hook, HooksMax+1)...).Validate(); !errors.Is(err, ErrConfig) {
		t.Error(err)
	}
	if got := (Hook{URL: "https://user:secret@host/path?token=x"}).String(); got != "https://host" {
		t.Errorf("%q", got)
	}
}
