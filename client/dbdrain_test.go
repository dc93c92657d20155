package client

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client/quiescetest"
	"github.com/quiescehq/quiesce/cluster_test/services"
)

// newDrainWorld is a database of an instance with a coordinator, which can be drained.
func newDrainWorld(t *testing.T, opts ...Option) (dbWorld, *quiescetest.Coordinator) {
	t.Helper()
	coordinator, addr := start(t)
	w := dbWorld{T: t, dsn: services.Require(t).MySQLDSN, app: join(t, addr, opts...)}
	w.plain = sql.OpenDB(mysqlConnector(t, w.dsn))
	t.Cleanup(func() { _ = w.plain.Close() })
	var err error
	if w.db, err = w.app.OpenDB(mysqlConnector(t, w.dsn), "main"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.db.Close() })
	w.exec(w.plain, "CREATE TABLE t (id BIGINT PRIMARY KEY, v VARCHAR(64)) ENGINE=InnoDB")
	return w, coordinator
}

func (w dbWorld) insert(ctx context.Context, id int, v string) error {
	return w.db.Tx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO t VALUES (?, ?)", id, v)
		return err
	})
}

// What was admitted is done to its end, what the drain itself does too, and nothing else.
func TestDB_DrainLosesNothingThatWasAdmitted(t *testing.T) {
	t.Parallel()
	w, coordinator := newDrainWorld(t, Grace(GraceDefault))
	code := run(w.app)
	eventually(t, "ready", func() bool { return coordinator.Instances()[0].State == api.StateReady })
	began, rejecting := make(chan struct{}), make(chan struct{})
	handler := w.app.Handler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		close(began)
		<-rejecting
		if err := w.insert(r.Context(), 1, "begun after the refusals"); err != nil {
			t.Errorf("an admitted request: %v", err)
		}
	}))
	served := make(chan struct{})
	go func() { defer close(served); probe(handler) }()
	<-began
	w.app.Flush("cache", func(ctx context.Context) (int, error) {
		if err := w.insert(context.Background(), 9, "stray"); !errors.Is(err, ErrStopping) {
			t.Errorf("work that nobody waits for: %v", err)
		}
		return 0, w.insert(ctx, 2, "flush")
	})
	if err := w.app.On(PhaseLocks, "last words", func(ctx context.Context) error { return w.insert(ctx, 3, "locks") }); err != nil {
		t.Fatal(err)
	}
	if err := coordinator.Drain(coordinator.Instances()[0].ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "new requests are refused", func() bool { return w.app.rejecting() })
	close(rejecting)
	<-served
	if got := exitCode(t, code); got != ExitClean {
		t.Errorf("exit code %d", got)
	}
	if n := w.rows("id IN (1, 2, 3)"); n != 3 || w.rows("v = 'stray'") != 0 {
		t.Errorf("%d of 3 rows", n)
	}
	if err := w.db.PingContext(t.Context()); err == nil {
		t.Error("the pool is open after the drain")
	}
}

func TestDB_DrainThatTakesTooLongRollsBackAndSaysSo(t *testing.T) {
	t.Parallel()
	w, coordinator := newDrainWorld(t)
	tx := w.begin()
	w.exec(tx, "INSERT INTO t VALUES (1, 'left open')")
	code := run(w.app)
	id := coordinator.Instances()[0].ID
	eventually(t, "its connection is known", func() bool { return coordinator.Status(id).Connections == 1 })
	eventually(t, "ready", func() bool { return coordinator.Instances()[0].State == api.StateReady })
	if err := coordinator.Drain(id); err != nil {
		t.Fatal(err)
	}
	if got := exitCode(t, code); got != ExitLeftovers {
		t.Errorf("exit code %d", got)
	}
	if err := tx.Commit(); !errors.Is(err, ErrCutOff) || w.rows("id = 1") != 0 {
		t.Errorf("the commit after the end: %v", err)
	}
	found := false
	for _, r := range coordinator.Requests("/v1/instances/" + id + "/phase") {
		body := string(r.Body)
		found = found || strings.Contains(body, `"transactions_open":1`) && strings.Contains(body, `"phase":"transactions"`)
	}
	if !found {
		t.Error("the open transaction was never reported")
	}
}

func TestDB_DrainThatIsUndoneOpensTheDatabaseAgain(t *testing.T) {
	t.Parallel()
	w, coordinator := newDrainWorld(t, Grace(GraceDefault))
	code := run(w.app)
	id := coordinator.Instances()[0].ID
	eventually(t, "ready", func() bool { return coordinator.Instances()[0].State == api.StateReady })
	flushing := make(chan struct{}, 1)
	w.app.Flush("until undone", func(ctx context.Context) (int, error) {
		flushing <- struct{}{}
		<-ctx.Done()
		return 0, nil
	})
	if err := coordinator.Drain(id); err != nil {
		t.Fatal(err)
	}
	<-flushing
	if err := w.insert(t.Context(), 1, "too late"); !errors.Is(err, ErrStopping) {
		t.Errorf("while the drain flushes: %v", err)
	}
	if err := coordinator.Undo(id); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the database takes work again", func() bool { return w.insert(t.Context(), 2, "undone") == nil })
	handler := w.app.Handler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { _ = w.insert(r.Context(), 3, "served") }))
	eventually(t, "requests are served", func() bool {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/", nil))
		return answer.Code == http.StatusOK && w.rows("id = 3") == 1
	})
	w.app.Close()
	select {
	case <-code:
	case <-time.After(2 * GraceMin):
		t.Error("Run does not return")
	}
}
