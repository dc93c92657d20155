package client

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/quiescehq/quiesce/cluster_test/services"
)

const (
	dbConnectionsMax = 12
	errDeadlock      = 1213
)

// dbWorld is a watched pool, and a plain one that looks at what it does.
type dbWorld struct {
	*testing.T
	app   *App
	db    *DB
	plain *sql.DB
	dsn   string
}

func newDBWorld(t *testing.T) dbWorld {
	t.Helper()
	place := services.Require(t)
	w := dbWorld{T: t, app: newGateApp(t), dsn: place.MySQLDSN}
	w.plain = sql.OpenDB(mysqlConnector(t, place.MySQLDSN))
	w.plain.SetMaxOpenConns(4)
	t.Cleanup(func() { _ = w.plain.Close() })
	var err error
	if w.db, err = w.app.OpenDB(mysqlConnector(t, place.MySQLDSN), "main"); err != nil {
		t.Fatal(err)
	}
	w.db.SetMaxOpenConns(dbConnectionsMax)
	t.Cleanup(func() { _ = w.db.Close() })
	w.exec(w.plain, "CREATE TABLE t (id BIGINT PRIMARY KEY, v VARCHAR(64)) ENGINE=InnoDB")
	return w
}

func mysqlConnector(t *testing.T, dsn string) driver.Connector {
	t.Helper()
	config, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	config.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		t.Fatal(err)
	}
	return connector
}

type execer interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}

func (w dbWorld) exec(on execer, statement string, args ...any) {
	w.Helper()
	if _, err := on.ExecContext(w.Context(), statement, args...); err != nil {
		w.Fatalf("%s: %v", statement, err)
	}
}

// rows counts rows as everybody else sees them.
func (w dbWorld) rows(where string, args ...any) (n int) {
	w.Helper()
	if err := w.plain.QueryRowContext(w.Context(), "SELECT COUNT(*) FROM t WHERE "+where, args...).Scan(&n); err != nil {
		w.Fatal(err)
	}
	return n
}

func (w dbWorld) begin() *sql.Tx {
	w.Helper()
	tx, err := w.db.BeginTx(w.Context(), nil)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = tx.Rollback() })
	return tx
}

// expect looks at what is counted as open.
func (w dbWorld) expect(transactions, statements int64) {
	w.Helper()
	if t, s := w.db.watch.transactions.Load(), w.db.watch.statements.Load(); t != transactions || s != statements {
		w.Errorf("%d transactions and %d statements are counted, not %d and %d", t, s, transactions, statements)
	}
}

// settle runs the phase transactions.
func (w dbWorld) settle(limit time.Duration) error {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), limit)
	defer cancel()
	return w.db.watch.settle(ctx)
}

