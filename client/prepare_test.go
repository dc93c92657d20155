package client

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
)

// insert is the work of a transaction.
func (w txWorld) insert(id int) func(*sql.Tx) error {
	return func(tx *sql.Tx) error {
		_, err := tx.ExecContext(w.Context(), "INSERT INTO t VALUES (?, 'x')", id)
		return err
	}
}

// ended looks at what came of a transaction: its row, its fence, its events, and what is still prepared.
func (w txWorld) ended(what string, rows, fences, events, prepared int) {
	w.Helper()
	var f int
	must(w.T, w.plain.QueryRowContext(w.Context(), "SELECT COUNT(*) FROM quiesce_fence").Scan(&f))
	if r, e, p := w.rows("TRUE"), len(w.coordinator.Events()), len(w.coordinator.Prepared()); r != rows || f != fences || e != events || p != prepared {
		w.Errorf("%s: %d rows, %d fences, %d events and %d prepared, not %d, %d, %d and %d", what, r, f, e, p, rows, fences, events, prepared)
	}
}

func TestInTx_CommitsAndSubmits(t *testing.T) {
	t.Parallel()
	w := newTxWorld(t)
	tokens, err := w.app.InTx(t.Context(), w.db, []Change{order(1), order(2)}, func(tx *sql.Tx) error {
		w.ended("in the middle", 0, 0, 0, 1)
		p := w.coordinator.Prepared()[0]
		if p.Events != 2 || p.Instance != w.coordinator.Instances()[0].ID {
			t.Errorf("prepared %+v", p)
		}
		return w.insert(1)(tx)
	}, PrepareTTL(time.Minute))
	if err != nil || len(tokens) != 2 {
		t.Fatalf("%v, %v", tokens, err)
	}
	w.ended("after the commit", 1, 1, 2, 0)
}

func TestInTx_WhatDoesNotCommitIsCanceled(t *testing.T) {
	t.Parallel()
	w := newTxWorld(t)
	errWork := errors.New("on purpose")
	do := func(ctx context.Context, work func(*sql.Tx) error) error {
		_, err := w.app.InTx(ctx, w.db, []Change{order(1)}, func(tx *sql.Tx) error { return errors.Join(w.insert(1)(tx), work(tx)) })
		return err
	}
	if err := do(t.Context(), func(*sql.Tx) error { return errWork }); !errors.Is(err, errWork) {
		t.Error(err)
	}
	w.ended("an error", 0, 0, 0, 0)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = do(t.Context(), func(*sql.Tx) error { panic("bug") })
	}()
	w.ended("a panic", 0, 0, 0, 0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = do(t.Context(), func(*sql.Tx) error {
			runtime.Goexit()
			return nil
		})
	}()
	<-done
	w.ended("a goroutine that ended", 0, 0, 0, 0)
	ctx, cancel := context.WithCancel(t.Context())
	if err := do(ctx, func(*sql.Tx) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	w.ended("a context that ended", 0, 0, 0, 0)
	eventually(t, "no transaction is left open", func() bool { return w.db.watch.transactions.Load() == 0 })
}

func TestInTx_WhoseFenceWasTakenRollsBack(t *testing.T) {
	t.Parallel()
	w := newTxWorld(t)
	p, err := w.app.Prepare(t.Context(), []Change{order(1)})
	must(t, err)
	w.exec(w.plain, "INSERT IGNORE INTO quiesce_fence (id, probe) VALUES (?, 1)", p.fence.ID) // as the leader looks
	tx := w.begin()
	if err := p.Fence(t.Context(), tx); !errors.Is(err, ErrPreparedLost) {
		t.Errorf("got %v", err)
	}
	must(t, tx.Rollback())
	must(t, p.Cancel(t.Context()))
	must(t, p.Cancel(t.Context())) // is over, and that is no error
	if tokens, err := p.Submit(t.Context()); err != nil || len(tokens) != 0 {
		t.Errorf("submit of what is over: %v, %v", tokens, err)
	}
	w.exec(w.plain, "DROP TABLE quiesce_fence")
	tx = w.begin()
	if err := p.Fence(t.Context(), tx); err == nil || errors.Is(err, ErrPreparedLost) {
		t.Errorf("without the table: %v", err)
	}
	ran := false
	if _, err := w.app.InTx(t.Context(), w.db, []Change{order(1)}, func(*sql.Tx) error { ran = true; return nil }); err == nil || ran {
		t.Errorf("work ran without a fence: %v", err)
	}
	if n := len(w.coordinator.Prepared()); n != 0 {
		t.Errorf("%d prepared are left", n)
	}
}

