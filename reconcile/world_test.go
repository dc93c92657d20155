package reconcile

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/cluster_test/services"
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
	"github.com/quiescehq/quiesce/rediscache"
)

const (
	passTimeout = 90 * time.Second
	idStep      = 3 // ids have gaps
	batchRows   = 500
)

// world is one table, its cache and a log: everything real but the cluster.
type world struct {
	t       testing.TB
	db      *sql.DB
	source  *mysql.Source
	target  *rediscache.Target
	cache   *cache
	log     *testLog
	memory  *memory
	mapping *mapping.Mapping
	config  Config
}

func newWorld(t testing.TB, rows int, change func(*mapping.Spec)) *world {
	t.Helper()
	return newWorldAt(t, services.Require(t), rows, change)
}

func newWorldAt(t testing.TB, place services.Services, rows int, change func(*mapping.Spec)) *world {
	t.Helper()
	w := &world{t: t, log: newTestLog(), memory: newMemory(), config: Default()}
	w.config.ChunkRowsStart, w.config.ChunkRowsMax = 500, 500
	w.config.CheckpointEvery, w.config.RetryMin, w.config.RetryMax = 10*time.Millisecond, time.Millisecond, 50*time.Millisecond
	w.open(place)
	w.exec("CREATE TABLE orders (id BIGINT UNSIGNED PRIMARY KEY, name VARCHAR(64) NOT NULL, total DECIMAL(10,2) NOT NULL, note VARCHAR(64))")
	w.insert(rows)
	spec := mapping.Spec{Source: "shop", Table: "orders", PrimaryKey: []string{"id"}, Target: "cache", Key: place.Prefix + "order:{id}",
		Mode: mapping.WriteThrough, Encoding: mapping.JSON, Columns: []mapping.ColumnSpec{{Name: "id"}, {Name: "name"}, {Name: "total"}, {Name: "note"}}}
	if change != nil {
		change(&spec)
	}
	w.put(spec)
	w.fill()
	return w
}

func (w *world) open(place services.Services) {
	w.t.Helper()
	var err error
	if w.db, err = sql.Open("mysql", place.MySQLDSN); err != nil {
		w.t.Fatal(err)
	}
	w.db.SetMaxOpenConns(8)
	if w.source, err = mysql.Open(mysql.Config{Name: "shop", DSN: place.MySQLDSN, QueryTimeout: 20 * time.Second}); err != nil {
		w.t.Fatal(err)
	}
	if w.target, err = rediscache.Open(rediscache.Config{Name: "cache", Addr: place.RedisAddr}); err != nil {
		w.t.Fatal(err)
	}
	w.cache = dialCache(w.t, place.RedisAddr)
	w.t.Cleanup(func() {
		_ = w.db.Close() // every statement's error was looked at
		_ = w.source.Close()
		_ = w.target.Close()
	})
}

func (w *world) exec(statement string, args ...any) {
	w.t.Helper()
	if _, err := w.db.Exec(statement, args...); err != nil {
		w.t.Fatalf("%.80s: %v", statement, err)
	}
}

func id(i int) int { return i*idStep + 1 }

func (w *world) insert(rows int) {
	w.t.Helper()
	for from := 0; from < rows; from += 5_000 {
		var b strings.Builder
		for i := from; i < min(rows, from+5_000); i++ {
			if i > from {
				b.WriteString(",")
			}
			note := "NULL"
			if i%2 == 0 {
				note = fmt.Sprintf("'note %06d'", i)
			}
			fmt.Fprintf(&b, "(%d,'customer %06d',%d.%02d,%s)", id(i), i, i%90_000, i%100, note)
		}
		w.exec("INSERT INTO orders VALUES " + b.String())
	}
}

// put declares the mapping in the log, as the API would.
func (w *world) put(spec mapping.Spec) {
	w.t.Helper()
	columns, err := w.source.Columns(context.Background(), spec.Table)
	if err != nil {
		w.t.Fatal(err)
	}
	specJSON, err := json.Marshal(spec)
	if err != nil {
		w.t.Fatal(err)
	}
	columnsJSON, err := json.Marshal(columns)
	if err != nil {
		w.t.Fatal(err)
	}
	r := w.log.must(w.t, fsm.PutMapping{Name: "orders", Source: spec.Source, Target: spec.Target, Table: spec.Table, Spec: specJSON, Columns: columnsJSON})
	if w.mapping, err = mapping.Compile(spec, r.Mapping.Revision, columns); err != nil {
		w.t.Fatal(err)
	}
}

// fill delivers the whole table.
func (w *world) fill() {
	w.t.Helper()
	var after []string
	for {
		rows, err := w.source.ReadChunk(context.Background(), w.mapping, after, 1_000)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(rows) == 0 {
			return
		}
		after = rows[len(rows)-1].PK
		for part := range slices.Chunk(rows, 500) {
			var guarded []rediscache.Guarded
			for i := range part {
				if part[i].Key == nil {
					continue // names no key
				}
				writes, err := w.mapping.AppendWrites(nil, part[i].Key, &part[i], 1)
				if err != nil {
					w.t.Fatal(err)
				}
				for _, write := range writes {
					guarded = append(guarded, rediscache.Guarded{Token: 1, Write: write})
				}
			}
			w.apply(guarded)
		}
	}
}

