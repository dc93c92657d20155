package cluster_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql" // the driver of database/sql
	"github.com/redis/go-redis/v9"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
)

const (
	mappingJSON = "items-json"
	mappingHash = "items-hash"
	confirmMs   = 200
	settleMax   = 90 * time.Second
	writePace   = 5 * time.Millisecond
	deleteOneIn = 6
)

// table is a MySQL table that is mapped to two sets of keys, with everything that is needed to compare them.
type table struct {
	t      *testing.T
	c      *harness.Cluster
	db     *sql.DB
	cache  *redis.Client
	prefix string
	dsn    string
}

func newTable(t *testing.T, dsn, redisAddr, prefix string) *table {
	t.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(8)
	w := &table{t: t, db: db, cache: redis.NewClient(&redis.Options{Addr: redisAddr}), prefix: prefix, dsn: dsn}
	t.Cleanup(func() { _ = db.Close(); _ = w.cache.Close() })
	w.exec("DROP TABLE IF EXISTS items")
	w.exec("CREATE TABLE items (id BIGINT PRIMARY KEY, name VARCHAR(64) NOT NULL, n INT NOT NULL) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4")
	return w
}

// declare puts the mappings.
func (w *table) declare(c *harness.Cluster) {
	w.t.Helper()
	w.c = c
	for name, encoding := range map[string]string{mappingJSON: "json", mappingHash: "hash"} {
		w.c.Must(harness.Request{Method: http.MethodPut, Path: "/v1/mappings/" + name, Body: map[string]any{
			"source": "main", "target": "cache", "table": "items", "primary_key": []string{"id"}, "mode": "write_through", "encoding": encoding,
			"key": w.prefix + encoding + ":{id}", "columns": []map[string]any{{"name": "id"}, {"name": "name"}, {"name": "n"}},
		}}, nil)
	}
}

func (w *table) key(id int64) string     { return w.prefix + "json:" + strconv.FormatInt(id, 10) }
func (w *table) hashKey(id int64) string { return w.prefix + "hash:" + strconv.FormatInt(id, 10) }

func (w *table) exec(statement string, arguments ...any) {
	w.t.Helper()
	if _, err := w.db.ExecContext(w.t.Context(), statement, arguments...); err != nil {
		w.t.Fatalf("%s: %v", statement, err)
	}
}

func (w *table) put(id int64, name string) {
	w.t.Helper()
	w.exec("REPLACE INTO items VALUES (?, ?, ?)", id, name, rand.IntN(1_000_000))
}

// reconnect waits until this side reaches the servers again.
func (w *table) reconnect() {
	w.t.Helper()
	w.c.Await("the servers to answer", func() error {
		return errors.Join(w.db.PingContext(w.t.Context()), w.cache.Ping(w.t.Context()).Err())
	})
}

func events(ids ...int64) api.EnqueueEvents {
	var out api.EnqueueEvents
	for _, id := range ids {
		for _, name := range []string{mappingJSON, mappingHash} {
			out.Events = append(out.Events, api.RowEvent{Mapping: name, PK: []json.RawMessage{json.RawMessage(strconv.FormatInt(id, 10))}})
		}
	}
	return out
}

