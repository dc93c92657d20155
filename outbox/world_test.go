package outbox_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/cluster_test/services"
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
	"github.com/quiescehq/quiesce/outbox"
	"github.com/quiescehq/quiesce/rediscache"
)

const (
	mappingName = "items"
	sourceName  = "main"
	targetName  = "cache"

	settleTimeout = 30 * time.Second // of the slowest machine; a test that is right ends at once
	pollInterval  = 5 * time.Millisecond
)

// world is one table in a real MySQL, one Redis, and a log.
type world struct {
	log    *memoryLog
	db     *sql.DB
	addr   string // of Redis
	source *mysql.Source
	target *rediscache.Target
	prefix string
	cfg    outbox.Config
	places outbox.Places
}

func shared(t testing.TB) *world {
	t.Helper()
	place := services.Require(t)
	return newWorld(t, place.MySQLDSN, place.RedisAddr, place.Prefix, 0)
}

func owned(t testing.TB) (*world, *services.Instance) {
	t.Helper()
	instance := services.Own(t)
	return newWorld(t, instance.MySQLDSN, instance.RedisAddr, "own:", 0), instance
}

func newWorld(t testing.TB, dsn, redisAddr, prefix string, deadline time.Duration) *world {
	t.Helper()
	w := &world{log: newLog(t), addr: redisAddr, prefix: prefix, cfg: outbox.Default()}
	w.cfg.BreakerOpen = 100 * time.Millisecond
	var err error
	if w.db, err = sql.Open("mysql", dsn); err != nil {
		t.Fatal(err)
	}
	w.db.SetMaxOpenConns(8)
	t.Cleanup(func() { closeAll(t, w.db.Close) })
	if w.source, err = mysql.Open(mysql.Config{Name: sourceName, DSN: dsn, ConnectionsMax: 4}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(t, w.source.Close) })
	if w.target, err = rediscache.Open(rediscache.Config{Name: targetName, Addr: redisAddr, Deadline: deadline}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(t, w.target.Close) })
	w.places = outbox.Places{
		Sources: map[string]outbox.Source{sourceName: w.source},
		Targets: map[string]outbox.Target{targetName: outbox.Redis(w.target)},
	}
	w.exec(t, "CREATE TABLE items (id BIGINT PRIMARY KEY, v VARCHAR(100) NOT NULL, n INT NOT NULL)")
	w.putMapping(t, mappingName, w.spec())
	return w
}

