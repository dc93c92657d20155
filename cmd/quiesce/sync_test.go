package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	driver "github.com/go-sql-driver/mysql"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/services"
)

var itemsMapping = map[string]any{"GET /v1/mappings/items": api.Mapping{Name: "items", Revision: 1,
	Spec: json.RawMessage(`{"source": "main", "table": "items", "primary_key": ["id"], "columns": [{"name": "v"}], "where": [{"column": "shown", "op": "=", "value": 1}], "mode": "write_through"}`)}}

// schema is a business schema in a real server, with the CLI beside it.
func newSchema(t *testing.T) (db *sql.DB, dsn string) {
	t.Helper()
	dsn = services.Require(t).MySQLDSN
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	execAll(t, db, "CREATE TABLE items (id BIGINT PRIMARY KEY, v INT, shown INT DEFAULT 1, other INT)")
	return db, dsn
}

func execAll(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%.100s: %v", s, err)
		}
	}
}

func countRows(t *testing.T, db *sql.DB, query string) (n int) {
	t.Helper()
	if err := db.QueryRow(query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

const outboxRows = "SELECT COUNT(*) FROM quiesce_outbox"

func TestSyncTables_WhatIsPrintedIsWhatAServerTakes(t *testing.T) {
	t.Parallel()
	db, _ := newSchema(t)
	text, code := (*server)(nil).quiesce("sync", "tables", "--database", "sh`op")
	if code != 0 || !strings.Contains(text, "GRANT SELECT, UPDATE, DELETE ON `sh``op`.quiesce_outbox") {
		t.Fatalf("exit code %d:\n%s", code, text)
	}
	tables, _, _ := strings.Cut(text, "-- ")
	for _, statement := range strings.Split(strings.TrimSpace(tables), ";\n") {
		execAll(t, db, statement)
	}
	if n := countRows(t, db, "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME LIKE 'quiesce%'"); n != 3 {
		t.Errorf("%d tables", n)
	}
}

func TestSyncTriggers_ApplyThenDropToTheLastTable(t *testing.T) {
	t.Parallel()
	db, dsn := newSchema(t)
	s := newServer(t, itemsMapping)
	text, code := s.quiesce("sync", "triggers", "items", "--apply", "--dsn", dsn)
	if code != 0 || strings.Count(text, "made quiesce_items_") != 3 || !strings.Contains(text, "TRUNCATE") {
		t.Fatalf("exit code %d:\n%s", code, text)
	}
	if text, code = s.quiesce("sync", "triggers", "items", "--apply", "--dsn", dsn); code != 0 || strings.Count(text, "unchanged quiesce_items_") != 3 {
		t.Errorf("again: exit code %d:\n%s", code, text)
	}
	execAll(t, db, "INSERT INTO items VALUES (1, 1, 1, 1)", "UPDATE items SET other = 2", "UPDATE items SET shown = 0", "UPDATE items SET v = 2")
	if n := countRows(t, db, outboxRows); n != 3 {
		t.Errorf("%d rows, want those of the insert, of the condition and of the value", n)
	}
	execAll(t, db, "CREATE TRIGGER own AFTER INSERT ON items FOR EACH ROW INSERT INTO quiesce_outbox (mapping) VALUES ('x')")
	for _, step := range []struct {
		args   []string
		say    string
		before string
	}{
		{[]string{"--drop"}, "no triggers of items are left", ""},
		{[]string{"--drop", "--tables"}, "other triggers write to them", ""},
		{[]string{"--drop", "--tables"}, "quiesce_outbox is not empty", "DROP TRIGGER own"},
		{[]string{"--drop", "--tables"}, "are gone", "DELETE FROM quiesce_outbox"},
	} {
		if step.before != "" {
			execAll(t, db, step.before)
		}
		text, code := s.quiesce(append([]string{"sync", "triggers", "items", "--dsn", dsn}, step.args...)...)
		if code != 0 || !strings.Contains(text, step.say) {
			t.Errorf("exit code %d, want %q:\n%s", code, step.say, text)
		}
	}
	if n := countRows(t, db, "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()"); n != 1 {
		t.Errorf("%d tables are left, want the application's own", n)
	}
}

// The text is for the servers' own client, whatever that one's session is.
func TestSyncTriggers_PrintedTextWorksInTheServersClient(t *testing.T) {
	t.Parallel()
	db, dsn := newSchema(t)
	s := newServer(t, itemsMapping)
	tables, code := s.quiesce("sync", "tables")
	if code != 0 {
		t.Fatal(tables)
	}
	tables, _, _ = strings.Cut(tables, "-- ")
	text, code := s.quiesce("sync", "triggers", "items", "--dsn", dsn)
	if code != 0 {
		t.Fatalf("exit code %d:\n%s", code, text)
	}
	if n := countRows(t, db, "SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE()"); n != 0 {
		t.Fatalf("printing made %d triggers", n)
	}
	feed(t, dsn, "SET sql_mode = 'ANSI_QUOTES';\n"+tables+text)
	execAll(t, db, "INSERT INTO items VALUES (1, 1, 1, 1)")
	if n := countRows(t, db, outboxRows+` WHERE mapping = 'items' AND JSON_EXTRACT(pk, '$[0]') = '1'`); n != 1 {
		t.Errorf("%d rows", n)
	}
}

// feed gives a text to the client program that belongs to the server.
func feed(t *testing.T, dsn, text string) {
	t.Helper()
	client := ""
	for _, name := range []string{"mariadb", "mysql"} {
		if path, err := exec.LookPath(name); err == nil && client == "" {
			client = path
		}
	}
	if client == "" {
		t.Fatal("the server's client is not there: neither mariadb nor mysql")
	}
	cfg, err := driver.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := strings.Cut(cfg.Addr, ":")
	cmd := exec.CommandContext(t.Context(), client, "--no-defaults", "--protocol=tcp", "--default-character-set=latin1", "-h", host, "-P", port, "-u", cfg.User, cfg.DBName)
	cmd.Env = append(cmd.Environ(), "MYSQL_PWD="+cfg.Passwd)
	cmd.Stdin = strings.NewReader(text)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s\n%s", err, &complaints, text)
	}
}

func TestSyncTriggers_MistakesAreToldWithoutTheDSN(t *testing.T) {
	t.Parallel()
	s := newServer(t, itemsMapping)
	for _, c := range []struct {
		args []string
		code int
		say  string
	}{
		{[]string{"items", "--apply", "--drop", "--dsn", "x"}, exitUsage, "do not go together"},
		{[]string{"items", "--tables", "--dsn", "x"}, exitUsage, "--drop"},
		{[]string{"items", "--dsn", "u:s3cret@nowhere"}, exitUsage, "DSN"},
		{[]string{"items", "--dsn", "u:s3cret@tcp(127.0.0.1:1)/shop"}, exitRefused, "unreachable"},
		{[]string{"other", "--dsn", "u:s3cret@tcp(127.0.0.1:1)/shop"}, exitRefused, "no such path"},
	} {
		text, code := s.quiesce(append([]string{"sync", "triggers"}, c.args...)...)
		if code != c.code || !strings.Contains(text, c.say) || strings.Contains(text, "s3cret") {
			t.Errorf("%q: exit code %d, %s", c.args, code, text)
		}
	}
}
