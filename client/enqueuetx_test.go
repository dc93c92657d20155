package client

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client/quiescetest"
	"github.com/quiescehq/quiesce/cluster_test/services"
)

// As `quiesce sync tables` prints them.
const (
	outboxTable = `CREATE TABLE quiesce_outbox (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
		mapping VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, pk TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
		old_key TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL, new_key TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
		created_at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)) ENGINE=InnoDB`
	fenceTableSchema = `CREATE TABLE quiesce_fence (id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
		probe TINYINT NOT NULL DEFAULT 0, created_at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)) ENGINE=InnoDB`
)

// txWorld is an instance with a coordinator and a watched pool.
type txWorld struct {
	dbWorld
	coordinator *quiescetest.Coordinator
}

func newTxWorld(t *testing.T) txWorld {
	t.Helper()
	coordinator, addr := start(t)
	must(t, coordinator.PutMapping("orders"))
	place := services.Require(t)
	w := txWorld{dbWorld{T: t, app: join(t, addr), dsn: place.MySQLDSN}, coordinator}
	w.plain = sql.OpenDB(mysqlConnector(t, place.MySQLDSN))
	w.plain.SetMaxOpenConns(4)
	t.Cleanup(func() { _ = w.plain.Close() })
	var err error
	if w.db, err = w.app.OpenDB(mysqlConnector(t, place.MySQLDSN), quiescetest.Source); err != nil {
		t.Fatal(err)
	}
	w.db.SetMaxOpenConns(dbConnectionsMax)
	t.Cleanup(func() { _ = w.db.Close() })
	for _, statement := range []string{"CREATE TABLE t (id BIGINT PRIMARY KEY, v VARCHAR(64)) ENGINE=InnoDB", outboxTable, fenceTableSchema} {
		w.exec(w.plain, statement)
	}
	return w
}

// outbox gives the rows of the outbox table.
func (w txWorld) outbox() (rows []string) {
	w.Helper()
	found, err := w.plain.QueryContext(w.Context(), "SELECT CONCAT_WS(' ', mapping, IFNULL(pk, '-'), IFNULL(old_key, '-'), IFNULL(new_key, '-')) FROM quiesce_outbox ORDER BY id")
	must(w.T, err)
	defer found.Close()
	for found.Next() {
		var row string
		must(w.T, found.Scan(&row))
		rows = append(rows, row)
	}
	must(w.T, found.Err())
	return rows
}

func (w txWorld) nudged(n int) {
	w.Helper()
	eventually(w.T, fmt.Sprint(n, " nudges"), func() bool { return w.coordinator.Nudges() >= n })
	if got := w.coordinator.Nudges(); got != n {
		w.Errorf("%d nudges, want %d", got, n)
	}
}

func TestEnqueueTx_EventsAreThereIfTheTransactionCommits(t *testing.T) {
	t.Parallel()
	w := newTxWorld(t)
	change := func(tx *sql.Tx) error {
		_, err := w.app.EnqueueTx(t.Context(), tx, quiescetest.Source, Change{Mapping: "orders", PK: 1},
			Change{Mapping: "items", OldKey: []any{"a'\"\\ü", nil}, NewKey: []any{uint64(1 << 63), "b"}})
		return err
	}
	errWork := errors.New("on purpose")
	if err := w.db.Tx(t.Context(), func(tx *sql.Tx) error { return errors.Join(change(tx), errWork) }); !errors.Is(err, errWork) {
		t.Error(err)
	}
	if rows := w.outbox(); len(rows) != 0 || w.coordinator.Nudges() != 0 {
		t.Errorf("after a rollback: %q, %d nudges", rows, w.coordinator.Nudges())
	}
	must(t, w.db.Tx(t.Context(), change))
	want := []string{`orders ["1"] - -`, `items - ["a'\"\\ü",null] ["9223372036854775808","b"]`}
	if rows := w.outbox(); !slices.Equal(rows, want) {
		t.Errorf("after the commit: %q", rows)
	}
	w.nudged(1)
}

func TestEnqueueTx_OthersNudgeByHandAndWithoutHarm(t *testing.T) {
	t.Parallel()
	w := newTxWorld(t)
	tx, err := w.plain.BeginTx(t.Context(), nil)
	must(t, err)
	committed, err := w.app.EnqueueTx(t.Context(), tx, quiescetest.Source, order(1))
	must(t, err)
	must(t, tx.Commit())
	if n := w.coordinator.Nudges(); n != 0 {
		t.Errorf("%d nudges before the word", n)
	}
	for range 3 {
		committed()
	}
	w.nudged(1)
	w.coordinator.Hang()
	began := time.Now()
	for range 50 {
		committed, err := w.app.EnqueueTx(t.Context(), w.plain, quiescetest.Source, order(1))
		must(t, err)
		committed()
	}
	if took := time.Since(began); took > 10*time.Second { // a nudge that is waited for takes a second
		t.Errorf("50 nudges without an answer took %v", took)
	}
	w.coordinator.Resume()
	eventually(t, "the one in flight and one for all others", func() bool { return w.coordinator.Nudges() >= 2 })
	w.coordinator.FailNext(1, api.CodeInternal, "/v1/outbox/nudge")
	committed, err = w.app.EnqueueTx(t.Context(), w.plain, quiescetest.Source, order(1))
	must(t, err)
	committed()
}

func TestEnqueueTx_ManyEventsAreFewStatementsAndBounded(t *testing.T) {
	t.Parallel()
	w := newTxWorld(t)
	changes := make([]Change, 2*txRowsMax+1)
	for i := range changes {
		changes[i] = order(i)
	}
	tx := w.begin()
	count := &countingExecer{inner: tx}
	_, err := w.app.EnqueueTx(t.Context(), count, quiescetest.Source, changes...)
	must(t, err)
	must(t, tx.Commit())
	if n := len(w.outbox()); n != len(changes) || count.statements != 3 {
		t.Errorf("%d rows in %d statements", n, count.statements)
	}
	if _, err := w.app.EnqueueTx(t.Context(), count, quiescetest.Source, make([]Change, txEventsMax+1)...); !errors.Is(err, ErrChange) {
		t.Errorf("too many: %v", err)
	}
	if _, err := w.app.EnqueueTx(t.Context(), count, "No Source", order(1)); !errors.Is(err, ErrConfig) {
		t.Errorf("a source that cannot be: %v", err)
	}
	if _, err := w.app.EnqueueTx(t.Context(), count, "", Change{}); !errors.Is(err, ErrChange) || count.statements != 3 {
		t.Errorf("nothing: %v", err)
	}
}

type countingExecer struct {
	inner      Execer
	statements int
}

func (c *countingExecer) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if strings.HasPrefix(query, "INSERT") {
		c.statements++
	}
	return c.inner.ExecContext(ctx, query, args...)
}
