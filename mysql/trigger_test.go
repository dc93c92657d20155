package mysql_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/quiescehq/quiesce/cluster_test/services"
	"github.com/quiescehq/quiesce/mysql"
)

func (f fixture) schema() *mysql.Schema {
	f.Helper()
	schema, err := mysql.OpenSchema(mysql.Config{Name: "shop", DSN: f.dsn})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { schema.Close() })
	return schema
}

// apply makes the tables and a mapping's triggers.
func (f fixture) apply(spec mysql.TriggerSpec) mysql.TriggerPlan {
	f.Helper()
	schema := f.schema()
	plan, err := schema.PlanTriggers(f.Context(), spec)
	if err != nil {
		f.Fatalf("PlanTriggers: %v", err)
	}
	if err := schema.CreateOutboxTables(f.Context()); err != nil {
		f.Fatal(err)
	}
	if _, err := schema.ApplyTriggers(f.Context(), plan); err != nil {
		f.Fatalf("ApplyTriggers: %v", err)
	}
	return plan
}

// written gives what the triggers wrote, and forgets it: "mapping pk old_key new_key", NULL as a dash.
func (f fixture) written() []string {
	f.Helper()
	rows, err := f.db.QueryContext(f.Context(), "SELECT mapping, IFNULL(pk, '-'), IFNULL(old_key, '-'), IFNULL(new_key, '-') FROM quiesce_outbox ORDER BY id")
	if err != nil {
		f.Fatal(err)
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var mapping string
		keys := make([]string, 3)
		if err := rows.Scan(&mapping, &keys[0], &keys[1], &keys[2]); err != nil {
			f.Fatal(err)
		}
		for i, key := range keys {
			keys[i] = plainKey(f.T, key)
		}
		out = append(out, mapping+" "+strings.Join(keys, " "))
	}
	rows.Close()
	f.exec("DELETE FROM quiesce_outbox")
	return out
}

// plainKey spells an array in one way: servers put different spaces into it. It must hold strings and nulls only.
func plainKey(t *testing.T, key string) string {
	t.Helper()
	if key == "-" {
		return key
	}
	var parts []*string
	if err := json.Unmarshal([]byte(key), &parts); err != nil {
		t.Fatalf("%s is no array of strings: %v", key, err)
	}
	text, _ := json.Marshal(parts)
	return string(text)
}

func (f fixture) wrote(what string, want ...string) {
	f.Helper()
	if got := f.written(); fmt.Sprint(got) != fmt.Sprint(want) {
		f.Errorf("%s: wrote %q, want %q", what, got, want)
	}
}

func TestTriggers_EachKindOfStatementWritesItsKeys(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE items (id BIGINT PRIMARY KEY, v VARCHAR(20) COLLATE utf8mb4_general_ci, other INT DEFAULT 0)")
	f.apply(mysql.TriggerSpec{Mapping: "items", Table: "items", PrimaryKey: []string{"id"}, Columns: []string{"id", "v"}})
	for _, c := range []struct {
		statement string
		want      []string
	}{
		{"INSERT INTO items (id, v) VALUES (1, 'a'), (9007199254740993, NULL)", []string{`items ["1"] - -`, `items ["9007199254740993"] - -`}},
		{"UPDATE items SET v = 'b' WHERE id = 1", []string{`items ["1"] - -`}},
		{"UPDATE items SET v = 'B' WHERE id = 1", []string{`items ["1"] - -`}}, // the same to the collation
		{"UPDATE items SET v = 'B ' WHERE id = 1", []string{`items ["1"] - -`}},
		{"UPDATE items SET v = NULL WHERE id = 1", []string{`items ["1"] - -`}},
		{"UPDATE items SET v = NULL, other = 7 WHERE id = 1", nil}, // nothing that the mapping shows
		{"UPDATE items SET id = 2 WHERE id = 1", []string{`items ["2"] ["1"] -`}},
		{"INSERT INTO items (id, v) VALUES (2, 'x') ON DUPLICATE KEY UPDATE v = VALUES(v)", []string{`items ["2"] - -`}},
		{"REPLACE INTO items (id, v) VALUES (2, 'y')", []string{`items ["2"] - -`, `items ["2"] - -`}},
		{"DELETE FROM items WHERE id = 2", []string{`items ["2"] - -`}},
		{"DELETE FROM items WHERE id = 2", nil},
	} {
		f.exec(c.statement)
		f.wrote(c.statement, c.want...)
	}
}