func TestDB_CountsWhatIsOpenUntilItsAnswerIsRead(t *testing.T) {
	t.Parallel()
	w := newDBWorld(t)
	w.exec(w.db, "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
	w.expect(0, 0)
	read, err := w.db.QueryContext(t.Context(), "SELECT id FROM t")
	if err != nil || !read.Next() {
		t.Fatal(err)
	}
	w.expect(0, 1)
	tx := w.begin()
	w.expect(1, 1)
	inside, err := tx.QueryContext(t.Context(), "SELECT id FROM t")
	if err != nil {
		t.Fatal(err)
	}
	w.expect(1, 1) // what is in a transaction is counted by it
	if err := errors.Join(inside.Close(), read.Close()); err != nil {
		t.Error(err)
	}
	prepared, err := w.db.PrepareContext(t.Context(), "SELECT v FROM t WHERE id = ?")
	if err != nil {
		t.Fatal(err)
	}
	defer prepared.Close()
	w.expect(1, 0)
	again, err := prepared.QueryContext(t.Context(), 1)
	if err != nil || !again.Next() {
		t.Fatal(err)
	}
	w.expect(1, 1)
	_ = again.Close()
	if err := tx.Commit(); err != nil {
		t.Error(err)
	}
	w.expect(0, 0)
	counters := map[string]uint64{}
	for _, c := range w.app.counters {
		counters[c.name] = c.read()
	}
	if n, ok := counters["transactions_open"]; !ok || n != 0 {
		t.Errorf("the counters are %v", counters)
	}
}

// answers are what a program can see of a query.
func answers(t *testing.T, db *sql.DB) (seen []string) {
	t.Helper()
	ctx := t.Context()
	see := func(what string, values ...any) { seen = append(seen, fmt.Sprintf("%s: %+v", what, values)) }
	query := func(what, text string, args ...any) {
		rows, err := db.QueryContext(ctx, text, args...)
		if err != nil {
			var refused *mysql.MySQLError
			see(what, errors.As(err, &refused), err)
			return
		}
		defer rows.Close()
		for more := true; more; more = rows.NextResultSet() {
			types, err := rows.ColumnTypes()
			for _, c := range types {
				length, sized := c.Length()
				nullable, told := c.Nullable()
				precision, scale, decimal := c.DecimalSize()
				see(what, c.Name(), c.DatabaseTypeName(), c.ScanType(), length, sized, nullable, told, precision, scale, decimal, err)
			}
			for rows.Next() {
				row, into := make([]any, len(types)), make([]any, len(types))
				for i := range row {
					into[i] = &row[i]
				}
				see(what, rows.Scan(into...), fmt.Sprintf("%#v", row))
			}
			see(what, rows.Err())
		}
	}
	query("text", "SELECT 1 a, -2.50 b, NULL c, 'ä' d, CAST('x' AS BINARY) e, 18446744073709551615 f, TIMESTAMP '2026-01-02 03:04:05' g")
	query("binary", "SELECT ? a, ? b, ? c, ? d", uint64(1<<63+1), []byte{0, 255}, nil, sql.NullString{String: "s", Valid: true})
	query("named", "SELECT ?", sql.Named("x", 1))
	query("syntax", "SELEKT 1")
	query("no such argument", "SELECT ?", struct{}{})
	query("too many", "SELECT ?", 1, 2)
	query("two results", "SELECT 1; SELECT 2, 3")
	result, err := db.ExecContext(ctx, "CREATE TEMPORARY TABLE IF NOT EXISTS tt (id BIGINT AUTO_INCREMENT PRIMARY KEY, v JSON)")
	see("create", result != nil, err)
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted, ReadOnly: true})
	see("read-only", err)
	_, err = tx.ExecContext(ctx, "INSERT INTO t VALUES (99, 'x')")
	see("read-only", err, tx.Rollback(), tx.Commit())
	over, cancel := context.WithCancel(ctx)
	cancel()
	_, err = db.ExecContext(over, "SELECT 1")
	see("over", err, db.PingContext(ctx))
	return seen
}

func TestDB_IsThePoolThatTheDriverMakes(t *testing.T) {
	t.Parallel()
	place := services.Require(t)
	dsn := place.MySQLDSN
	if strings.Contains(dsn, "?") {
		dsn += "&multiStatements=true"
	} else {
		dsn += "?multiStatements=true"
	}
	plain := sql.OpenDB(mysqlConnector(t, dsn))
	defer plain.Close()
	watched, err := newGateApp(t).OpenDSN("mysql", dsn, "main")
	if err != nil {
		t.Fatal(err)
	}
	defer watched.Close()
	for _, db := range []*sql.DB{plain, watched.DB} {
		db.SetMaxOpenConns(2)
	}
	if _, err := plain.ExecContext(t.Context(), "CREATE TABLE t (id BIGINT PRIMARY KEY, v VARCHAR(64))"); err != nil {
		t.Fatal(err)
	}
	want, got := answers(t, plain), answers(t, watched.DB)
	if len(want) < 20 {
		t.Fatalf("only %d answers", len(want))
	}
	for i := range want {
		if i >= len(got) || want[i] != got[i] {
			t.Errorf("got  %v\nwant %v", got[min(i, len(got)-1)], want[i])
		}
	}
	conn, err := watched.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.Raw(func(c any) error {
		if u, ok := c.(interface{ Unwrap() driver.Conn }); !ok || fmt.Sprintf("%T", u.Unwrap()) != "*mysql.mysqlConn" {
			t.Errorf("the driver's connection cannot be reached from a %T", c)
		}
		return nil
	})
}

