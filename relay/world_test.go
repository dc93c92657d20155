package relay_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"

	"github.com/quiescehq/quiesce/cluster_test/services"
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mysql"
	"github.com/quiescehq/quiesce/relay"
)

const (
	sourceName  = "main"
	mappingName = "items"

	settleTimeout = 60 * time.Second // of the slowest machine; a test that is right ends at once
	pollInterval  = 5 * time.Millisecond
)

// world is one schema in a real MySQL, and a log.
type world struct {
	*testing.T
	log    *memoryLog
	dsn    string
	db     *sql.DB
	source relay.Source
	cfg    relay.Config
	mapper relay.Mapper
	said   *safeBuffer
	task   *relay.Task
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := bareWorld(t)
	w.makeTables()
	return w
}

func bareWorld(t *testing.T) *world {
	t.Helper()
	return worldAt(t, services.Require(t).MySQLDSN)
}

func worldAt(t *testing.T, dsn string) *world {
	t.Helper()
	w := &world{T: t, dsn: dsn, log: newLog(t), cfg: relay.Default(), mapper: testMapper{}, said: &safeBuffer{}}
	w.cfg.RetryMin, w.cfg.RetryMax, w.cfg.FullWait = 10*time.Millisecond, 100*time.Millisecond, 10*time.Millisecond
	w.cfg.PurgeEvery = time.Hour // but for the tests of it
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(8)
	t.Cleanup(func() { db.Close() })
	w.db = db
	source, err := mysql.OpenOutbox(mysql.Config{Name: sourceName, DSN: dsn, QueryTimeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { source.Close() })
	w.source = source
	w.log.must(t, fsm.PutMapping{Name: mappingName, Source: sourceName, Target: "cache", Table: "items", Spec: []byte("{}"), Columns: []byte("[]")})
	return w
}

func (w *world) makeTables() {
	w.Helper()
	for _, statement := range mysql.OutboxTables {
		w.exec(statement)
	}
}

func (w *world) exec(statement string, args ...any) {
	w.Helper()
	if _, err := w.db.ExecContext(context.Background(), statement, args...); err != nil {
		w.Fatalf("%.100s: %v", statement, err)
	}
}

func (w *world) number(query string, args ...any) (n int) {
	w.Helper()
	if err := w.db.QueryRowContext(context.Background(), query, args...).Scan(&n); err != nil {
		w.Fatalf("%s: %v", query, err)
	}
	return n
}

func (w *world) rows() int { w.Helper(); return w.number("SELECT COUNT(*) FROM quiesce_outbox") }

// insert writes an outbox row as an application does.
func (w *world) insert(pk string) {
	w.Helper()
	w.exec("INSERT INTO quiesce_outbox (mapping, pk) VALUES (?, ?)", mappingName, pk)
}

// start runs a task until the returned function is called, or the test ends.
func (w *world) start() (stop func()) {
	w.Helper()
	logger := slog.New(slog.NewTextHandler(w.said, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if w.task == nil {
		task, err := relay.New(w.cfg, relay.Parts{Log: w.log, Mapper: w.mapper, Sources: map[string]relay.Source{sourceName: w.source}, Logger: logger})
		if err != nil {
			w.Fatal(err)
		}
		w.task = task
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.task.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.Errorf("Run: %v", err)
		}
	})
	w.Cleanup(stop)
	return stop
}

func (w *world) status() relay.Status { return w.task.Status()[0] }

// until waits for a condition.
func (w *world) until(what string, holds func() bool) {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), settleTimeout)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			w.Fatalf("not in time: %s; status %+v; log:\n%s", what, w.task.Status(), w.said)
		case <-ticker.C:
		}
	}
}

// testMapper takes an array of strings as it is. "wrong" is no key; null names nothing.
type testMapper struct{ broken bool }

func (m testMapper) Keys(_ context.Context, _ fsm.Mapping, row relay.Keys) ([]string, error) {
	if m.broken {
		return nil, fmt.Errorf("a codec of the future")
	}
	var out []string
	for _, key := range [][]json.RawMessage{row.Old, row.New, row.PK} {
		if len(key) == 0 {
			continue
		}
		parts := make([]string, len(key))
		for i, part := range key {
			parts[i] = string(part)
		}
		switch canonical := "[" + strings.Join(parts, ",") + "]"; {
		case strings.Contains(canonical, "wrong"):
			return nil, fmt.Errorf("%w: part 0 is wrong", relay.ErrKey)
		case strings.Contains(canonical, "null"):
			out = append(out, "")
		default:
			out = append(out, canonical)
		}
	}
	return out, nil
}

// safeBuffer is written by loggers and read by the test.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