func TestTriggers_KeyThatIsNotThePrimaryKey(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE order_lines (id BIGINT PRIMARY KEY, order_id BIGINT, n INT)")
	f.apply(mysql.TriggerSpec{Mapping: "orders", Table: "order_lines", PrimaryKey: []string{"id"}, KeyColumns: []string{"order_id"}, EveryUpdate: true})
	for _, c := range []struct {
		statement string
		want      []string
	}{
		{"INSERT INTO order_lines VALUES (1, 10, 0)", []string{`orders - - ["10"]`}},
		{"UPDATE order_lines SET n = 1", []string{`orders - - ["10"]`}},
		{"UPDATE order_lines SET order_id = 11", []string{`orders - ["10"] ["11"]`}},
		{"UPDATE order_lines SET order_id = NULL", []string{`orders - ["11"] [null]`}},
		{"UPDATE order_lines SET n = n", []string{`orders - - [null]`}},
		{"UPDATE order_lines SET order_id = 12", []string{`orders - [null] ["12"]`}},
		{"DELETE FROM order_lines", []string{`orders - ["12"] -`}},
	} {
		f.exec(c.statement)
		f.wrote(c.statement, c.want...)
	}
}

// Whoever fires a trigger has a session of his own, and the keys come out the same.
func TestTriggers_KeysAreTextWhateverTheTypeAndTheSession(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	columns := []struct{ columnType, value, want string }{
		{"BIGINT UNSIGNED", "18446744073709551615", `18446744073709551615`},
		{"TINYINT", "-5", `-5`},
		{"DECIMAL(10,2)", "12.5", `12.50`},
		{"DATE", "'2024-02-29'", `2024-02-29`},
		{"DATETIME(3)", "'2024-02-29 23:59:59.5'", `2024-02-29 23:59:59.500`},
		{"CHAR(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", "'ab'", `ab`},
		{"VARCHAR(30) CHARACTER SET utf8mb4", "0x5A6FC3AB20F09F9AB22022275C", "Zoë 🚲 \"'\\"},
		{"VARCHAR(20) CHARACTER SET latin1", "0x5A6FEB", "Zoë"},
		{"BINARY(4)", "0x00FFAB01", `00ffab01`},
		{"VARBINARY(8)", "0xC3AB", `c3ab`},
	}
	var definitions, key, values, want []string
	for i, c := range columns {
		name := fmt.Sprintf("k%d", i)
		definitions, key, values = append(definitions, name+" "+c.columnType), append(key, name), append(values, c.value)
		text, _ := json.Marshal(c.want)
		want = append(want, string(text))
	}
	f.exec("CREATE TABLE typed (id INT PRIMARY KEY, " + strings.Join(definitions, ", ") + ")")
	f.apply(mysql.TriggerSpec{Mapping: "typed", Table: "typed", PrimaryKey: []string{"id"}, KeyColumns: key})
	expected := "typed - - [" + strings.Join(want, ",") + "]"
	f.db.SetMaxOpenConns(1) // one session for all that follows
	for i, session := range []string{"SET NAMES utf8mb4", "SET NAMES latin1", "SET sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH'", "SET time_zone = '-07:00'", "SET sql_mode = ''"} {
		f.exec(session, fmt.Sprintf("INSERT INTO typed VALUES (%d, %s)", i, strings.Join(values, ", ")), "SET NAMES utf8mb4")
		f.wrote(session, expected)
	}
}

// A key that is too long is the relay's to refuse. The application's statement goes through.
func TestTriggers_KeyThatIsTooLongFailsNobody(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE wide (id INT PRIMARY KEY, k VARCHAR(15000) CHARACTER SET utf8mb4)")
	f.apply(mysql.TriggerSpec{Mapping: "wide", Table: "wide", PrimaryKey: []string{"id"}, KeyColumns: []string{"k"}})
	f.exec("INSERT INTO wide VALUES (1, REPEAT('\"', 15000))")
	if n := f.number("SELECT CHAR_LENGTH(JSON_UNQUOTE(JSON_EXTRACT(new_key, '$[0]'))) FROM quiesce_outbox"); n != 256 {
		t.Errorf("%d characters of the key were kept; 256 are seen to be too many", n)
	}
}

func TestTriggers_RolledBackTransactionLeavesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE items (id BIGINT PRIMARY KEY)")
	f.apply(mysql.TriggerSpec{Mapping: "items", Table: "items", PrimaryKey: []string{"id"}})
	tx, err := f.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec("INSERT INTO items VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	f.wrote("rollback")
}

