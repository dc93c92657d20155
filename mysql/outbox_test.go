package mysql_test

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/quiescehq/quiesce/mysql"
)

// outboxFixture has the quiesce tables and a source that uses them.
type outboxFixture struct {
	fixture
	outbox *mysql.OutboxSource
}

func newOutbox(t *testing.T) outboxFixture {
	t.Helper()
	f := newFixture(t)
	f.exec(mysql.OutboxTables...)
	return outboxFixture{fixture: f, outbox: openOutbox(t, f.dsn)}
}

func openOutbox(t *testing.T, dsn string) *mysql.OutboxSource {
	t.Helper()
	outbox, err := mysql.OpenOutbox(mysql.Config{Name: "shop", DSN: dsn, QueryTimeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { outbox.Close() })
	return outbox
}

func (f outboxFixture) read(limit int) mysql.OutboxBatch {
	f.Helper()
	batch, err := f.outbox.Read(f.Context(), limit)
	if err != nil {
		f.Fatalf("Read: %v", err)
	}
	return batch
}

func (f fixture) number(query string, args ...any) (n int) {
	f.Helper()
	if err := f.db.QueryRowContext(f.Context(), query, args...).Scan(&n); err != nil {
		f.Fatalf("%s: %v", query, err)
	}
	return n
}

func TestOutboxTables_TwiceChangesNothing(t *testing.T) {
	t.Parallel()
	f := newOutbox(t)
	f.exec("INSERT INTO quiesce_outbox (mapping, pk) VALUES ('m', '[\"1\"]')")
	f.exec(mysql.OutboxTables...)
	if err := f.schema().CreateOutboxTables(t.Context()); err != nil {
		t.Error(err)
	}
	if n := f.number("SELECT COUNT(*) FROM quiesce_outbox"); n != 1 {
		t.Errorf("%d rows after the second time", n)
	}
}

func TestOutboxTables_AreDroppedOnlyWhenAllAreEmpty(t *testing.T) {
	t.Parallel()
	f := newOutbox(t)
	f.exec("INSERT INTO quiesce_refused (id, mapping, reason) VALUES (1, 'm', 'r')")
	schema := f.schema()
	if held, err := schema.DropOutboxTables(t.Context()); err != nil || held != "quiesce_refused" {
		t.Errorf("%q, %v; want the table that is not empty", held, err)
	}
	f.exec("DELETE FROM quiesce_refused")
	for range 2 { // the second time there is nothing
		if held, err := schema.DropOutboxTables(t.Context()); err != nil || held != "" {
			t.Errorf("%q, %v", held, err)
		}
	}
	if n := f.number("SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()"); n != 0 {
		t.Errorf("%d tables are left", n)
	}
}

func TestOutboxRead_GivesTheFirstRowsAsWritten(t *testing.T) {
	t.Parallel()
	f := newOutbox(t)
	if batch := f.read(10); len(batch.Rows) != 0 || batch.Oldest != 0 {
		t.Errorf("an empty table: %+v", batch)
	}
	f.exec(`INSERT INTO quiesce_outbox (mapping, pk, old_key, new_key, created_at) VALUES ('m', '["1"]', NULL, '["Zoë 🚲"]', CURRENT_TIMESTAMP(3) - INTERVAL 90 SECOND)`,
		"INSERT INTO quiesce_outbox (mapping, pk) VALUES ('n', REPEAT('x', 9000))", "INSERT INTO quiesce_outbox (mapping) VALUES ('o')")
	batch := f.read(2)
	want := []mysql.OutboxRow{{ID: 1, Mapping: "m", PK: []byte(`["1"]`), NewKey: []byte(`["Zoë 🚲"]`)}, {ID: 2, Mapping: "n", TooLong: true}}
	if fmt.Sprint(batch.Rows) != fmt.Sprint(want) {
		t.Errorf("read %v, want %v", batch.Rows, want)
	}
	if batch.Oldest < 89*time.Second || batch.Oldest > 10*time.Minute {
		t.Errorf("the oldest is %v old", batch.Oldest)
	}
	if err := f.outbox.Delete(t.Context(), []uint64{1, 2, 77}); err != nil {
		t.Fatal(err)
	}
	if rows := f.read(2).Rows; len(rows) != 1 || rows[0].ID != 3 || rows[0].PK != nil {
		t.Errorf("after the deletion: %+v", rows)
	}
}

func TestOutboxRead_SeesOnlyWhatIsCommitted(t *testing.T) {
	t.Parallel()
	f := newOutbox(t)
	tx, err := f.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec("INSERT INTO quiesce_outbox (mapping) VALUES ('m')"); err != nil {
		t.Fatal(err)
	}
	if rows := f.read(10).Rows; len(rows) != 0 {
		t.Errorf("an open transaction's row was read: %+v", rows)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if rows := f.read(10).Rows; len(rows) != 1 {
		t.Errorf("after the commit: %+v", rows)
	}
}

// What is removed or refused is most of a table, or all of it but what an application has not committed yet. Nothing waits for that: with a scan of the table
// each of these would wait until its time is over.
func TestOutbox_NothingWaitsForRowsThatAreNotCommitted(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 5, 100, mysql.OutboxRowsMax} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			f := newOutbox(t)
			open, err := f.db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer open.Rollback()
			uncommitted := func() {
				t.Helper()
				if _, err := open.Exec("INSERT INTO quiesce_outbox (mapping) VALUES ('open')"); err != nil {
					t.Fatal(err)
				}
			}
			fill := func() (ids []uint64) {
				t.Helper()
				f.exec("INSERT INTO quiesce_outbox (mapping) VALUES " + strings.TrimSuffix(strings.Repeat("('m'),", n), ","))
				for _, row := range f.read(n).Rows {
					ids = append(ids, row.ID)
				}
				return ids
			}
			uncommitted()
			ids := fill()
			uncommitted()
			began := time.Now()
			if err := f.outbox.Delete(t.Context(), ids); err != nil {
				t.Fatalf("delete: %v after %s", err, time.Since(began))
			}
			var refusals []mysql.Refusal
			for _, id := range fill() {
				refusals = append(refusals, mysql.Refusal{ID: id, Reason: "test"})
			}
			uncommitted()
			if err := f.outbox.Refuse(t.Context(), refusals); err != nil {
				t.Fatalf("refuse: %v after %s", err, time.Since(began))
			}
			if left := f.read(min(n+1, mysql.OutboxRowsMax)).Rows; len(left) != 0 {
				t.Errorf("%d rows are left", len(left))
			}
			if err := open.Commit(); err != nil {
				t.Fatal(err)
			}
			if left := f.read(10).Rows; len(left) != 3 {
				t.Errorf("%d of 3 rows of the open transaction are there", len(left))
			}
		})
	}
}

