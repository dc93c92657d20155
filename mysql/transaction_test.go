package mysql_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/quiescehq/quiesce/cluster_test/services"
	"github.com/quiescehq/quiesce/mysql"
)

const patience = 60 * time.Second

// server is one that nobody else reads INNODB_TRX of: its cache is the whole server's.
type server struct {
	testing.TB
	dsn string
	db  *sql.DB
}

func newServer(t testing.TB) (server, *services.Instance) {
	t.Helper()
	own := services.Own(t)
	s := server{TB: t, dsn: own.MySQLDSN, db: openDB(t, own.MySQLDSN)}
	s.exec(s.db, "CREATE TABLE ledger (id BIGINT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(100) NOT NULL)")
	return s, own
}

func openDB(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

type executor interface {
	ExecContext(ctx context.Context, statement string, args ...any) (sql.Result, error)
}

func (s server) exec(on executor, statements ...string) {
	s.Helper()
	for _, statement := range statements {
		if _, err := on.ExecContext(s.Context(), statement); err != nil {
			s.Fatalf("%.80s: %v", statement, err)
		}
	}
}

func (s server) count() (n int) {
	s.Helper()
	if err := s.db.QueryRowContext(s.Context(), "SELECT COUNT(*) FROM ledger").Scan(&n); err != nil {
		s.Fatal(err)
	}
	return n
}

// account makes a user with these global privileges and all of its database.
func (s server) account(name, privileges string) string {
	s.Helper()
	cfg, err := driver.ParseDSN(s.dsn)
	if err != nil {
		s.Fatal(err)
	}
	s.exec(s.db, fmt.Sprintf("CREATE USER %s@'%%' IDENTIFIED BY 'pw'", name), fmt.Sprintf("GRANT ALL ON %s.* TO %s@'%%'", cfg.DBName, name))
	if privileges != "" {
		s.exec(s.db, fmt.Sprintf("GRANT %s ON *.* TO %s@'%%'", privileges, name))
	}
	cfg.User, cfg.Passwd = name, "pw"
	return cfg.FormatDSN()
}

func (s server) reader(dsn string) *mysql.TransactionReader {
	s.Helper()
	reader, err := mysql.OpenTransactions(mysql.Config{Name: "shop", DSN: dsn})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = reader.Close() })
	return reader
}

// client is a connection of an application.
type client struct {
	*sql.Conn
	thread uint64
}

func (s server) client(dsn string) client {
	s.Helper()
	conn, err := openDB(s, dsn).Conn(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	c := client{Conn: conn}
	if err := conn.QueryRowContext(s.Context(), "SELECT CONNECTION_ID()").Scan(&c.thread); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = conn.Close() })
	return c
}

// until reads until the thread's transaction satisfies the condition; nil stands for none.
func (s server) until(reader *mysql.TransactionReader, thread uint64, what string, ok func(*mysql.Transaction) bool) (mysql.Reading, *mysql.Transaction) {
	s.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		reading, err := reader.Read(s.Context(), 0)
		if err != nil {
			s.Fatal(err)
		}
		var found *mysql.Transaction
		if at := slices.IndexFunc(reading.Transactions, func(t mysql.Transaction) bool { return t.Thread == thread }); at >= 0 {
			found = &reading.Transactions[at]
		}
		if ok(found) {
			return reading, found
		}
	}
	s.Fatalf("never %s", what)
	return mysql.Reading{}, nil
}

func present(t *mysql.Transaction) bool { return t != nil }

// seen looks a client's transaction up, with its connection.
func (s server) seen(reader *mysql.TransactionReader, c client, ok func(*mysql.Transaction) bool) (mysql.Reading, mysql.Seen) {
	s.Helper()
	reading, found := s.until(reader, c.thread, "seen", ok)
	processes, err := reader.Processes(s.Context(), []uint64{c.thread})
	if err != nil {
		s.Fatal(err)
	}
	return reading, mysql.Seen{Transaction: *found, Process: processes[c.thread]}
}

func (s server) kill(reader *mysql.TransactionReader, in mysql.Reading, seen ...mysql.Seen) []mysql.KillOutcome {
	s.Helper()
	outcomes, err := reader.Kill(s.Context(), in, seen)
	if err != nil {
		s.Fatal(err)
	}
	return outcomes
}