func TestTriggers_ManyMappingsOfOneTable(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE items (id BIGINT PRIMARY KEY, v INT)")
	long := strings.Repeat("m", 63)
	other := long[:62] + "n"
	for _, name := range []string{"a", long, other} {
		plan := f.apply(mysql.TriggerSpec{Mapping: name, Table: "items", PrimaryKey: []string{"id"}, Columns: []string{"v"}})
		for _, trigger := range plan.Triggers {
			if len(trigger.Name) > 63 { // and one letter more for its stand-in
				t.Errorf("name %s has %d bytes", trigger.Name, len(trigger.Name))
			}
		}
	}
	f.exec("INSERT INTO items VALUES (1, 1)")
	f.wrote("insert", `a ["1"] - -`, long+` ["1"] - -`, other+` ["1"] - -`)
	schema := f.schema()
	if err := schema.DropTriggers(t.Context(), long); err != nil {
		t.Fatal(err)
	}
	f.exec("UPDATE items SET v = 2")
	f.wrote("after one is dropped", `a ["1"] - -`, other+` ["1"] - -`)
	if left, err := schema.OutboxTriggers(t.Context()); err != nil || len(left) != 6 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestTriggers_AppliedAgainAreReplacedOnlyWhereTheyDiffer(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE items (id BIGINT PRIMARY KEY, a INT, b INT)")
	spec := mysql.TriggerSpec{Mapping: "items", Table: "items", PrimaryKey: []string{"id"}, Columns: []string{"a"}}
	plan := f.apply(spec)
	schema := f.schema()
	if made, err := schema.ApplyTriggers(t.Context(), plan); err != nil || len(made) != 0 {
		t.Errorf("the same again: made %v, %v", made, err)
	}
	spec.Columns = []string{"a", "b"}
	plan, err := schema.PlanTriggers(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if made, err := schema.ApplyTriggers(t.Context(), plan); err != nil || fmt.Sprint(made) != "[quiesce_items_au]" {
		t.Errorf("made %v, %v", made, err)
	}
	f.exec("INSERT INTO items VALUES (1, 1, 1)", "DELETE FROM quiesce_outbox", "UPDATE items SET b = 2")
	f.wrote("update of the new column", `items ["1"] - -`)
	if left, err := schema.OutboxTriggers(t.Context()); err != nil || len(left) != 3 {
		t.Errorf("triggers: %v, %v", left, err)
	}
}

func TestTriggers_WhatTheyMissIsNamed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE parents (id INT PRIMARY KEY)", "CREATE TABLE items (id INT PRIMARY KEY, p INT, q INT, CONSTRAINT by_p FOREIGN KEY (p) REFERENCES parents (id) ON DELETE CASCADE, CONSTRAINT by_q FOREIGN KEY (q) REFERENCES parents (id))")
	plan := f.apply(mysql.TriggerSpec{Mapping: "items", Table: "items", PrimaryKey: []string{"id"}})
	if len(plan.Cascades) != 1 || plan.Cascades[0].Constraint != "by_p" || plan.Cascades[0].Parent != "parents" || plan.Cascades[0].OnDelete != "CASCADE" {
		t.Errorf("cascades %+v", plan.Cascades)
	}
	f.exec("INSERT INTO parents VALUES (1)", "INSERT INTO items VALUES (1, 1, NULL)", "DELETE FROM quiesce_outbox", "DELETE FROM parents")
	f.wrote("a cascade, as the warning says") // should a server begin to fire them, the warning may go
}

func TestTriggers_WhatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE items (id INT PRIMARY KEY, f FLOAT)")
	schema := f.schema()
	for _, c := range []struct {
		spec mysql.TriggerSpec
		want error
	}{
		{mysql.TriggerSpec{Mapping: "m", Table: "none", PrimaryKey: []string{"id"}}, mysql.ErrTableChanged},
		{mysql.TriggerSpec{Mapping: "m", Table: "items", PrimaryKey: []string{"nope"}}, mysql.ErrTableChanged},
		{mysql.TriggerSpec{Mapping: "m", Table: "items", PrimaryKey: []string{"id"}, Columns: []string{"nope"}}, mysql.ErrTableChanged},
		{mysql.TriggerSpec{Mapping: "m", Table: "items", PrimaryKey: []string{"id"}, KeyColumns: []string{"f"}}, mysql.ErrTrigger},
		{mysql.TriggerSpec{Mapping: "m", Table: "items"}, mysql.ErrTrigger},
	} {
		if _, err := schema.PlanTriggers(t.Context(), c.spec); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v, want %v", c.spec, err, c.want)
		}
	}
}

// What triggers cost a connection that inserts row by row, each in its own transaction.
func BenchmarkTriggers_Inserts(b *testing.B) {
	for _, with := range []bool{false, true} {
		b.Run(fmt.Sprintf("triggers=%v", with), func(b *testing.B) {
			dsn := services.Require(b).MySQLDSN
			db, err := sql.Open("mysql", dsn)
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			db.SetMaxOpenConns(1)
			if _, err := db.Exec("CREATE TABLE items (id BIGINT PRIMARY KEY, v VARCHAR(100))"); err != nil {
				b.Fatal(err)
			}
			if with {
				withTriggers(b, dsn)
			}
			for i := 0; b.Loop(); i++ {
				if _, err := db.Exec("INSERT INTO items VALUES (?, 'some value of a row')", i); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "inserts/s")
		})
	}
}

func withTriggers(b *testing.B, dsn string) {
	schema, err := mysql.OpenSchema(mysql.Config{Name: "shop", DSN: dsn})
	if err != nil {
		b.Fatal(err)
	}
	defer schema.Close()
	plan, err := schema.PlanTriggers(b.Context(), mysql.TriggerSpec{Mapping: "items", Table: "items", PrimaryKey: []string{"id"}, Columns: []string{"v"}})
	if err == nil {
		err = schema.CreateOutboxTables(b.Context())
	}
	if err == nil {
		_, err = schema.ApplyTriggers(b.Context(), plan)
	}
	if err != nil {
		b.Fatal(err)
	}
}