func closeAll(t testing.TB, closers ...func() error) {
	for _, closer := range closers {
		if err := closer(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

func (w *world) spec() mapping.Spec {
	return mapping.Spec{Source: sourceName, Table: "items", PrimaryKey: []string{"id"}, Columns: []mapping.ColumnSpec{{Name: "id"}, {Name: "v"}, {Name: "n"}},
		Target: targetName, Key: w.prefix + "item:{id}", Mode: mapping.WriteThrough, Encoding: mapping.JSON}
}

func (w *world) putMapping(t testing.TB, name string, spec mapping.Spec) {
	t.Helper()
	columns, err := w.source.Columns(t.Context(), spec.Table)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mapping.Compile(spec, 1, columns); err != nil {
		t.Fatal(err)
	}
	w.log.must(t, fsm.PutMapping{Name: name, Source: spec.Source, Target: spec.Target, Table: spec.Table, Spec: asJSON(t, spec), Columns: asJSON(t, columns)})
}

func asJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (w *world) exec(t testing.TB, statement string, args ...any) {
	t.Helper()
	if _, err := w.db.ExecContext(context.Background(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// write commits a row, as an application does before it enqueues.
func (w *world) write(t testing.TB, id int, v string) {
	t.Helper()
	w.exec(t, "INSERT INTO items (id, v, n) VALUES (?, ?, 1) ON DUPLICATE KEY UPDATE v = VALUES(v), n = n + 1", id, v)
}

func row(id int) fsm.RowRef {
	return fsm.RowRef{Mapping: mappingName, PK: mapping.EncodeKey([]string{strconv.Itoa(id)})}
}

func rows(from, to int) []fsm.RowRef {
	var refs []fsm.RowRef
	for id := from; id < to; id++ {
		refs = append(refs, row(id))
	}
	return refs
}

func (w *world) enqueue(t testing.TB, refs ...fsm.RowRef) []fsm.EventToken {
	t.Helper()
	return w.log.must(t, fsm.EnqueueEvents{Events: refs}).Outbox.Tokens
}

func (w *world) fill(t testing.TB, count int) {
	t.Helper()
	for from := 1; from <= count; from += 500 {
		var values []string
		for id := from; id < min(from+500, count+1); id++ {
			values = append(values, fmt.Sprintf("(%d, 'value %d', 1)", id, id))
		}
		w.exec(t, "INSERT INTO items (id, v, n) VALUES "+strings.Join(values, ","))
	}
}

func (w *world) enqueueAll(t testing.TB, count int) {
	t.Helper()
	for from := 1; from <= count; from += fsm.EventsBatchMax {
		w.enqueue(t, rows(from, min(from+fsm.EventsBatchMax, count+1))...)
	}
}

func (w *world) task(t testing.TB) *outbox.Task {
	t.Helper()
	task, err := outbox.New(w.cfg, w.log, w.places, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return task
}

// lead runs the task until the test ends or resign is called.
func lead(t testing.TB, task *outbox.Task) (resign func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- task.Run(ctx) }()
	ended := false
	resign = func() {
		cancel()
		if ended {
			return
		}
		ended = true
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(resign)
	return resign
}

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(settleTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline.C:
			t.Fatalf("still not so after %v: %s", settleTimeout, what)
		case <-tick.C:
		}
	}
}

func (w *world) drained(t testing.TB) {
	t.Helper()
	eventually(t, "no event is pending", func() bool { return w.log.pending(mappingName) == 0 })
}

func (w *world) key(id int) string   { return fmt.Sprintf("%sitem:%d", w.prefix, id) }
func (w *world) guard(id int) string { return mapping.GuardKey("qg:", w.key(id)) }

// cached is the key's value, empty when there is none.
func (w *world) cached(t testing.TB, id int) string {
	t.Helper()
	actual, err := w.target.Read(context.Background(), []rediscache.KeyRequest{{Key: w.key(id), Type: mapping.TypeString}})
	if err != nil {
		t.Fatal(err)
	}
	return string(actual[0].Value)
}

// guardToken is the token of the last write, 0 when there is none.
func (w *world) guardToken(t testing.TB, id int) uint64 {
	t.Helper()
	actual, err := w.target.Read(context.Background(), []rediscache.KeyRequest{{Key: w.guard(id), Type: mapping.TypeHash}})
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range actual[0].Fields {
		if field.Name == "t" {
			token, err := strconv.ParseUint(string(field.Value), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return token
		}
	}
	return 0
}

// differences lists the rows up to count whose cached value is not what the table says.
func (w *world) differences(t testing.TB, count int) []string {
	t.Helper()
	want := make(map[int]string, count)
	found, err := w.db.QueryContext(context.Background(), "SELECT id, v, n FROM items WHERE id <= ?", count)
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	for found.Next() {
		var id, n int
		var v string
		if err := found.Scan(&id, &v, &n); err != nil {
			t.Fatal(err)
		}
		want[id] = value(id, v, n)
	}
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	return w.compare(t, count, want)
}

func (w *world) compare(t testing.TB, count int, want map[int]string) (different []string) {
	t.Helper()
	for from := 1; from <= count; from += 1000 {
		var requests []rediscache.KeyRequest
		for id := from; id < min(from+1000, count+1); id++ {
			requests = append(requests, rediscache.KeyRequest{Key: w.key(id), Type: mapping.TypeString})
		}
		actual, err := w.target.Read(context.Background(), requests)
		if err != nil {
			t.Fatal(err)
		}
		for i := range actual {
			if id := from + i; !bytes.Equal(actual[i].Value, []byte(want[id])) {
				different = append(different, fmt.Sprintf("row %d: table %q, cache %q", id, want[id], actual[i].Value))
			}
		}
	}
	return different
}

func value(id int, v string, n int) string { return fmt.Sprintf(`{"id":%d,"v":%q,"n":%d}`, id, v, n) }

func (w *world) agree(t testing.TB, count int) {
	t.Helper()
	if different := w.differences(t, count); len(different) > 0 {
		t.Fatalf("%d of %d rows differ, the first: %s", len(different), count, different[0])
	}
}

// redis sends one inline command and returns the first line of the answer.
func (w *world) redis(t testing.TB, command string) string {
	t.Helper()
	conn, err := net.DialTimeout("tcp", w.addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // the answer was read
	if _, err := fmt.Fprintf(conn, "%s\r\n", command); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimRight(line, "\r\n")
}

// stepTarget lets a test act between the calls of a batch.
type stepTarget struct {
	outbox.Target
	beforeApply func(ctx context.Context, writes []rediscache.Guarded)
	afterApply  func(writes []rediscache.Guarded, outcomes []rediscache.Outcome, err error) error
}

func (s *stepTarget) Begin(ctx context.Context, keys []string) (outbox.Batch, error) {
	batch, err := s.Target.Begin(ctx, keys)
	if err != nil {
		return nil, err
	}
	return &stepBatch{Batch: batch, steps: s}, nil
}

type stepBatch struct {
	outbox.Batch
	steps *stepTarget
}

func (b *stepBatch) Apply(ctx context.Context, writes []rediscache.Guarded) ([]rediscache.Outcome, error) {
	if b.steps.beforeApply != nil {
		b.steps.beforeApply(ctx, writes)
	}
	outcomes, err := b.Batch.Apply(ctx, writes)
	if b.steps.afterApply != nil {
		err = b.steps.afterApply(writes, outcomes, err)
	}
	return outcomes, err
}

// steps puts a stepTarget before the world's target.
func (w *world) steps() *stepTarget {
	s := &stepTarget{Target: outbox.Redis(w.target)}
	w.places.Targets = map[string]outbox.Target{targetName: s}
	return s
}

// sourceFunc is a source made of a function.
type sourceFunc func(ctx context.Context, m *mapping.Mapping, pks [][]string) (map[string]*mapping.Row, error)

func (f sourceFunc) ReadRows(ctx context.Context, m *mapping.Mapping, pks [][]string) (map[string]*mapping.Row, error) {
	return f(ctx, m, pks)
}