// The connection ends before the commit, so that nobody can tell what became of it: nothing is said to the coordinator.
func TestInTx_ACommitWithoutAnAnswerIsLeftToTheCoordinator(t *testing.T) {
	t.Parallel()
	w := newTxWorld(t)
	_, err := w.app.InTx(t.Context(), w.db, []Change{order(1)}, func(tx *sql.Tx) error {
		if err := w.insert(1)(tx); err != nil {
			return err
		}
		var id uint64
		must(t, tx.QueryRowContext(t.Context(), "SELECT CONNECTION_ID()").Scan(&id))
		w.exec(w.plain, fmt.Sprint("KILL CONNECTION ", id))
		eventually(t, "the connection is gone", func() bool {
			var n int
			must(t, w.plain.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM information_schema.processlist WHERE id = ?", id).Scan(&n))
			return n == 0
		})
		return nil
	})
	if !errors.Is(err, ErrCommitUnknown) {
		t.Errorf("got %v", err)
	}
	w.ended("an unknown commit", 0, 0, 0, 1)
	for _, r := range w.coordinator.Requests("") {
		if strings.HasSuffix(r.Path, "/submit") || strings.HasSuffix(r.Path, "/cancel") {
			t.Errorf("it was told: %s", r.Path)
		}
	}
}

func TestInTx_ASubmitThatCannotBeToldIsNoError(t *testing.T) {
	t.Parallel()
	w := newTxWorld(t)
	tokens, err := w.app.InTx(t.Context(), w.db, []Change{order(1)}, func(tx *sql.Tx) error {
		w.coordinator.FailNext(1_000, api.CodeNoLeader)
		return w.insert(1)(tx)
	})
	if err != nil || len(tokens) != 0 {
		t.Errorf("%v, %v", tokens, err)
	}
	w.coordinator.ClearFaults()
	w.ended("a submit that was lost", 1, 1, 0, 1)
}

func TestInTx_NothingBeginsWithoutAPrepare(t *testing.T) {
	t.Parallel()
	w := newTxWorld(t)
	ran := false
	work := func(*sql.Tx) error { ran = true; return nil }
	if _, err := w.app.InTx(t.Context(), w.db, []Change{{Mapping: "nowhere", PK: 1}}, work); !errors.Is(err, ErrMappingNotFound) {
		t.Error(err)
	}
	w.coordinator.FailNext(1_000, api.CodeOutboxFull, "/v1/outbox/prepare")
	if _, err := w.app.InTx(t.Context(), w.db, []Change{order(1)}, work); !errors.Is(err, ErrOutboxFull) {
		t.Error(err)
	}
	if _, err := w.app.InTx(t.Context(), w.db, []Change{{}}, work); !errors.Is(err, ErrChange) {
		t.Error(err)
	}
	if _, err := w.app.Client().Prepare(t.Context(), make([]Change, 0)); err == nil {
		t.Error("nothing was prepared")
	}
	if ran {
		t.Error("work ran")
	}
}

func TestInTx_ADeadlockIsTriedAgainAsAWhole(t *testing.T) {
	t.Parallel()
	w := newTxWorld(t)
	errDeadlocked, runs := errors.New("deadlock"), 0
	tokens, err := w.app.InTx(t.Context(), w.db, []Change{order(1)}, func(tx *sql.Tx) error {
		if runs++; runs == 1 {
			return errDeadlocked
		}
		return w.insert(1)(tx)
	}, RetryOnce(func(err error) bool { return errors.Is(err, errDeadlocked) }))
	if err != nil || len(tokens) != 1 || runs != 2 {
		t.Errorf("%v, %v, %d runs", tokens, err, runs)
	}
	w.ended("the second time", 1, 1, 1, 0)
}
