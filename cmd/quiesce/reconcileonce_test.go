package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	driver "github.com/go-sql-driver/mysql"
	"github.com/redis/go-redis/v9"

	"github.com/quiescehq/quiesce/cluster_test/services"
)

// drift is a table with its cache, and accounts that can do nothing but read both.
type drift struct {
	t         *testing.T
	db        *sql.DB
	cache     *redis.Client
	prefix    string
	dsn       string
	redisAddr string
	user      string
	env       map[string]string
}

func newDrift(t *testing.T) *drift {
	t.Helper()
	place := services.Require(t)
	db, err := sql.Open("mysql", place.MySQLDSN)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	d := &drift{t: t, db: db, cache: redis.NewClient(&redis.Options{Addr: place.RedisAddr}), prefix: place.Prefix, redisAddr: place.RedisAddr}
	t.Cleanup(func() { d.cache.Close() })
	cfg, err := driver.ParseDSN(place.MySQLDSN)
	if err != nil {
		t.Fatal(err)
	}
	d.user = "once_" + strings.ToLower(cfg.DBName)
	d.user = d.user[:min(len(d.user), 32)]
	execAll(t, db, "CREATE TABLE orders (id BIGINT PRIMARY KEY, name VARCHAR(40) NOT NULL, card VARCHAR(40) NOT NULL)",
		"INSERT INTO orders SELECT seq, CONCAT('customer ', seq), CONCAT('card-', seq) FROM seq_1_to_300",
		fmt.Sprintf("CREATE USER '%s'@'%%' IDENTIFIED BY 's3cret'", d.user), fmt.Sprintf("GRANT SELECT ON `%s`.* TO '%s'@'%%'", cfg.DBName, d.user))
	t.Cleanup(func() { execAll(t, db, fmt.Sprintf("DROP USER '%s'@'%%'", d.user)) })
	cfg.User, cfg.Passwd = d.user, "s3cret"
	d.dsn = cfg.FormatDSN()
	d.acl("%R~"+d.prefix+"*", "+@read", "+@connection", "+time", "+info")
	for i := range 300 {
		d.set(i+1, fmt.Sprintf(`{"id":%d,"name":"customer %d","card":"card-%d"}`, i+1, i+1, i+1))
	}
	d.env = map[string]string{envDSN: d.dsn, envRedisPassword: "s3cret"}
	return d
}

func (d *drift) acl(rules ...string) {
	d.t.Helper()
	args := []any{"ACL", "SETUSER", d.user, "reset", "on", ">s3cret"}
	for _, rule := range rules {
		args = append(args, rule)
	}
	d.redis(args...)
	d.t.Cleanup(func() { d.cache.Do(context.Background(), "ACL", "DELUSER", d.user) })
}

func (d *drift) redis(args ...any) {
	d.t.Helper()
	if err := d.cache.Do(d.t.Context(), args...).Err(); err != nil {
		d.t.Fatalf("%v: %v", args[0], err)
	}
}

func (d *drift) key(id int) string { return fmt.Sprintf("%sorder:%d", d.prefix, id) }

func (d *drift) set(id int, value string) { d.t.Helper(); d.redis("SET", d.key(id), value) }

// file writes a mapping, with more lines after it.
func (d *drift) file(more string) string {
	d.t.Helper()
	path := filepath.Join(d.t.TempDir(), "orders.yaml")
	text := "table: orders\nprimary_key: [id]\ncolumns: [{name: id}, {name: name}, {name: card, mask: true}]\nkey: \"" + d.prefix + "order:{id}\"\nencoding: json\n" + more
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
	return path
}

// once runs the command, with nothing that it could ask a cluster with.
func (d *drift) once(args ...string) (text string, code int) {
	d.t.Helper()
	var out strings.Builder
	c := &cli{getenv: func(name string) string { return d.env[name] }, out: &out, err: &out}
	code = c.run(append([]string{"reconcile", "once", "--redis", d.redisAddr, "--redis-user", d.user, "--confirm", "100ms", "--timeout", "20s"}, args...))
	return out.String(), code
}