func TestDB_ReportsItsConnectionsForOneRoundTripEach(t *testing.T) {
	t.Parallel()
	w := newDBWorld(t)
	var held []*sql.Conn
	var want []uint64
	for range 3 {
		conn, err := w.db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var id, questions uint64
		for range 5 {
			if err := conn.QueryRowContext(t.Context(), "SELECT CONNECTION_ID()").Scan(&id); err != nil {
				t.Fatal(err)
			}
		}
		for range 5 {
			w.exec(conn, "DO 1")
		}
		var name string
		if err := conn.QueryRowContext(t.Context(), "SHOW SESSION STATUS LIKE 'Questions'").Scan(&name, &questions); err != nil || questions > 13 {
			t.Errorf("%d questions for 11 of ours (%v)", questions, err)
		}
		held, want = append(held, conn), append(want, id)
	}
	slices.Sort(want)
	if got := w.app.connections.read(); len(got) != 1 || got[0].Source != "main" || !slices.Equal(got[0].IDs, want) {
		t.Errorf("reports %+v, not %v", got, want)
	}
	for _, conn := range held {
		_ = conn.Close()
	}
	w.db.SetMaxIdleConns(0) // closes the idle ones
	w.db.SetMaxIdleConns(2)
	if got := w.app.connections.read(); len(got) != 1 || got[0].IDs == nil || len(got[0].IDs) != 0 {
		t.Errorf("reports %+v after all are closed", got)
	}
}

func TestDB_SettleWaitsForWhatIsOpenAndRefusesWhatIsNew(t *testing.T) {
	t.Parallel()
	w := newDBWorld(t)
	tx := w.begin()
	settled := make(chan error, 1)
	go func() { settled <- w.settle(20 * time.Second) }()
	eventually(t, "new work is refused", func() bool {
		_, err := w.db.ExecContext(t.Context(), "INSERT INTO t VALUES (2, 'new')")
		return errors.Is(err, ErrStopping)
	})
	if _, err := w.db.BeginTx(t.Context(), nil); !errors.Is(err, ErrStopping) {
		t.Errorf("a new transaction: %v", err)
	}
	if err := w.db.Tx(drainWork(t.Context()), func(tx *sql.Tx) error { w.exec(tx, "INSERT INTO t VALUES (3, 'flush')"); return nil }); err != nil {
		t.Errorf("the drain's own work: %v", err)
	}
	select {
	case err := <-settled:
		t.Fatalf("did not wait: %v", err)
	default:
	}
	w.exec(tx, "INSERT INTO t VALUES (4, 'under way')")
	if err := tx.Commit(); err != nil {
		t.Errorf("the commit of what was open: %v", err)
	}
	if err := <-settled; err != nil {
		t.Error(err)
	}
	if n := w.rows("v IN ('flush', 'under way')"); n != 2 {
		t.Errorf("%d of 2 rows are there", n)
	}
	_ = w.db.watch.reopen(t.Context())
	w.exec(w.db, "INSERT INTO t VALUES (5, 'undone')")
	w.expect(0, 0)
}