// However long the table is, a reading ends after its limit: along the primary key, without sorting.
func TestOutboxRead_GoesAlongThePrimaryKeyOnly(t *testing.T) {
	t.Parallel()
	f := newOutbox(t)
	f.exec("INSERT INTO quiesce_outbox (mapping, pk) SELECT 'm', '[\"1\"]' FROM information_schema.COLLATIONS a, information_schema.COLLATIONS b LIMIT 5000")
	f.exec("ANALYZE TABLE quiesce_outbox")
	conn, err := f.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	handlers := func() (all map[string]int) {
		all = map[string]int{}
		rows, err := conn.QueryContext(t.Context(), "SHOW SESSION STATUS WHERE Variable_name LIKE 'Handler_read%' OR Variable_name LIKE 'Sort_%'")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var name string
			var n int
			if err := rows.Scan(&name, &n); err != nil {
				t.Fatal(err)
			}
			all[name] = n
		}
		return all
	}
	before := handlers()
	rows, err := conn.QueryContext(t.Context(), mysql.SelectOutbox, 8192, 8192, 8192, 8192, 10)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for rows.Next() {
		n++
	}
	if rows.Close(); n != 10 {
		t.Fatalf("%d rows", n)
	}
	after := handlers()
	read := 0
	for name := range after {
		if strings.HasPrefix(name, "Handler_read") {
			read += after[name] - before[name]
		}
	}
	if read > 100 {
		t.Errorf("%d rows were looked at for 10 of 5000", read)
	}
}

func TestOutboxRefuse_MovesRowsWithTheirReason(t *testing.T) {
	t.Parallel()
	f := newOutbox(t)
	f.exec(`INSERT INTO quiesce_outbox (mapping, pk, old_key, new_key, created_at) VALUES ('m', 'a', 'b', 'c', '2024-02-29 12:00:00.123'), ('n', 'd', NULL, NULL, '2024-02-29 12:00:00.456'), ('o', 'e', NULL, NULL, '2024-02-29 12:00:01')`)
	long := strings.Repeat("Ω", 600) + "\xff"
	if err := f.outbox.Refuse(t.Context(), []mysql.Refusal{{ID: 1, Reason: "it's wrong"}, {ID: 2, Reason: long}, {ID: 99, Reason: "is gone"}}); err != nil {
		t.Fatal(err)
	}
	if n := f.number("SELECT COUNT(*) FROM quiesce_refused WHERE id = 1 AND mapping = 'm' AND pk = 'a' AND old_key = 'b' AND new_key = 'c' AND reason = 'it''s wrong' AND MICROSECOND(created_at) = 123000"); n != 1 {
		t.Error("the first row was not moved as it was")
	}
	if n := f.number("SELECT COUNT(*) FROM quiesce_refused WHERE id = 2 AND old_key IS NULL AND CHAR_LENGTH(reason) = 500"); n != 1 {
		t.Error("the second row was not moved, or its reason not cut")
	}
	if rows := f.read(10).Rows; len(rows) != 1 || rows[0].ID != 3 {
		t.Errorf("left: %+v", rows)
	}
}

