package syncchaos

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/go-sql-driver/mysql" // the driver of database/sql

	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/cluster_test/oracle"
	"github.com/quiescehq/quiesce/cluster_test/services"
	"github.com/quiescehq/quiesce/cluster_test/syncchaos/writer"
)

const (
	guardPrefix = "qg:"
	poolMax     = 4
	// flushEach makes a commit last over the death of the server, however it dies.
	flushEach = "SET GLOBAL innodb_flush_log_at_trx_commit = 1, GLOBAL sync_binlog = 1"
)

// world is everything that a run is about, but for the applications.
type world struct {
	t     testing.TB
	dir   string // ledgers and logs of the applications
	c     *harness.Cluster
	mysql *services.Instance
	redis *services.RedisServer
	db    *sql.DB
}

func newWorld(t testing.TB) *world {
	t.Helper()
	// The file is never rewritten: it is the witness of all that was ever written.
	w := &world{t: t, dir: t.TempDir(), mysql: services.Own(t), redis: services.OwnRedis(t, "--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0")}
	db, err := sql.Open("mysql", w.mysql.MySQLDSN)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(poolMax)
	t.Cleanup(func() { _ = db.Close() })
	w.db = db
	w.exec(append(writer.Schema(), flushEach)...)
	w.c = harness.Start(t, harness.Options{MySQL: w.mysql.MySQLDSN, Outbox: w.mysql.MySQLDSN, Redis: w.redis.Addr})
	w.declare()
	return w
}

// declare puts the mappings, makes the quiesce tables as the command line prints them, and the triggers of tier 4.
func (w *world) declare() {
	w.t.Helper()
	for tier := 1; tier <= writer.Tiers; tier++ {
		w.put(writer.MappingJSON(tier), tier, "json", "id", writer.PrefixJSON(tier))
		w.put(writer.MappingHash(tier), tier, "hash", "code", writer.PrefixHash(tier))
	}
	printed, _, _ := strings.Cut(w.cli("sync", "tables"), "\n-- ")
	for statement := range strings.SplitSeq(printed, ";\n") {
		if strings.TrimSpace(statement) != "" {
			w.exec(statement)
		}
	}
	for _, mapping := range []string{writer.MappingJSON(writer.Tiers), writer.MappingHash(writer.Tiers)} {
		w.cli("sync", "triggers", mapping, "--apply", "--dsn", w.mysql.MySQLDSN)
	}
}

func (w *world) put(name string, tier int, encoding, key, prefix string) {
	w.t.Helper()
	spec := map[string]any{"source": writer.Source, "target": "cache", "table": writer.Table(tier), "primary_key": []string{"id"}, "key_columns": []string{key},
		"mode": "write_through", "encoding": encoding, "key": prefix + "{" + key + "}", "owns_prefix": true}
	var columns []map[string]any
	for _, c := range writer.Columns() {
		columns = append(columns, map[string]any{"name": c.Name})
	}
	spec["columns"] = columns
	w.c.Must(harness.Request{Method: http.MethodPut, Path: "/v1/mappings/" + name, Body: spec}, nil)
}

// mapping is one mapping as the oracle sees it.
type mapping struct {
	oracle.Mapping
	tier int
	name string
}

func mappings() (all []mapping) {
	var columns []oracle.Column
	for _, c := range writer.Columns() {
		columns = append(columns, oracle.Column(c))
	}
	for tier := 1; tier <= writer.Tiers; tier++ {
		all = append(all,
			mapping{oracle.Mapping{Table: writer.Table(tier), ID: "id", Columns: columns, Prefix: writer.PrefixJSON(tier)}, tier, writer.MappingJSON(tier)},
			mapping{oracle.Mapping{Table: writer.Table(tier), ID: "code", Columns: columns, Prefix: writer.PrefixHash(tier), Hash: true}, tier, writer.MappingHash(tier)})
	}
	return all
}

func (w *world) exec(statements ...string) {
	w.t.Helper()
	for _, s := range statements {
		if _, err := w.db.ExecContext(w.t.Context(), s); err != nil {
			w.t.Fatalf("%s: %v", s, err)
		}
	}
}

// count runs a query that gives one number. A server that has just come back may break the first connections.
func (w *world) count(query string) (n int, err error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), queryWithin)
	defer cancel()
	err = w.db.QueryRowContext(ctx, query).Scan(&n)
	return n, err
}

// cli runs the command line.
func (w *world) cli(args ...string) string {
	w.t.Helper()
	command := exec.CommandContext(w.t.Context(), harness.Program(w.t, "cmd/quiesce"), args...)
	command.Env = append(os.Environ(), "QUIESCE_ADDRS="+strings.Join(w.c.Addrs(), ","))
	out, err := command.Output()
	if err != nil {
		w.t.Fatalf("quiesce %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// aof is the folder of Redis' append-only file.
func (w *world) aof() string { return filepath.Join(w.redis.Dir, "appendonlydir") }

// tail is the file that Redis is writing.
func (w *world) tail() (path string, size int64) {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(w.aof(), "*.incr.aof"))
	if err != nil || len(files) != 1 {
		w.t.Fatalf("Redis has the incremental files %v: %v", files, err)
	}
	info, err := os.Stat(files[0])
	if err != nil {
		w.t.Fatal(err)
	}
	return files[0], info.Size()
}

// said counts a text in what the nodes have printed since their last start.
func (w *world) said(text string) (n int) {
	for _, node := range w.c.Nodes {
		n += strings.Count(node.Output(), text)
	}
	return n
}

func (w *world) describe() string {
	return fmt.Sprintf("MySQL and logs in %s, Redis in %s, applications in %s", w.mysql.Dir, w.redis.Dir, w.dir)
}