func TestDB_WhatIsOpenTooLongIsRolledBackWhenSettleReturns(t *testing.T) {
	t.Parallel()
	w := newDBWorld(t)
	w.exec(w.db, "INSERT INTO t VALUES (1, 'before')")
	idle := w.begin()
	w.exec(idle, "UPDATE t SET v = 'after' WHERE id = 1")
	w.exec(idle, "INSERT INTO t WITH RECURSIVE n (i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n WHERE i < 1999) SELECT a.i * 1000 + b.i, '' FROM n a JOIN n b ON b.i < 1020")
	var id uint64
	if err := idle.QueryRowContext(t.Context(), "SELECT CONNECTION_ID()").Scan(&id); err != nil {
		t.Fatal(err)
	}
	slow, busy := make(chan error, 1), w.begin()
	go func() {
		_, err := busy.ExecContext(t.Context(), "INSERT INTO t SELECT 2, SLEEP(60)")
		slow <- err
	}()
	alone := make(chan error, 1)
	go func() {
		_, err := w.db.ExecContext(t.Context(), "DO SLEEP(60)")
		alone <- err
	}()
	reading, err := w.db.QueryContext(t.Context(), "SELECT 1 UNION SELECT 2")
	if err != nil || !reading.Next() {
		t.Fatal(err)
	}
	defer reading.Close()
	eventually(t, "all are under way", func() bool { return w.db.watch.transactions.Load() == 2 && w.db.watch.statements.Load() == 2 })
	began := time.Now()
	err = w.settle(time.Second)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	if !errors.Is(err, ErrCutOff) || !strings.Contains(err.Error(), "2 transactions rolled back, 2 statements cancelled") {
		t.Errorf("got %v", err)
	}
	var v string
	if err := w.plain.QueryRowContext(t.Context(), "SELECT v FROM t WHERE id = 1 FOR UPDATE NOWAIT").Scan(&v); err != nil || v != "before" {
		t.Errorf("%q, and the row may be locked still: %v", v, err)
	}
	for what, err := range map[string]error{"in a transaction": <-slow, "alone": <-alone, "commit": idle.Commit(), "commit after a failure": busy.Commit()} {
		if !errors.Is(err, ErrCutOff) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n := w.rows("v = 'before'"); n != 1 || w.rows("id > 1") != 0 {
		t.Error("something was committed after all")
	}
	if got := w.app.connections.read(); !slices.Contains(got[0].IDs, id) {
		t.Errorf("the connection %d is not reported any more, and the server may not know yet: %v", id, got)
	}
	for _, id := range w.app.connections.read()[0].IDs { // as the coordinator's leader does; by itself the server looks after SLEEP for 5 s
		_, _ = w.plain.ExecContext(t.Context(), fmt.Sprintf("KILL CONNECTION %d", id))
	}
	_ = reading.Close()
	w.expect(0, 0)
	eventually(t, "no connection is in use", func() bool { return w.db.Stats().InUse == 0 })
}

func TestDB_DrainThatIsUndoneLeavesOpenTransactionsAlone(t *testing.T) {
	t.Parallel()
	w := newDBWorld(t)
	tx := w.begin()
	w.exec(tx, "INSERT INTO t VALUES (1, 'undone')")
	ctx, undo := context.WithCancelCause(t.Context())
	limited, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	settled := make(chan error, 1)
	go func() { settled <- w.db.watch.settle(limited) }()
	eventually(t, "closing", func() bool { return w.db.watch.closing.Load() })
	undo(ErrStopping)
	<-settled
	_ = w.db.watch.reopen(t.Context())
	if err := tx.Commit(); err != nil || w.rows("v = 'undone'") != 1 {
		t.Errorf("the commit of what was open: %v", err)
	}
	w.exec(w.db, "INSERT INTO t VALUES (2, 'undone')")
}

// Whatever the moment of the cut: what was acknowledged is there, and what was refused is not.
func TestDB_CommitThatRacesWithTheCutTellsTheTruth(t *testing.T) {
	t.Parallel()
	w := newDBWorld(t)
	const rounds, at = 25, dbConnectionsMax
	var committed, refused int
	for round := range rounds {
		var all sync.WaitGroup
		outcomes := make([]error, at)
		ready := make(chan struct{}, at)
		for i := range at {
			all.Go(func() {
				tx, err := w.db.BeginTx(t.Context(), nil)
				if err == nil {
					_, err = tx.ExecContext(t.Context(), "INSERT INTO t VALUES (?, 'race')", round*at+i)
				}
				ready <- struct{}{}
				if err != nil {
					outcomes[i] = err
					return
				}
				pauseFor(time.Duration(i) * 100 * time.Microsecond)
				outcomes[i] = tx.Commit()
				_ = tx.Rollback()
			})
		}
		for range at {
			<-ready
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_ = w.db.watch.cut(ctx)
		cancel()
		all.Wait()
		for i, err := range outcomes {
			there := w.rows("id = ?", round*at+i) == 1
			switch {
			case err == nil && !there:
				t.Errorf("an acknowledged commit is gone")
			case errors.Is(err, ErrCutOff) && there:
				t.Errorf("a refused commit is there")
			case err != nil && !errors.Is(err, ErrCutOff):
				t.Errorf("%v", err)
			}
			if err == nil {
				committed++
			} else {
				refused++
			}
		}
	}
	t.Logf("%d committed, %d cut", committed, refused)
	if committed == 0 || refused == 0 {
		t.Errorf("%d committed, %d cut: there was no race", committed, refused)
	}
	w.expect(0, 0)
}

func pauseFor(d time.Duration) {
	<-time.After(d)
}

func TestDB_TxRollsBackOnErrorPanicAndTheEndOfItsContext(t *testing.T) {
	t.Parallel()
	w := newDBWorld(t)
	insert := func(tx *sql.Tx, id int) { w.exec(tx, "INSERT INTO t VALUES (?, 'tx')", id) }
	wrong := errors.New("on purpose")
	if err := w.db.Tx(t.Context(), func(tx *sql.Tx) error { insert(tx, 1); return wrong }); err != wrong {
		t.Errorf("error: %v", err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = w.db.Tx(t.Context(), func(tx *sql.Tx) error { insert(tx, 2); panic("on purpose") })
	}()
	ctx, cancel := context.WithCancel(t.Context())
	if err := w.db.Tx(ctx, func(tx *sql.Tx) error { insert(tx, 3); cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("end of the context: %v", err)
	}
	if err := w.db.Tx(t.Context(), func(tx *sql.Tx) error { insert(tx, 4); return nil }); err != nil {
		t.Errorf("success: %v", err)
	}
	eventually(t, "all have ended", func() bool { return w.db.watch.open() == 0 && w.db.Stats().InUse == 0 })
	if n := w.rows("id < 4"); n != 0 || w.rows("id = 4") != 1 {
		t.Errorf("%d of 3 that failed are there", n)
	}
}

func TestDB_KilledConnectionIsCountedOutAndReplaced(t *testing.T) {
	t.Parallel()
	w := newDBWorld(t)
	err := w.db.Tx(t.Context(), func(tx *sql.Tx) error {
		var id uint64
		if err := tx.QueryRowContext(t.Context(), "SELECT CONNECTION_ID()").Scan(&id); err != nil {
			return err
		}
		w.exec(tx, "INSERT INTO t VALUES (1, 'killed')")
		w.exec(w.plain, fmt.Sprintf("KILL CONNECTION %d", id))
		_, err := tx.ExecContext(t.Context(), "INSERT INTO t VALUES (2, 'killed')")
		return err
	})
	if err == nil {
		t.Error("committed over a killed connection")
	}
	w.expect(0, 0)
	w.exec(w.db, "INSERT INTO t VALUES (3, 'next')")
	eventually(t, "the row is rolled back", func() bool { return w.rows("v = 'killed'") == 0 })
	if n := len(w.db.watch.ids()); n != 1 {
		t.Errorf("%d connections are reported", n)
	}
}

func TestDB_ThousandAtOnceWhileTheInstanceStops(t *testing.T) {
	t.Parallel()
	w := newDBWorld(t)
	var all sync.WaitGroup
	var committed, refused atomic.Int64
	for i := range 1_000 {
		all.Go(func() {
			err := w.db.Tx(t.Context(), func(tx *sql.Tx) error {
				_, err := tx.ExecContext(t.Context(), "INSERT INTO t VALUES (?, 'many')", i)
				return err
			})
			switch {
			case err == nil:
				committed.Add(1)
			case errors.Is(err, ErrStopping):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	eventually(t, "some are through", func() bool { return committed.Load() > 20 })
	if err := w.settle(20 * time.Second); err != nil {
		t.Error(err)
	}
	before := w.rows("v = 'many'")
	all.Wait()
	if n := w.rows("v = 'many'"); n != before || int64(n) != committed.Load() || committed.Load()+refused.Load() != 1_000 || refused.Load() == 0 {
		t.Errorf("%d rows when settled, %d now, %d committed, %d refused", before, n, committed.Load(), refused.Load())
	}
	w.expect(0, 0)
}

// As with the gate: the window between counting and looking is where the wrong order would show none while a transaction begins.
func TestDB_NothingOpenMeansThatNothingBegins(t *testing.T) {
	t.Parallel()
	const rounds = 2_000
	watches := make([]*dbWatch, rounds)
	for i := range watches {
		watches[i] = &dbWatch{name: "x"}
	}
	wrong := falseDrains(rounds,
		func(round int, yield func()) bool {
			watches[round].yield = yield
			return watches[round].enter(t.Context(), &watches[round].transactions) == nil
		},
		func(round int) bool {
			watches[round].closing.Store(true)
			return watches[round].open() == 0
		})
	if wrong != 0 {
		t.Errorf("%d of %d saw nothing open while a transaction began", wrong, rounds)
	}
}

func TestDB_RetryOnceIsForWhatTheCallerNames(t *testing.T) {
	t.Parallel()
	w := newDBWorld(t)
	w.exec(w.db, "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
	deadlock := RetryOnce(func(err error) bool {
		var refused *mysql.MySQLError
		return errors.As(err, &refused) && refused.Number == errDeadlock
	})
	var met sync.WaitGroup
	met.Add(2)
	var tries atomic.Int64
	var all sync.WaitGroup
	for _, order := range [][2]int{{1, 2}, {2, 1}} {
		all.Go(func() {
			first := true
			err := w.db.Tx(t.Context(), func(tx *sql.Tx) error {
				tries.Add(1)
				for i, id := range order {
					if _, err := tx.ExecContext(t.Context(), "UPDATE t SET v = CONCAT(v, '+') WHERE id = ?", id); err != nil {
						return err
					}
					if i == 0 && first {
						first = false
						met.Done()
						met.Wait()
					}
				}
				return nil
			}, deadlock)
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := tries.Load(); n != 3 || w.rows("v IN ('a++', 'b++')") != 2 {
		t.Errorf("%d tries for 2 transactions with a deadlock", n)
	}
	tries.Store(0)
	wrong := errors.New("on purpose")
	if err := w.db.Tx(t.Context(), func(*sql.Tx) error { tries.Add(1); return wrong }, deadlock); err != wrong || tries.Load() != 1 {
		t.Errorf("%v after %d tries", err, tries.Load())
	}
	always := RetryOnce(func(error) bool { return true })
	tries.Store(0)
	if err := w.db.Tx(t.Context(), func(*sql.Tx) error { tries.Add(1); return wrong }, always); err != wrong || tries.Load() != 2 {
		t.Errorf("%v after %d tries", err, tries.Load())
	}
}

// The control shows what sql.DB.Close does by itself: it returns at once, and what was open is committed afterwards.
func TestDB_CloseWaitsForWhatIsInUseAndThenCutsIt(t *testing.T) {
	t.Parallel()
	w := newDBWorld(t)
	control := sql.OpenDB(mysqlConnector(t, w.dsn))
	left, err := control.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	w.exec(left, "INSERT INTO t VALUES (1, 'control')")
	if err := control.Close(); err != nil || control.Stats().InUse != 1 {
		t.Errorf("the control: %v with %d in use", err, control.Stats().InUse)
	}
	if err := left.Commit(); err != nil || w.rows("v = 'control'") != 1 {
		t.Errorf("the control does not show the mistake: %v", err)
	}

	tx := w.begin()
	w.exec(tx, "INSERT INTO t VALUES (2, 'waited for')")
	closed := make(chan error, 1)
	end := func(limit time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		return w.db.watch.end(ctx, w.db.DB)
	}
	late := w.begin()
	w.exec(late, "INSERT INTO t VALUES (3, 'too late')")
	go func() { closed <- end(time.Second) }()
	eventually(t, "closing", func() bool { return w.db.watch.closing.Load() })
	if err := tx.Commit(); err != nil {
		t.Errorf("what ends in time: %v", err)
	}
	if err := <-closed; !errors.Is(err, ErrCutOff) || !strings.Contains(err.Error(), "closed with 1 connections in use") {
		t.Errorf("got %v", err)
	}
	if err := late.Commit(); !errors.Is(err, ErrCutOff) {
		t.Errorf("a commit after the close: %v", err)
	}
	if w.rows("v = 'waited for'") != 1 || w.rows("v = 'too late'") != 0 {
		t.Error("the wrong one is there")
	}
	if err := end(time.Second); err != nil {
		t.Errorf("the second close: %v", err)
	}
}

func TestDB_AdoptedPoolIsWaitedForAndClosed(t *testing.T) {
	t.Parallel()
	w := newDBWorld(t)
	pool := sql.OpenDB(mysqlConnector(t, w.dsn))
	defer pool.Close()
	if err := w.app.AdoptDB(pool, "reports"); err != nil {
		t.Fatal(err)
	}
	phase := func(p Phase, limit time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		for _, task := range w.app.tasks.begin(p) {
			if task.name == "database reports" {
				_, err := task.run(ctx)
				return err
			}
		}
		return errors.New("no such task")
	}
	tx, err := pool.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := phase(PhaseTransactions, 20*time.Millisecond); err == nil || !strings.Contains(err.Error(), "1 connections in use") {
		t.Errorf("with an open transaction: %v", err)
	}
	if err := tx.Commit(); err != nil {
		t.Error(err)
	}
	if err := errors.Join(phase(PhaseTransactions, 5*time.Second), phase(PhaseClose, 5*time.Second)); err != nil {
		t.Error(err)
	}
	if err := pool.PingContext(t.Context()); err == nil {
		t.Error("the pool is open")
	}
}

func TestDB_RefusesASourceThatTheCoordinatorWould(t *testing.T) {
	t.Parallel()
	if _, err := newGateApp(t).OpenDB(dsnConnector{}, "Main Server"); !errors.Is(err, ErrConfig) {
		t.Errorf("got %v", err)
	}
	if _, err := newGateApp(t).OpenDSN("nobody", "", "main"); err == nil {
		t.Error("opened with a driver that nobody has registered")
	}
}