// Accounts that may do nothing but read are enough, and nothing is changed.
func TestReconcileOnce_FindsWhatDiffersWithAccountsThatMayOnlyRead(t *testing.T) {
	t.Parallel()
	d := newDrift(t)
	file := d.file("owns_prefix: true\n")
	if text, code := d.once("-f", file); code != 0 || !strings.Contains(text, "300") {
		t.Fatalf("exit code %d:\n%s", code, text)
	}
	d.set(17, `{"id":17,"name":"somebody else","card":"card-17"}`)
	d.redis("DEL", d.key(18))
	d.redis("DEL", d.key(19))
	d.redis("RPUSH", d.key(19), "a")
	d.set(900, `{"id":900,"name":"gone","card":"4111"}`)
	d.set(21, `{"id":21,"name":"customer 21","card":"stolen"}`)
	text, code := d.once("-f", file, "--extras")
	for _, part := range []string{"2 stale", "1 missing", "1 of another type", "1 keys without a row", d.key(17), `"name":"customer 17"`, `"name":"somebody else"`, "(no row)", "5 differences", "***"} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q", part)
		}
	}
	for _, secret := range []string{"s3cret", "card-17", "stolen", "4111"} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is shown", secret)
		}
	}
	if code != exitDivergent || t.Failed() {
		t.Errorf("exit code %d:\n%s", code, text)
	}
	text, code = d.once("-f", file, "--json", "--from", "17", "--to", "19")
	document, _, _ := strings.Cut(text, "quiesce: ")
	var got passReport
	if err := json.Unmarshal([]byte(document), &got); err != nil || code != exitDivergent || got.Pass.Counts.Rows != 2 || got.Pass.Counts.Differences != 2 || len(got.Differences) != 2 {
		t.Errorf("exit code %d, %v:\n%s", code, err, text)
	}
	if n := d.cache.Exists(t.Context(), d.key(18)).Val(); n != 0 {
		t.Error("a key was written")
	}
	if text, code := d.once("-f", file, "--sample", "0.3", "--from", "22"); code != 0 || !strings.Contains(text, "with 95% confidence") {
		t.Errorf("exit code %d:\n%s", code, text)
	}
}

func TestReconcileOnce_SaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	d := newDrift(t)
	file := d.file("")
	for _, c := range []struct {
		args []string
		code int
		say  string
	}{
		{[]string{}, exitUsage, "needs -f"},
		{[]string{"-f", d.file("colour: red\n")}, exitUsage, "colour"},
		{[]string{"-f", d.file("key_columns: [name]\n")}, exitUsage, "cannot be used"},
		{[]string{"-f", file, "--extras"}, exitUsage, "owns_prefix"},
		{[]string{"-f", file, "--sample", "2"}, exitUsage, "--sample"},
		{[]string{"-f", file, "--from", "x"}, exitUsage, "--from"},
		{[]string{"-f", file, "--mysql", "u:s3cret@tcp(127.0.0.1:1)/shop"}, exitUnavailable, "MySQL cannot be reached"},
		{[]string{"-f", file, "--mysql", "nonsense s3cret"}, exitUsage, "user:password@tcp(host:port)/database"},
		{[]string{"-f", file, "--redis", "127.0.0.1:1"}, exitUnavailable, "Redis cannot be reached"},
		{[]string{"-f", file, "--redis", "http://u:s3cret@x"}, exitUsage, "redis://"},
	} {
		text, code := d.once(c.args...)
		if code != c.code || !strings.Contains(text, c.say) || strings.Contains(text, "s3cret") {
			t.Errorf("%q: exit code %d, not %d with %q:\n%s", c.args, code, c.code, c.say, text)
		}
	}
	gone := filepath.Join(t.TempDir(), "gone.yaml")
	if err := os.WriteFile(gone, []byte("table: nothing\nprimary_key: [id]\ncolumns: [{name: id}]\nkey: \"x:{id}\"\nencoding: json\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, code := d.once("-f", gone); code != exitFailed || !strings.Contains(text, `no table "nothing"`) {
		t.Errorf("exit code %d:\n%s", code, text)
	}
	d.acl("%R~other:*", "+@read", "+@connection", "+time")
	if text, code := d.once("-f", file); code != exitFailed || !strings.Contains(text, "+@read") {
		t.Errorf("exit code %d:\n%s", code, text)
	}
}
