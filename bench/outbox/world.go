package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/bench/stores"
	"github.com/quiescehq/quiesce/bench/system"
	"github.com/quiescehq/quiesce/bench/wire"
	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
)

const (
	eventsPerCall = api.EventsMax
	drainedMax    = 5 * time.Minute
	pollEvery     = 10 * time.Millisecond
	sourceName    = "main"
	targetName    = "cache"
)

var (
	errDead     = errors.New("events became dead letters")
	errPending  = errors.New("events are still pending")
	errRefused  = errors.New("the node refused")
	errDiffers  = errors.New("the cache does not hold what the table holds")
	errNotAgain = errors.New("the schema has no triggers")
)

// world is one cluster with the servers, the mappings and the tables of a part.
type world struct {
	*stores.Pair
	q      *system.Quiesce
	client *client.Client
	dir    string
	beside *bareCluster  // or nil
	seq    atomic.Uint64 // names of clients on the wire
}

func (b *bench) newWorld(ctx context.Context, name string) (_ *world, err error) {
	w := &world{Pair: b.servers, dir: filepath.Join(b.dir, name)}
	if err := os.Mkdir(w.dir, 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	if err := w.clean(ctx); err != nil {
		return nil, err
	}
	config := filepath.Join(w.dir, "node.yaml")
	text := fmt.Sprintf("sources:\n  %s:\n    dsn: %q\n    outbox: {dsn: %q}\ntargets:\n  %s: {addr: %q}\n", sourceName, w.DSN, w.DSN, targetName, w.RedisAddr)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	c := system.QuiesceConfig{Binary: b.node, Dir: w.dir, Args: []string{"-config", config}}
	if b.binary == "" {
		c.Profiles = w.dir
	}
	if w.q, err = system.StartQuiesce(ctx, c); err != nil {
		return nil, err
	}
	w.client, err = client.New(client.Config{Addrs: w.q.Addrs})
	return w, err
}

// clean leaves an empty cache, and a schema with the quiesce tables and none of their rows.
func (w *world) clean(ctx context.Context) error {
	if err := w.Cache.FlushAll(ctx).Err(); err != nil {
		return err
	}
	for _, statement := range mysql.OutboxTables {
		if err := w.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return errors.Join(w.Exec(ctx, "TRUNCATE quiesce_outbox"), w.Exec(ctx, "TRUNCATE quiesce_fence"), w.Exec(ctx, "TRUNCATE quiesce_refused"))
}

// Close ends the cluster.
func (w *world) Close() error {
	var errs []error
	if w.client != nil {
		w.client.Close()
	}
	if w.beside != nil {
		errs = append(errs, w.beside.Close())
	}
	if w.q != nil {
		errs = append(errs, w.q.Close())
	}
	return errors.Join(errs...)
}

// itemsSpec maps the big table.
func itemsSpec(name string, encoding mapping.Encoding, mode mapping.Mode) mapping.Spec {
	spec := mapping.Spec{Source: sourceName, Target: targetName, Table: "items", PrimaryKey: []string{"id"}, Mode: mode, Key: name + ":{id}"}
	if mode != mapping.Invalidate {
		spec.Encoding = encoding
	}
	for _, column := range []string{"id", "name", "n", "price", "note", "changed", "weight"} {
		spec.Columns = append(spec.Columns, mapping.ColumnSpec{Name: column})
	}
	return spec
}

func (w *world) declare(ctx context.Context, name string, spec mapping.Spec) error {
	_, err := w.client.DeclareMapping(ctx, name, spec)
	return err
}

func (w *world) pause(ctx context.Context, mapping string) error {
	return w.client.Call(ctx, http.MethodPost, "/v1/outbox/pause", api.PauseOutbox{OutboxScope: api.OutboxScope{Mapping: mapping}}, nil)
}

func (w *world) resume(ctx context.Context, mapping string) error {
	return w.client.Call(ctx, http.MethodPost, "/v1/outbox/resume", api.OutboxScope{Mapping: mapping}, nil)
}

func (w *world) stats(ctx context.Context) (stats api.OutboxStats, err error) {
	err = w.client.Call(ctx, http.MethodGet, "/v1/outbox/stats", nil, &stats)
	return stats, err
}

// drained waits until nothing is pending, and refuses dead letters.
func (w *world) drained(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainedMax)
	defer cancel()
	for {
		stats, err := w.stats(ctx)
		switch {
		case err != nil:
			return err
		case stats.Dead > 0:
			return fmt.Errorf("%w: %d", errDead, stats.Dead)
		case stats.Pending == 0 && stats.Prepared == 0:
			return nil
		}
		if err := wait(ctx, pollEvery); err != nil {
			return fmt.Errorf("%w: %d: %w", errPending, stats.Pending, err)
		}
	}
}

// leaderAddr is where calls are answered without another hop.
func (w *world) leaderAddr(ctx context.Context) (string, error) {
	leader, err := w.q.AwaitLeader(ctx)
	if err != nil {
		return "", err
	}
	return w.q.Addrs[leader], nil
}

// sender is a client of the wire with one connection and idempotency keys of its own, as the client library has them.
type sender struct {
	conn *wire.Conn
	name string
	seq  uint64
	body []byte
}

func (w *world) newSender(ctx context.Context, addr string) (*sender, error) {
	conn, err := wire.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	return &sender{conn: conn, name: "bench-" + strconv.FormatUint(w.seq.Add(1), 10)}, nil
}

// enqueue sends the rows from first on in one call.
func (s *sender) enqueue(mapping string, first, count int) error {
	s.body = appendEvents(s.body[:0], mapping, first, count)
	s.seq++
	status, answer, err := s.conn.Do(wire.Request{Method: http.MethodPost, Path: eventsPath, Key: s.name + "/" + strconv.FormatUint(s.seq, 10), Acked: s.seq, Body: s.body})
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%w: %d: %s", errRefused, status, answer)
	}
	return err
}