func TestKill_IdleTransactionIsUndoneAndOthersAreUntouched(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t)
	reader := s.reader(s.dsn)
	idle, other := s.client(s.dsn), s.client(s.account("other", ""))
	s.exec(idle, "BEGIN", "INSERT INTO ledger (v) VALUES ('lost')")
	s.exec(other, "BEGIN", "INSERT INTO ledger (v) VALUES ('kept')")
	in, seen := s.seen(reader, idle, present)
	if seen.Command != "Sleep" || seen.RowsModified != 1 || seen.User == "" || !strings.Contains(seen.Host, ":") || in.Life.Server == "" || in.Life.StartedAt == 0 {
		t.Errorf("seen %+v of %+v", seen, in.Life)
	}
	if got := s.kill(reader, in, seen); got[0] != mysql.KillDone {
		t.Fatalf("Kill = %v", got)
	}
	s.until(reader, idle.thread, "gone", func(t *mysql.Transaction) bool { return t == nil })
	if _, err := idle.ExecContext(t.Context(), "COMMIT"); err == nil {
		t.Error("the killed connection could still commit")
	}
	s.exec(other, "COMMIT")
	if got := s.count(); got != 1 {
		t.Errorf("%d rows, want the other's alone", got)
	}
}

func TestKill_RunningStatementIsEndedAndShownWithoutLiterals(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t)
	reader := s.reader(s.dsn)
	busy := s.client(s.dsn)
	s.exec(s.db, "INSERT INTO ledger (v) VALUES ('before')")
	failed := make(chan error, 1)
	go func() {
		_, err := busy.ExecContext(context.Background(), "INSERT INTO ledger (v) SELECT CONCAT('secret', SLEEP(60)) FROM ledger")
		failed <- err
	}()
	in, seen := s.seen(reader, busy, func(t *mysql.Transaction) bool { return t != nil && t.Statement != "" })
	if want := "INSERT INTO ledger (v) SELECT CONCAT(?, SLEEP(?)) FROM ledger"; seen.Statement != want {
		t.Errorf("statement %q, want %q", seen.Statement, want)
	}
	if got := s.kill(reader, in, seen); got[0] != mysql.KillDone {
		t.Fatalf("Kill = %v", got)
	}
	if err := <-failed; err == nil {
		t.Error("the statement came to its end")
	}
	if got := s.count(); got != 1 {
		t.Errorf("%d rows", got)
	}
}

func TestKill_RollbackIsSeenToItsEnd(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t)
	reader := s.reader(s.dsn)
	big := s.client(s.dsn)
	const rows = 200_000
	s.exec(big, "BEGIN", fmt.Sprintf("INSERT INTO ledger (v) SELECT REPEAT('x', 50) FROM (%s) AS n", numbers(rows)))
	in, seen := s.seen(reader, big, func(t *mysql.Transaction) bool { return t != nil && t.RowsModified == rows })
	if got := s.kill(reader, in, seen); got[0] != mysql.KillDone {
		t.Fatalf("Kill = %v", got)
	}
	left, rolling := uint64(rows), 0
	s.until(reader, big.thread, "undone", func(t *mysql.Transaction) bool {
		if t == nil {
			return true
		}
		if t.State == mysql.StateRollingBack {
			rolling++
			if t.RowsModified > left {
				s.Errorf("%d rows left after %d", t.RowsModified, left)
			}
			left = t.RowsModified
		}
		return false
	})
	if rolling == 0 || left == rows {
		t.Errorf("the rollback was seen %d times, down to %d rows", rolling, left)
	}
	if got := s.count(); got != 0 {
		t.Errorf("%d rows", got)
	}
}

// numbers is a table of n numbers that both flavours understand.
func numbers(n int) string {
	digits := "(SELECT 0 d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)"
	var tables []string
	for i := range 6 {
		tables = append(tables, fmt.Sprintf("%s t%d", digits, i))
	}
	return "SELECT t0.d FROM " + strings.Join(tables, ", ") + fmt.Sprintf(" LIMIT %d", n)
}