// enqueueAll sends an event for each row, through each node in turn.
func (w *table) enqueueAll() {
	w.t.Helper()
	for i, from := 0, 0; from < rowsMax; i, from = i+1, from+rowsMax/len(w.c.Nodes) {
		var ids []int64
		for id := from; id < min(rowsMax, from+rowsMax/len(w.c.Nodes)); id++ {
			ids = append(ids, int64(id))
		}
		answer, err := w.c.Caller(w.c.Nodes[i%len(w.c.Nodes)]).Do(w.t.Context(), harness.Request{Method: http.MethodPost, Path: "/v1/outbox/events", Body: events(ids...)})
		if err = errors.Join(err, answer.Into(nil)); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *table) stats() (stats api.OutboxStats) {
	w.t.Helper()
	w.c.Must(harness.Request{Method: http.MethodGet, Path: "/v1/outbox/stats"}, &stats)
	return stats
}

// accepted is an event as it was acknowledged.
type accepted struct {
	id    int64
	token uint64
}

// settle waits until nothing is pending, and fails unless the cache is what the table is and each of some events is known to be done.
func (w *table) settle(of []accepted) {
	w.t.Helper()
	began := time.Now()
	harness.Eventually(w.t, settleMax, "the backlog to drain", func() error {
		if stats := w.stats(); stats.Pending > 0 || stats.Dead > 0 {
			return fmt.Errorf("%+v", stats)
		}
		return nil
	})
	w.t.Logf("the backlog had drained after %s", time.Since(began).Round(time.Millisecond))
	for _, e := range of {
		var state api.EventState
		w.c.Must(harness.Request{Method: http.MethodPost, Path: "/v1/outbox/wait",
			Body: api.WaitEvent{Mapping: mappingJSON, PK: events(e.id).Events[0].PK, Token: e.token}}, &state)
		if state.State != api.EventDone {
			w.t.Errorf("the accepted event %+v is %s", e, state.State)
		}
	}
	w.compare()
}

// item is a row.
type item struct {
	ID   int64  `json:"id"`
	Name string `json:"name"`
	N    int64  `json:"n"`
}

// compare holds every key against its row.
func (w *table) compare() {
	w.t.Helper()
	rows, err := w.db.QueryContext(w.t.Context(), "SELECT id, name, n FROM items")
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	want := map[int64]item{}
	for rows.Next() {
		var i item
		if err := rows.Scan(&i.ID, &i.Name, &i.N); err != nil {
			w.t.Fatal(err)
		}
		want[i.ID] = i
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	for id := range int64(rowsMax) {
		row, present := want[id]
		w.compareJSON(id, row, present)
		w.compareHash(id, row, present)
	}
}

func (w *table) compareJSON(id int64, row item, present bool) {
	w.t.Helper()
	text := w.redisGet(w.key(id))
	var got item
	if text != "" {
		strict := json.NewDecoder(strings.NewReader(text))
		strict.DisallowUnknownFields()
		if err := strict.Decode(&got); err != nil {
			w.t.Errorf("%s holds %s: %v", w.key(id), text, err)
		}
	}
	if present != (text != "") || got != row {
		w.t.Errorf("%s holds %q, the row is %+v (present: %t)", w.key(id), text, row, present)
	}
}

func (w *table) compareHash(id int64, row item, present bool) {
	w.t.Helper()
	got, err := w.cache.HGetAll(w.t.Context(), w.hashKey(id)).Result()
	if err != nil {
		w.t.Fatal(err)
	}
	want := map[string]string{}
	if present {
		want = map[string]string{"id": strconv.FormatInt(row.ID, 10), "name": row.Name, "n": strconv.FormatInt(row.N, 10)}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) { // maps print in the order of their keys
		w.t.Errorf("%s holds %v, the row is %v", w.hashKey(id), got, want)
	}
}

func (w *table) redisGet(key string) string {
	w.t.Helper()
	text, err := w.cache.Get(w.t.Context(), key).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		w.t.Fatal(err)
	}
	return text
}

func (w *table) redisDo(command ...any) {
	w.t.Helper()
	if err := w.cache.Do(w.t.Context(), command...).Err(); err != nil {
		w.t.Fatal(err)
	}
}

// writers change rows and send an event after each commit, one writer through each node.
type writers struct {
	w      *table
	stop   context.CancelFunc
	joined sync.WaitGroup

	mu       sync.Mutex
	accepted []accepted
	failures []error
}

func (w *table) startWriters() *writers {
	ctx, cancel := context.WithCancel(context.Background())
	out := &writers{w: w, stop: cancel}
	w.t.Cleanup(func() { cancel(); out.joined.Wait() })
	for _, n := range w.c.Nodes {
		out.joined.Go(func() { out.run(ctx, n) })
	}
	return out
}

func (o *writers) run(ctx context.Context, through *harness.Node) {
	caller := o.w.c.Caller(through)
	ticker := time.NewTicker(writePace)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		e, err := o.change(caller)
		o.mu.Lock()
		if err != nil {
			o.failures = append(o.failures, err)
		} else {
			o.accepted = append(o.accepted, e)
		}
		o.mu.Unlock()
	}
}

// change is brought to an end even when the test stops the writers: a committed row without its event would be the test's own fault.
func (o *writers) change(caller *harness.Caller) (accepted, error) {
	ctx, cancel := context.WithTimeout(context.Background(), loadRetry)
	defer cancel()
	e := accepted{id: rand.Int64N(rowsMax)}
	statement, arguments := "REPLACE INTO items VALUES (?, ?, ?)", []any{e.id, "näme " + strconv.Itoa(rand.Int()), rand.IntN(1_000_000)}
	if rand.IntN(deleteOneIn) == 0 {
		statement, arguments = "DELETE FROM items WHERE id = ?", []any{e.id}
	}
	if _, err := o.w.db.ExecContext(ctx, statement, arguments...); err != nil {
		return e, err
	}
	var got api.Enqueued
	answer, err := caller.Do(ctx, harness.Request{Method: http.MethodPost, Path: "/v1/outbox/events", Body: events(e.id)})
	if err = errors.Join(err, answer.Into(&got)); err != nil {
		return e, err
	}
	e.token = got.Events[0].Token
	return e, nil
}

func (o *writers) await(n int) {
	o.w.t.Helper()
	count := func() int {
		o.mu.Lock()
		defer o.mu.Unlock()
		return len(o.accepted)
	}
	before := count()
	harness.Eventually(o.w.t, loadRetry, "the writers to go on", func() error {
		if got := count() - before; got < n {
			return fmt.Errorf("%d of %d changes", got, n)
		}
		return nil
	})
}

const eventsAsked = 50

// end stops the writers, and returns a sample of what was accepted.
func (o *writers) end() []accepted {
	o.w.t.Helper()
	o.stop()
	o.joined.Wait()
	for _, err := range o.failures[:min(len(o.failures), complaintsMax)] {
		o.w.t.Errorf("%d changes or their events failed, such as: %v", len(o.failures), err)
	}
	o.w.t.Logf("%d changes accepted", len(o.accepted))
	return o.accepted[max(0, len(o.accepted)-eventsAsked):]
}