const eventsPath = "/v1/outbox/events"

// appendEvents writes a call with the rows from first on.
func appendEvents(b []byte, mapping string, first, count int) []byte {
	b = append(b, `{"events":[`...)
	for i := range count {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, `{"mapping":"`...), mapping...), `","pk":["`...)
		b = append(strconv.AppendInt(b, int64(first+i), 10), `"]}`...)
	}
	return append(b, `]}`...)
}

// preload makes events of rows 1 to n pending, some at a time, over a few connections. It measures nothing, so it survives a leader that is deposed on a busy machine.
func (w *world) preload(ctx context.Context, name string, n, perCall, connections int) error {
	ctx, cancel := context.WithTimeout(ctx, drainedMax)
	defer cancel()
	addr, err := w.leaderAddr(ctx)
	if err != nil {
		return err
	}
	var next atomic.Int64
	faults := make(chan error, connections)
	for range connections {
		go func() { // ends with the rows; joined below
			faults <- func() error {
				p := &wire.Patient{Addr: addr, Name: "bench-" + strconv.FormatUint(w.seq.Add(1), 10), Pause: pollEvery}
				defer p.Close()
				for ctx.Err() == nil {
					first := int(next.Add(int64(perCall))) - perCall
					if first >= n {
						return nil
					}
					if _, err := p.Post(ctx, eventsPath, appendEvents(nil, name, first+1, min(perCall, n-first))); err != nil {
						return err
					}
				}
				return context.Cause(ctx)
			}()
		}()
	}
	var errs []error
	for range connections {
		errs = append(errs, <-faults)
	}
	return errors.Join(errs...)
}

// verify compares a few keys with the rows: a delivery that wrote nothing would be fast.
func (w *world) verify(ctx context.Context, name string, encoding mapping.Encoding, rows int) error {
	for _, id := range []int{1, 2, rows / 3, rows / 2, rows - 1, rows} {
		var want string
		if err := w.DB.QueryRowContext(ctx, "SELECT name FROM items WHERE id = ?", id).Scan(&want); err != nil {
			return err
		}
		key := fmt.Sprintf("%s:%d", name, id)
		var got string
		if encoding == mapping.Hash {
			got = w.Cache.HGet(ctx, key, "name").Val()
		} else {
			var value struct {
				Name string `json:"name"`
			}
			if err := json.NewDecoder(strings.NewReader(w.Cache.Get(ctx, key).Val())).Decode(&value); err == nil {
				got = value.Name
			}
		}
		if got != want {
			return fmt.Errorf("%w: %s has the name %q, the row %q", errDiffers, key, got, want)
		}
	}
	there, err := w.cached(ctx, name, rows)
	if err == nil && there < rows {
		err = fmt.Errorf("%w: %d keys of %d rows", errDiffers, there, rows)
	}
	return err
}

// cached counts the keys of rows 1 to n that the cache has. It asks for each: guards go after a minute, so that the number of all keys says little.
func (w *world) cached(ctx context.Context, name string, n int) (there int, err error) {
	for first := 1; first <= n && err == nil; first += eventsPerCall {
		var keys []string
		for id := first; id < min(first+eventsPerCall, n+1); id++ {
			keys = append(keys, name+":"+strconv.Itoa(id))
		}
		var some int64
		some, err = w.Cache.Exists(ctx, keys...).Result()
		there += int(some)
	}
	return there, err
}