// The negative control: this is why connections are ended and not statements.
func TestKill_QueryAloneLeavesTheTransactionToBeCommitted(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t)
	reader := s.reader(s.dsn)
	c := s.client(s.dsn)
	s.exec(c, "BEGIN", "INSERT INTO ledger (v) VALUES ('committed all the same')")
	s.until(reader, c.thread, "seen", present)
	s.exec(s.db, fmt.Sprintf("KILL QUERY %d", c.thread))
	s.until(reader, c.thread, "seen", present)
	_, _ = c.ExecContext(t.Context(), "DO 1") // takes the kill, if it waited for a statement
	s.exec(c, "COMMIT")
	if got := s.count(); got != 1 {
		t.Errorf("%d rows: KILL QUERY would have been enough", got)
	}
}

func TestKill_WhatIsAnotherTransactionNowIsLeftAlone(t *testing.T) {
	t.Parallel()
	s, own := newServer(t)
	reader := s.reader(s.dsn)
	c, done := s.client(s.dsn), s.client(s.dsn)
	s.exec(c, "BEGIN", "INSERT INTO ledger (v) VALUES ('a')")
	s.exec(done, "BEGIN", "INSERT INTO ledger (v) VALUES ('b')")
	in, seen := s.seen(reader, c, present)
	_, over := s.seen(reader, done, present)
	s.exec(c, "COMMIT", "BEGIN", "INSERT INTO ledger (v) VALUES ('c')")
	s.exec(done, "COMMIT")
	// The same, but of another account or from another port: a connection that got the id of the one that was seen.
	_, now := s.seen(reader, c, present)
	account, port := now, now
	account.User, port.Host = "somebody", "10.0.0.1:1"
	got := s.kill(reader, in, seen, over, account, port)
	if want := []mysql.KillOutcome{mysql.KillChanged, mysql.KillOver, mysql.KillChanged, mysql.KillChanged}; !slices.Equal(got, want) {
		t.Errorf("Kill = %q, want %q", got, want)
	}
	if got := s.kill(reader, mysql.Reading{Life: in.Life, Connection: in.Connection - 1}, now); got[0] != mysql.KillChanged {
		t.Errorf("Kill of what was seen on another connection = %v", got)
	}
	s.exec(c, "COMMIT")
	if got := s.count(); got != 3 {
		t.Errorf("%d rows, want 3", got)
	}

	// After a restart of the server its ids begin anew, and a stranger has the one that was seen.
	s.exec(c, "BEGIN", "INSERT INTO ledger (v) VALUES ('undone by the restart')")
	in, seen = s.seen(reader, c, present)
	own.KillMySQL()
	own.StartMySQL()
	var stranger client
	for stranger.thread < seen.Thread {
		stranger = s.client(s.dsn)
	}
	if stranger.thread != seen.Thread {
		t.Fatalf("thread %d is taken", seen.Thread)
	}
	s.exec(stranger, "BEGIN", "INSERT INTO ledger (v) VALUES ('of a stranger')")
	if got, err := reader.Kill(t.Context(), in, []mysql.Seen{seen}); !errors.Is(err, mysql.ErrUnreachable) || got[0] != "" {
		t.Errorf("Kill on the connection of before = %q, %v", got, err)
	}
	if got := s.kill(reader, in, seen); got[0] != mysql.KillChanged {
		t.Errorf("Kill over a restart = %v", got)
	}
	s.exec(stranger, "COMMIT")
}

// Somebody who reads INNODB_TRX all the time keeps its cache as it is: then nothing proves that what was seen still is.
func TestKill_NothingIsEndedWhileOtherReadersFreezeTheCache(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t)
	reader := s.reader(s.dsn)
	c := s.client(s.dsn)
	s.exec(c, "BEGIN", "INSERT INTO ledger (v) VALUES ('kept')")
	in, seen := s.seen(reader, c, present)
	thaw := s.freeze()
	for range 2 {
		if got := s.kill(reader, in, seen); got[0] != mysql.KillUnsure {
			t.Errorf("Kill = %v", got)
		}
	}
	thaw()
	gone := seen
	gone.Thread = 4_000_000
	if got := s.kill(reader, in, gone); got[0] != mysql.KillOver {
		t.Errorf("Kill of nothing = %v", got)
	}
	thaw = s.freeze() // at once: what the reader began as a proof the last time is still in there
	if got := s.kill(reader, in, seen); got[0] != mysql.KillUnsure {
		t.Errorf("Kill = %v, by the proof of the time before", got)
	}
	thaw()
	if got := s.kill(reader, in, seen); got[0] != mysql.KillDone {
		t.Errorf("Kill = %v once nobody else reads", got)
	}
}