// An earlier leader may still be at work.
func TestOutboxRefuse_TwoLeadersMoveARowOnce(t *testing.T) {
	t.Parallel()
	f := newOutbox(t)
	var refusals []mysql.Refusal
	for id := range uint64(50) {
		f.exec("INSERT INTO quiesce_outbox (mapping) VALUES ('m')")
		refusals = append(refusals, mysql.Refusal{ID: id + 1, Reason: "r"})
	}
	other := openOutbox(t, f.dsn)
	var both sync.WaitGroup
	for _, leader := range []*mysql.OutboxSource{f.outbox, other} {
		both.Go(func() {
			for chunk := range slices.Chunk(refusals, 5) {
				if err := leader.Refuse(t.Context(), chunk); err != nil {
					t.Error(err)
				}
			}
		})
	}
	both.Wait()
	if n, left := f.number("SELECT COUNT(*) FROM quiesce_refused"), f.number("SELECT COUNT(*) FROM quiesce_outbox"); n != 50 || left != 0 {
		t.Errorf("%d moved and %d left of 50", n, left)
	}
}

func TestOutbox_MissingTablesNameTheCommandThatPrintsThem(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	outbox := openOutbox(t, f.dsn)
	_, readErr := outbox.Read(t.Context(), 1)
	_, probeErr := outbox.Probe(t.Context(), "c.p1")
	_, purgeErr := outbox.PurgeFences(t.Context(), mysql.FencePurge{})
	for _, err := range []error{readErr, probeErr, purgeErr, outbox.Delete(t.Context(), []uint64{1}), outbox.Refuse(t.Context(), []mysql.Refusal{{ID: 1}})} {
		if !errors.Is(err, mysql.ErrNoTables) || !strings.Contains(err.Error(), "quiesce sync tables") {
			t.Errorf("%v, want ErrNoTables", err)
		}
	}
}

func TestOutbox_LimitsAreHeld(t *testing.T) {
	t.Parallel()
	f := newOutbox(t)
	many := make([]uint64, mysql.OutboxRowsMax+1)
	_, none := f.outbox.Read(t.Context(), 0)
	_, tooMany := f.outbox.Read(t.Context(), mysql.OutboxRowsMax+1)
	for _, err := range []error{none, tooMany, f.outbox.Delete(t.Context(), many), f.outbox.Refuse(t.Context(), make([]mysql.Refusal, len(many)))} {
		if !errors.Is(err, mysql.ErrBatchTooLarge) {
			t.Errorf("%v, want ErrBatchTooLarge", err)
		}
	}
	if err := f.outbox.Delete(t.Context(), many[1:]); err != nil {
		t.Errorf("as many as may be: %v", err)
	}
	if err := errors.Join(f.outbox.Delete(t.Context(), nil), f.outbox.Refuse(t.Context(), nil)); err != nil {
		t.Errorf("none: %v", err)
	}
}

// The printed grants are enough, and the account can do nothing else.
func TestOutboxGrants_AreEnoughAndNoMore(t *testing.T) {
	t.Parallel()
	f := newOutbox(t)
	f.exec("CREATE TABLE secret (id INT PRIMARY KEY)", "INSERT INTO quiesce_outbox (mapping) VALUES ('m'), ('n')")
	cfg, err := driver.ParseDSN(f.dsn)
	if err != nil {
		t.Fatal(err)
	}
	user := "u" + strings.TrimPrefix(cfg.DBName, "q_")
	for _, grant := range mysql.OutboxGrants(cfg.DBName) {
		if !strings.Contains(grant, "quiesce_outbox'@") {
			continue
		}
		grant = strings.ReplaceAll(grant, "'quiesce_outbox'@", "'"+user+"'@")
		f.exec(strings.ReplaceAll(grant, "'...'", "'s3cret'"))
	}
	t.Cleanup(func() {
		if _, err := f.db.Exec("DROP USER '" + user + "'@'%'"); err != nil {
			t.Error(err)
		}
	})
	cfg.User, cfg.Passwd = user, "s3cret"
	outbox := openOutbox(t, cfg.FormatDSN())
	if batch, err := outbox.Read(t.Context(), 10); err != nil || len(batch.Rows) != 2 {
		t.Errorf("Read: %+v, %v", batch, err)
	}
	_, probeErr := outbox.Probe(t.Context(), "c.p1")
	_, again := outbox.Probe(t.Context(), "c.p1")
	_, purgeErr := outbox.PurgeFences(t.Context(), mysql.FencePurge{Keep: func(string) int { return mysql.FenceOver }})
	for what, err := range map[string]error{"Refuse": outbox.Refuse(t.Context(), []mysql.Refusal{{ID: 1, Reason: "r"}}), "Delete": outbox.Delete(t.Context(), []uint64{2}),
		"Probe": probeErr, "Probe again": again, "PurgeFences": purgeErr} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n := f.number("SELECT COUNT(*) FROM quiesce_fence"); n != 0 {
		t.Errorf("%d fences are left", n)
	}
	db, err := sql.Open("mysql", cfg.FormatDSN())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range []string{"SELECT * FROM secret", "DROP TABLE quiesce_outbox", "DELETE FROM quiesce_refused", "CREATE TABLE mine (id INT)"} {
		if _, err := db.Exec(statement); err == nil {
			t.Errorf("the account may %s", statement)
		}
	}
}
