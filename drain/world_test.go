package drain

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/quiescehq/quiesce/cluster_test/services"
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mysql"
)

const (
	source   = "shop"
	patience = 60 * time.Second // of the slowest machine; a test that is right ends at once
)

// world is a server of the test's own, for all readers of INNODB_TRX share one cache, and a log.
type world struct {
	testing.TB
	own    *services.Instance
	db     *sql.DB
	log    *testLog
	config Config
	watch  Watch
	lines  *lines
	more   map[string]Source
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{TB: t, own: services.Own(t), log: newTestLog(t), config: Default(), watch: DefaultWatch(), lines: &lines{}, more: map[string]Source{}}
	w.config.RetryMin, w.config.RetryMax, w.config.PoolsSettle = 10*time.Millisecond, 100*time.Millisecond, time.Second
	w.watch.Every = mysql.TransactionReadsEvery
	w.db = w.open(w.own.MySQLDSN)
	w.exec(w.db, "CREATE TABLE ledger (id BIGINT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(100) NOT NULL)")
	w.old()
	return w
}

// old lets the cluster's time pass until the server counts as settled: it has only just been started.
func (w *world) old() {
	w.Helper()
	w.until("the server up for long enough", func() bool {
		var name string
		var uptime int64
		if err := w.db.QueryRowContext(w.Context(), "SHOW GLOBAL STATUS LIKE 'Uptime'").Scan(&name, &uptime); err != nil {
			w.Fatal(err)
		}
		return time.Duration(uptime)*time.Second > w.config.PoolsSettle
	})
}

func (w *world) open(dsn string) *sql.DB {
	w.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = db.Close() })
	return db
}

type executor interface {
	ExecContext(ctx context.Context, statement string, args ...any) (sql.Result, error)
}

func (w *world) exec(on executor, statements ...string) {
	w.Helper()
	for _, statement := range statements {
		if _, err := on.ExecContext(w.Context(), statement); err != nil {
			w.Fatalf("%.80s: %v", statement, err)
		}
	}
}

// account makes a user with these global privileges and the test's database.
func (w *world) account(name, privileges string) string {
	w.Helper()
	cfg, err := driver.ParseDSN(w.own.MySQLDSN)
	if err != nil {
		w.Fatal(err)
	}
	w.exec(w.db, fmt.Sprintf("CREATE USER %s@'%%' IDENTIFIED BY 'pw'", name), fmt.Sprintf("GRANT ALL ON %s.* TO %s@'%%'", cfg.DBName, name))
	if privileges != "" {
		w.exec(w.db, fmt.Sprintf("GRANT %s ON *.* TO %s@'%%'", privileges, name))
	}
	cfg.User, cfg.Passwd = name, "pw"
	return cfg.FormatDSN()
}

// client is a connection of an application, with an open transaction that has written a row.
type client struct {
	*sql.Conn
	thread uint64
}

func (w *world) client(dsn string) client {
	w.Helper()
	conn, err := w.open(dsn).Conn(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	c := client{Conn: conn}
	if err := conn.QueryRowContext(w.Context(), "SELECT CONNECTION_ID()").Scan(&c.thread); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = conn.Close() })
	w.exec(c, "BEGIN", "INSERT INTO ledger (v) VALUES ('x')")
	return c
}

// commits tells whether the client could still commit.
func (c client) commits(t testing.TB) bool {
	_, err := c.ExecContext(t.Context(), "COMMIT")
	return err == nil
}

func (w *world) reader(dsn string) Reader {
	w.Helper()
	reader, err := mysql.OpenTransactions(mysql.Config{Name: source, DSN: dsn, DialTimeout: time.Second})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = reader.Close() })
	return reader
}

func (w *world) task(dsn string) *Task {
	w.Helper()
	sources := map[string]Source{source: {Reader: w.reader(dsn), Watch: w.watch}}
	for name, s := range w.more {
		sources[name] = s
	}
	task, err := New(w.config, Parts{Log: w.log, Sources: sources, Logger: slog.New(slog.NewTextHandler(w.lines, nil))})
	if err != nil {
		w.Fatal(err)
	}
	return task
}

// lead runs a task until the test, or the caller, ends it, and waits until it has seen each source or failed to.
func (w *world) lead(task *Task) (resign func()) {
	w.Helper()
	resign = lead(w, task)
	w.until("the first reading", func() bool {
		sources := task.Status().Sources
		return len(sources) > 0 && !slices.ContainsFunc(sources, func(s SourceStatus) bool { return s.Detail == "not read yet" })
	})
	return resign
}

func lead(t testing.TB, task *Task) (resign func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- task.Run(ctx) }()
	var once sync.Once
	resign = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-done:
				if err != nil {
					t.Errorf("Run: %v", err)
				}
			case <-time.After(patience):
				t.Error("Run did not end with its context")
			}
		})
	}
	t.Cleanup(resign)
	return resign
}

func (w *world) until(what string, ok func() bool) { w.Helper(); until(w, what, ok) }

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		if ok() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

// adopted waits for the end of an adoption and gives what was done, as step: detail.
func (w *world) adopted(m member) string {
	w.Helper()
	w.until("adopted", func() bool {
		steps := w.log.steps(m)
		return len(steps) > 0 && steps[len(steps)-1].Step == fsm.AdoptDone
	})
	return w.told(m)
}

func (w *world) told(m member) string {
	var told []string
	for _, step := range w.log.steps(m) {
		told = append(told, step.Step+": "+step.Detail)
	}
	return strings.Join(told, " | ")
}

// shown finds a thread in the task's status.
func shown(task *Task, thread uint64) (Transaction, bool) {
	for _, t := range task.Status().Transactions {
		if t.Thread == thread {
			return t, true
		}
	}
	return Transaction{}, false
}

// lines is a log that can be asked.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

var _ io.Writer = (*lines)(nil)

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), part)
}