// freeze reads INNODB_TRX all the time, until the returned function is called.
func (s server) freeze() (thaw func()) {
	ctx, cancel := context.WithCancel(s.Context())
	frozen, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for n := 0; ctx.Err() == nil; n++ {
			_, _ = s.db.ExecContext(ctx, "DO (SELECT COUNT(*) FROM information_schema.INNODB_TRX)")
			if n == 0 {
				close(frozen)
			}
		}
	}()
	<-frozen
	return func() { cancel(); <-ended }
}

func TestTransactions_MissingPrivilegesAreNamed(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t)
	watch, blind := s.account("watch", "PROCESS"), s.account("blind", "")
	if _, err := s.reader(blind).Read(t.Context(), 0); !errors.Is(err, mysql.ErrLacksProcess) || !errors.Is(err, mysql.ErrDenied) {
		t.Errorf("without PROCESS: %v", err)
	}
	reader := s.reader(watch)
	foreign, same := s.client(s.dsn), s.client(watch)
	s.exec(foreign, "BEGIN", "INSERT INTO ledger (v) VALUES ('kept')")
	s.exec(same, "BEGIN", "INSERT INTO ledger (v) VALUES ('lost')")
	in, first := s.seen(reader, foreign, present)
	_, second := s.seen(reader, same, present)
	if may, known, err := reader.MayKill(t.Context()); may || !known || err != nil {
		t.Errorf("MayKill = %v, %v, %v", may, known, err)
	}
	if got := s.kill(reader, in, first, second); got[0] != mysql.KillDenied || got[1] != mysql.KillDone {
		t.Errorf("Kill = %q: another account's needs CONNECTION ADMIN, one's own nothing", got)
	}
	s.exec(foreign, "COMMIT")
	full := s.reader(s.account("full", killPrivileges(s)))
	if _, err := full.Read(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if may, known, err := full.MayKill(t.Context()); !may || !known || err != nil {
		t.Errorf("MayKill with the privilege = %v, %v, %v", may, known, err)
	}
}

func killPrivileges(s server) string {
	var version string
	if err := s.db.QueryRowContext(s.Context(), "SELECT @@version").Scan(&version); err != nil {
		s.Fatal(err)
	}
	if strings.Contains(version, "MariaDB") {
		return "PROCESS, CONNECTION ADMIN"
	}
	return "PROCESS, CONNECTION_ADMIN"
}

func TestTransactions_ReadingsAreApartAndSurviveTheServer(t *testing.T) {
	t.Parallel()
	s, own := newServer(t)
	reader := s.reader(s.dsn)
	first, err := reader.Read(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := reader.Read(t.Context(), 0); err != nil || time.Since(began) < mysql.TransactionReadsEvery {
		t.Errorf("read again after %v: %v", time.Since(began), err)
	}
	own.KillMySQL()
	if _, err := reader.Read(t.Context(), 0); !errors.Is(err, mysql.ErrUnreachable) {
		t.Errorf("Read of a dead server = %v", err)
	}
	own.StartMySQL()
	second, err := reader.Read(t.Context(), 0)
	if err != nil || second.Connection == first.Connection || second.Uptime > patience {
		t.Errorf("after the restart %+v, %v; before %+v", second, err, first)
	}
}

func TestTransactions_StatementsComeOnlyWithOldOnes(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t)
	reader := s.reader(s.dsn)
	busy := s.client(s.dsn)
	s.exec(s.db, "INSERT INTO ledger (v) VALUES ('before')")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = busy.ExecContext(ctx, "INSERT INTO ledger (v) SELECT SLEEP(60) FROM ledger")
	}()
	s.until(reader, busy.thread, "seen", present)
	reading, err := reader.Read(t.Context(), time.Hour)
	if err != nil || len(reading.Transactions) != 1 || reading.Transactions[0].Statement != "" {
		t.Errorf("%+v, %v", reading, err)
	}
	cancel()
	<-ended
}