func (w *world) apply(guarded []rediscache.Guarded) {
	w.t.Helper()
	batch, err := w.target.Begin(context.Background(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	defer batch.Close()
	if _, err := batch.Apply(context.Background(), guarded); err != nil {
		w.t.Fatal(err)
	}
}

// deliver is an outbox reduced to its order of steps: claim, begin, read, render, apply, settle, remember.
func (w *world) deliver(ctx context.Context) error {
	events := w.log.due("orders", batchRows)
	if len(events) == 0 {
		return nil
	}
	batch, err := w.target.Begin(ctx, nil)
	if err != nil {
		return err
	}
	defer batch.Close()
	pks := make([][]string, len(events))
	for i, e := range events {
		w.memory.claim(fsm.RowRef{Mapping: e.Mapping, PK: e.PK})
		if pks[i], err = mapping.DecodeKey(e.PK); err != nil {
			return err
		}
	}
	rows, err := w.source.ReadRows(ctx, w.mapping, pks)
	if err != nil {
		return err
	}
	var guarded []rediscache.Guarded
	settle := fsm.SettleEvents{}
	for i, e := range events {
		writes, err := w.mapping.AppendWrites(nil, pks[i], rows[e.PK], e.Token)
		if e.Drop {
			writes, err = w.removals(pks[i]), nil
		}
		if err != nil {
			return err
		}
		for _, write := range writes {
			guarded = append(guarded, rediscache.Guarded{Token: e.Token, Write: write})
		}
		settle.Events = append(settle.Events, fsm.Settlement{Row: fsm.RowRef{Mapping: e.Mapping, PK: e.PK}, Revision: w.mapping.Revision(), Token: e.Token})
	}
	if _, err := batch.Apply(ctx, guarded); err != nil {
		return err
	}
	results, err := w.log.Propose(ctx, fsm.Op{Command: settle})
	if err != nil {
		return err
	}
	for _, s := range settle.Events {
		w.memory.release(s.Row, results[0].Index)
	}
	return nil
}

// removals is what an event that drops its keys becomes.
func (w *world) removals(tuple []string) (writes []mapping.Write) {
	for _, key := range w.mapping.Keys(tuple) {
		writes = append(writes, mapping.Write{Key: key, Guard: w.mapping.Guard(key), Op: mapping.OpDel})
	}
	return writes
}

func (w *world) deliverAll() {
	w.t.Helper()
	for w.log.pending() > 0 {
		if err := w.deliver(context.Background()); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) key(i int) string { return w.mapping.Key([]string{strconv.Itoa(id(i))}) }

func (w *world) ref(i int) fsm.RowRef {
	return fsm.RowRef{Mapping: "orders", PK: mapping.EncodeKey([]string{strconv.Itoa(id(i))})}
}

func (w *world) task(change func(*Parts)) *Task {
	w.t.Helper()
	parts := Parts{Log: w.log, Acknowledged: w.memory, Logger: slog.New(slog.DiscardHandler),
		Sources: map[string]Source{"shop": w.source}, Targets: map[string]Target{"cache": w.target}}
	if change != nil {
		change(&parts)
	}
	task, err := New(w.config, parts)
	if err != nil {
		w.t.Fatal(err)
	}
	return task
}

// lead runs the task until the test, or the caller, ends it.
func (w *world) lead(task *Task) (resign func()) {
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
		select {
		case err := <-done:
			if err != nil {
				w.t.Errorf("Run: %v", err)
			}
		case <-time.After(10 * time.Second):
			w.t.Error("Run did not end with its context")
		}
	}
	w.t.Cleanup(resign)
	return resign
}

func (w *world) start(mode fsm.PassMode, limit, confirmMs uint64) uint64 {
	w.t.Helper()
	return w.log.must(w.t, fsm.StartPass{Mapping: "orders", PassOptions: fsm.PassOptions{Mode: mode, Cap: limit, ConfirmMs: confirmMs}}).Pass.ID
}

// begin starts a pass with any options.
func (w *world) begin(options fsm.PassOptions) uint64 {
	w.t.Helper()
	return w.log.must(w.t, fsm.StartPass{Mapping: "orders", PassOptions: options}).Pass.ID
}

// perform runs one pass with any options until it is over, or held.
func (w *world) perform(options fsm.PassOptions) fsm.Pass {
	w.t.Helper()
	defer w.lead(w.task(nil))()
	return w.ended(w.begin(options))
}

// until waits for the pass to satisfy a condition.
func (w *world) until(pass uint64, what string, ok func(fsm.Pass) bool) fsm.Pass {
	w.t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(passTimeout); time.Now().Before(deadline); <-tick.C {
		if p := w.log.pass(pass); ok(p) {
			return p
		}
	}
	w.t.Fatalf("the pass never was %s: %+v", what, w.log.pass(pass))
	return fsm.Pass{}
}

func (w *world) ended(pass uint64) fsm.Pass {
	w.t.Helper()
	return w.until(pass, "over", func(p fsm.Pass) bool { return p.State != fsm.PassRunning })
}

// run runs one pass from beginning to end.
func (w *world) run(mode fsm.PassMode, limit, confirmMs uint64) fsm.Pass {
	w.t.Helper()
	defer w.lead(w.task(nil))()
	return w.ended(w.start(mode, limit, confirmMs))
}

// cache speaks to Redis without the package under test, a pipeline at a time.
type cache struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
}

func dialCache(t testing.TB, addr string) *cache {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &cache{t: t, conn: conn, in: bufio.NewReader(conn)}
}

func (c *cache) do(args ...string) string {
	c.t.Helper()
	var b bytes.Buffer
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := c.conn.Write(b.Bytes()); err != nil {
		c.t.Fatal(err)
	}
	line, err := c.in.ReadString('\n')
	if err != nil {
		c.t.Fatal(err)
	}
	line = strings.TrimSpace(line)
	if line[0] == '-' {
		c.t.Fatalf("%q: %s", args, line)
	}
	size, _ := strconv.Atoi(line[1:])
	if line[0] != '$' || size < 0 {
		return line[1:]
	}
	value := make([]byte, size+2)
	if _, err := io.ReadFull(c.in, value); err != nil {
		c.t.Fatal(err)
	}
	return string(value[:size])
}
