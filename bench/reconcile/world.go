package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/bench/stores"
	"github.com/quiescehq/quiesce/bench/system"
	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
)

const (
	sourceName = "main"
	targetName = "cache"
	passMax    = 15 * time.Minute
	pollEvery  = 20 * time.Millisecond
	chunkRows  = 2_000
	copyRows   = 1 << 17
)

var (
	errPass    = errors.New("the pass did not end as it should")
	errDiffers = errors.New("the cache does not hold what the table holds")
)

// world is one cluster with the stores and a table.
type world struct {
	*stores.Pair
	q      *system.Quiesce
	client *client.Client
	dir    string
}

func (b *bench) newWorld(ctx context.Context, name string) (_ *world, err error) {
	w := &world{Pair: b.stores, dir: filepath.Join(b.dir, name)}
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
	if b.profiles != "" {
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
	if w.client != nil {
		w.client.Close()
	}
	if w.q == nil {
		return nil
	}
	return w.q.Close()
}

// The rows have about 200 bytes, in types that applications use.
const itemsTable = `CREATE TABLE items (id BIGINT NOT NULL PRIMARY KEY, name VARCHAR(64) NOT NULL, n INT NOT NULL, price DECIMAL(10,2) NOT NULL, note VARCHAR(200) NOT NULL,
  changed DATETIME(3) NOT NULL, weight DOUBLE NULL) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4`

var columns = []string{"id", "name", "n", "price", "note", "changed", "weight"}

// fillTable makes the table anew with rows 1 to n: one of its own, and then copies of them all, again and again.
func (w *world) fillTable(ctx context.Context, n int) error {
	for _, statement := range []string{"DROP TABLE IF EXISTS items", itemsTable,
		`INSERT INTO items VALUES (1, 'Wrench, "10 mm"', 7, 12.50, 'in the drawer below the bench, beside the others; it is the one with the red handle, and whoever takes it says so', '2026-01-02 03:04:05.678', 1.5)`} {
		if err := w.Exec(ctx, statement); err != nil {
			return err
		}
	}
	for have := 1; have < n; {
		more := min(have, n-have, copyRows)
		if err := w.Exec(ctx, "INSERT INTO items SELECT id + ?, CONCAT('Wrench, \"', id, ' mm\"'), n + 1, price + 0.25, note, changed, weight * 1.0001 FROM items WHERE id <= ?", have, more); err != nil {
			return err
		}
		have += more
	}
	return w.Exec(ctx, "ANALYZE TABLE items")
}

// spec maps the table to keys of its own name, for ever.
func spec(name string, encoding mapping.Encoding) mapping.Spec {
	s := mapping.Spec{Source: sourceName, Target: targetName, Table: "items", Mode: mapping.WriteThrough, PrimaryKey: []string{"id"}, Encoding: encoding, Key: name + ":{id}", OwnsPrefix: true, OnWrongType: mapping.WrongTypeReplace}
	for _, column := range columns {
		s.Columns = append(s.Columns, mapping.ColumnSpec{Name: column})
	}
	return s
}

// declare declares the mapping, and fillCache writes its keys: rendered by package mapping, as a delivery would, but without guards and straight to Redis.
func (w *world) declare(ctx context.Context, name string, encoding mapping.Encoding) error {
	_, err := w.client.DeclareMapping(ctx, name, spec(name, encoding))
	return err
}

func (w *world) fillCache(ctx context.Context, name string, encoding mapping.Encoding) error {
	source, err := mysql.Open(mysql.Config{Name: sourceName, DSN: w.DSN, DialTimeout: 5 * time.Second, QueryTimeout: time.Minute, ConnectionsMax: 2})
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	types, err := source.Columns(ctx, "items")
	if err != nil {
		return err
	}
	m, err := mapping.Compile(spec(name, encoding), 1, types)
	if err != nil {
		return err
	}
	var writes []mapping.Write
	for after := []string(nil); ; {
		rows, err := source.ReadChunk(ctx, m, after, chunkRows)
		if err != nil || len(rows) == 0 {
			return err
		}
		pipe := w.Cache.Pipeline()
		for i := range rows {
			if writes, err = m.AppendWrites(writes[:0], rows[i].Key, &rows[i], 0); err != nil {
				return err
			}
			if encoding == mapping.Hash {
				pipe.HSet(ctx, writes[0].Key, fieldsOf(writes[0]))
			} else {
				pipe.Set(ctx, writes[0].Key, append([]byte(nil), writes[0].Value...), 0)
			}
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
		after = rows[len(rows)-1].PK
	}
}

func fieldsOf(write mapping.Write) []any {
	var out []any
	for _, f := range write.Fields {
		if !f.Null {
			out = append(out, f.Name, append([]byte(nil), f.Value...))
		}
	}
	return out
}

// begin is the body of POST /v1/passes.
type begin struct {
	Mapping     string `json:"mapping"`
	Mode        string `json:"mode"`
	Cap         uint64 `json:"cap,omitempty"`
	Extras      bool   `json:"extras,omitempty"`
	FillMissing bool   `json:"fill_missing,omitempty"`
	Rate        uint64 `json:"rate,omitempty"`
}

// pass is what is looked at of the answer to GET /v1/passes/{id}.
type pass struct {
	ID     uint64         `json:"id"`
	State  string         `json:"state"`
	Hold   string         `json:"hold"`
	Reason string         `json:"reason"`
	Counts api.PassCounts `json:"counts"`
	Keys   struct {
		Extra   uint64 `json:"extra"`
		Removed uint64 `json:"removed"`
	} `json:"keys"`
	TookMs uint64 `json:"took_ms"`
}

func (w *world) start(ctx context.Context, body begin) (uint64, error) {
	var started api.PassStarted
	return started.ID, w.client.Call(ctx, http.MethodPost, "/v1/passes", body, &started)
}

// settled waits until the pass no longer runs.
func (w *world) settled(ctx context.Context, id uint64) (p pass, err error) {
	ctx, cancel := context.WithTimeout(ctx, passMax)
	defer cancel()
	for {
		if err := w.client.Call(ctx, http.MethodGet, fmt.Sprintf("/v1/passes/%d", id), nil, &p); err != nil {
			return p, err
		}
		if p.State != "running" {
			return p, nil
		}
		if err := wait(ctx, pollEvery); err != nil {
			return p, fmt.Errorf("%w: pass %d: %w", errPass, id, err)
		}
	}
}

func (w *world) pass(ctx context.Context, body begin) (pass, error) {
	id, err := w.start(ctx, body)
	if err != nil {
		return pass{}, err
	}
	return w.settled(ctx, id)
}

// cleanPass is a dry run that has to call every row equal.
func (w *world) cleanPass(ctx context.Context, name string, rows int) (pass, error) {
	p, err := w.pass(ctx, begin{Mapping: name, Mode: api.PassDryRun})
	if err == nil && (p.State != "done" || p.Counts.Rows != uint64(rows) || p.Counts.Equal != uint64(rows)) {
		err = fmt.Errorf("%w: %+v", errPass, p)
	}
	return p, err
}

// drained waits until nothing is pending.
func (w *world) drained(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, passMax)
	defer cancel()
	for {
		var stats api.OutboxStats
		if err := w.client.Call(ctx, http.MethodGet, "/v1/outbox/stats", nil, &stats); err != nil {
			return err
		}
		if stats.Dead > 0 {
			return fmt.Errorf("%w: %d dead letters", errDiffers, stats.Dead)
		}
		if stats.Pending == 0 {
			return nil
		}
		if err := wait(ctx, pollEvery); err != nil {
			return err
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// original is what keys hold, to be compared later.
func (w *world) original(ctx context.Context, keys []string) (map[string]string, error) {
	out := make(map[string]string, len(keys))
	pipe := w.Cache.Pipeline()
	dumps := make([]*redis.StringCmd, len(keys))
	for i, key := range keys {
		dumps[i] = pipe.Get(ctx, key)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	for i, key := range keys {
		out[key] = dumps[i].Val()
	}
	return out, nil
}
