package mysql_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/cluster_test/services"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
)

// Each case is a value that some layer between the disk and here is known to change.
func TestRead_ValuesAreTheServersOwnText(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	cases := []struct{ name, columnType, value, want string }{
		{"float beyond six digits", "FLOAT", "16777217", `16777216`}, // the nearest float; the server alone would print 16777200
		{"float fraction", "FLOAT", "1.00000012", `1.0000001192092896`},
		{"float with scale", "FLOAT(7,3)", "1.5", `1.5`},
		{"double", "DOUBLE", "0.1", `0.1`},
		{"double exponent", "DOUBLE", "1e20", `1e20`}, // Go would print 1e+20
		{"double smallest", "DOUBLE", "-1.7976931348623157e308", `-1.7976931348623157e308`},
		{"bigint beyond a double", "BIGINT", "9007199254740993", `9007199254740993`},
		{"bigint smallest", "BIGINT", "-9223372036854775808", `-9223372036854775808`},
		{"bigint unsigned largest", "BIGINT UNSIGNED", "18446744073709551615", `18446744073709551615`},
		{"mediumint unsigned", "MEDIUMINT UNSIGNED", "16777215", `16777215`},
		{"bool", "BOOL", "TRUE", `1`},
		{"decimal keeps its scale", "DECIMAL(10,2)", "12.5", `12.50`},
		{"decimal long", "DECIMAL(65,30)", "12345678901234567890.123456789012345678901234567890", `12345678901234567890.123456789012345678901234567890`},
		{"utf8mb4", "VARCHAR(20) CHARACTER SET utf8mb4", "'Ωmega 🚲'", `"Ωmega 🚲"`},
		{"latin1 is converted", "VARCHAR(20) CHARACTER SET latin1", "'Zoë'", `"Zoë"`},
		{"char is not padded", "CHAR(10)", "'ab'", `"ab"`},
		{"quotes and markup", "TEXT", `'"<&>\\'`, `"\"<&>\\"`},
		{"null", "VARCHAR(20)", "NULL", `null`},
		{"empty is not null", "VARCHAR(20)", "''", `""`},
		{"datetime", "DATETIME(6)", "'2024-02-29 23:59:59.000001'", `"2024-02-29 23:59:59.000001"`},
		{"zero date", "DATE", "'0000-00-00'", `"0000-00-00"`},
		{"zero datetime", "DATETIME", "'0000-00-00 00:00:00'", `"0000-00-00 00:00:00"`},
		{"negative time", "TIME", "'-838:59:59'", `"-838:59:59"`},
		{"timestamp is utc", "TIMESTAMP NULL", "'2024-07-01 14:00:00'", `"2024-07-01 12:00:00"`}, // written at +02:00
		{"year", "YEAR", "2024", `"2024"`},
		{"year zero", "YEAR", "0000", `"0000"`},
		{"enum", "ENUM('new','paid, sent')", "'paid, sent'", `"paid, sent"`},
		{"set", "SET('a','b')", "'a,b'", `"a,b"`},
		{"json is embedded as read", "JSON", `'{"b": 1.10, "a": []}'`, `{"b": 1.10, "a": []}`},
		{"json in longtext is a string", "LONGTEXT", `'{"b": 1}'`, `"{\"b\": 1}"`},
	}
	var definitions, names, values, want []string
	for i, c := range cases {
		name := fmt.Sprintf("c%d", i)
		definitions = append(definitions, name+" "+c.columnType)
		names = append(names, name)
		values = append(values, c.value)
		want = append(want, fmt.Sprintf("%q:%s", name, c.want))
	}
	conn, err := f.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, statement := range []string{
		"SET time_zone = '+02:00', sql_mode = ''", // an application's session, not ours
		"CREATE TABLE every (id INT PRIMARY KEY, " + strings.Join(definitions, ", ") + ")",
		"INSERT INTO every VALUES (1, " + strings.Join(values, ", ") + ")",
	} {
		if _, err := conn.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	m := f.compile("every", []string{"id"}, names...)
	got := render(t, m, f.both(t.Context(), m, "1"))
	for i, c := range cases {
		if !strings.Contains(got, want[i]) {
			t.Errorf("%s: the value lacks %s", c.name, want[i])
		}
	}
	if t.Failed() {
		t.Log(got)
	}
}

func TestRead_AlteredFloatingColumnLosesNoDigits(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE m (id INT PRIMARY KEY, v DOUBLE)", "INSERT INTO m VALUES (1, 16777216)")
	m := f.compile("m", []string{"id"}, "v")
	f.exec("ALTER TABLE m MODIFY v FLOAT")
	if got := render(t, m, f.both(t.Context(), m, "1")); got != `{"v":16777216}` {
		t.Errorf("value = %s", got)
	}
}

func TestReadRows_KeysThatADoubleCannotTellApartStayApart(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE b (id BIGINT UNSIGNED PRIMARY KEY, v INT)", "INSERT INTO b VALUES (9007199254740993, 3), (18446744073709551615, 5)")
	m := f.compile("b", []string{"id"}, "v")
	found, err := f.source.ReadRows(t.Context(), m, [][]string{{"9007199254740992"}, {"9007199254740993"}, {"9007199254740994"}, {"18446744073709551615"}, {"18446744073709551614"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 2 || found[`["9007199254740993"]`] == nil || found[`["18446744073709551615"]`] == nil {
		t.Errorf("found %v", found)
	}
}

func TestReadRows_CompositeKeyIsOnePairAndNotACrossProduct(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	// The key's order differs from the columns' on purpose.
	f.exec("CREATE TABLE line (pos INT, v VARCHAR(9), `or``der` BIGINT, PRIMARY KEY (`or``der`, pos))", "INSERT INTO line VALUES (2,'a',1), (1,'b',2), (2,'c',2), (-7,'d',-9)")
	spec := specOf("line", []string{"or`der", "pos"}, "v")
	columns, err := f.source.Columns(t.Context(), "line")
	if err != nil {
		t.Fatal(err)
	}
	m, err := mapping.Compile(spec, 1, columns)
	if err != nil {
		t.Fatal(err)
	}
	found, err := f.source.ReadRows(t.Context(), m, [][]string{{"1", "2"}, {"2", "1"}, {"1", "1"}, {"-9", "-7"}})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{`["1","2"]`: "a", `["2","1"]`: "b", `["-9","-7"]`: "d"}
	if len(found) != len(want) {
		t.Errorf("found %d rows, want %d", len(found), len(want))
	}
	for pk, v := range want {
		if row := found[pk]; row == nil || string(row.Values[0].Bytes) != v {
			t.Errorf("row %s = %v, want %s", pk, row, v)
		}
	}
}

func TestReadChunk_VisitsEveryRowOnceInKeyOrder(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	// The second index covers the statement and is in another order: without ORDER BY the server would take it.
	f.exec("CREATE TABLE k (a INT, b BIGINT UNSIGNED, c SMALLINT, v INT, pad VARCHAR(200) DEFAULT REPEAT('x', 200), PRIMARY KEY (a, b, c), KEY (v))")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var values []string
	for range 400 {
		values = append(values, fmt.Sprintf("(%d, %d, %d, %d)", rng.IntN(5)-2, rng.IntN(6), rng.IntN(12)-6, rng.IntN(99)))
	}
	f.exec("INSERT IGNORE INTO k (a, b, c, v) VALUES " + strings.Join(values, ","))
	var want []string
	rows, err := f.db.QueryContext(t.Context(), "SELECT CONCAT('[\"', a, '\",\"', b, '\",\"', c, '\"]') FROM k ORDER BY a, b, c")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var pk string
		if err := rows.Scan(&pk); err != nil {
			t.Fatal(err)
		}
		want = append(want, pk)
	}
	m := f.compile("k", []string{"a", "b", "c"}, "v")
	for _, limit := range []int{1, 7, len(want), mysql.ChunkRowsMax} {
		if got := f.walk(m, limit); !slices.Equal(got, want) {
			t.Errorf("limit %d: visited %d rows, want %d in key order", limit, len(got), len(want))
		}
	}
}

func (f fixture) walk(m *mapping.Mapping, limit int) []string {
	f.Helper()
	var visited []string
	var after []string
	for {
		chunk, err := f.source.ReadChunk(f.Context(), m, after, limit)
		if err != nil {
			f.Fatalf("ReadChunk: %v", err)
		}
		if len(chunk) == 0 {
			return visited
		}
		for _, row := range chunk {
			visited = append(visited, mapping.EncodeKey(row.PK))
		}
		after = chunk[len(chunk)-1].PK
	}
}

func TestRead_StatementsUseThePrimaryIndex(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE wide (a INT, b INT, v INT, PRIMARY KEY (a, b))", "CREATE TABLE d (n INT)", "INSERT INTO d VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)",
		"INSERT INTO wide SELECT x.n * 10 + y.n, z.n * 10 + w.n, 0 FROM d x, d y, d z, d w", "ANALYZE TABLE wide")
	m := f.compile("wide", []string{"a", "b"}, "v")
	for name, statement := range map[string]string{
		"rows":  mysql.SelectRows(m, [][]string{{"3", "4"}, {"50", "60"}, {"99", "99"}}),
		"chunk": mysql.SelectChunk(m, mysql.Part{}, []string{"50", "60"}, 100),
		"range": mysql.SelectChunk(m, mysql.Part{From: []string{"50", "60"}, To: []string{"52", "7"}}, nil, 100),
		"place": mysql.SelectPlace(m, mysql.Part{To: []string{"52", "7"}}, []string{"50", "60"}, 50),
	} {
		rows, err := f.db.QueryContext(t.Context(), "EXPLAIN "+statement)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var plan []string
		columns, _ := rows.Columns()
		for rows.Next() {
			line := make([]*string, len(columns))
			dest := make([]any, len(columns))
			for i := range line {
				dest[i] = &line[i]
			}
			if err := rows.Scan(dest...); err != nil {
				t.Fatal(err)
			}
			text := ""
			for i, cell := range line {
				if cell != nil {
					text += columns[i] + "=" + *cell + " "
				}
			}
			plan = append(plan, text)
		}
		if all := strings.Join(plan, "\n"); !strings.Contains(all, "type=range possible_keys=PRIMARY key=PRIMARY") {
			t.Errorf("%s: no range read of the primary key:\n%s", name, all)
		}
	}
}

func TestRead_ChangedTableIsNeverAMissingRow(t *testing.T) {
	t.Parallel()
	cases := map[string]string{
		"table dropped":                    "DROP TABLE o",
		"value column dropped":             "ALTER TABLE o DROP COLUMN v",
		"key column renamed":               "ALTER TABLE o CHANGE id oid INT",
		"integer became a float":           "ALTER TABLE o MODIFY v FLOAT",
		"integer became text":              "ALTER TABLE o MODIFY v VARCHAR(9)",
		"text became binary":               "ALTER TABLE o MODIFY s VARBINARY(9)",
		"text became a number":             "ALTER TABLE o MODIFY s DECIMAL(5,2)",
		"decimal became a double":          "ALTER TABLE o MODIFY d DOUBLE",
		"integer key became a decimal key": "ALTER TABLE o MODIFY id DECIMAL(10,2)",
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.exec("CREATE TABLE o (id INT PRIMARY KEY, v INT, s VARCHAR(9), d DECIMAL(5,2))", "INSERT INTO o VALUES (1, 2, '3', 4.5)")
			m := f.compile("o", []string{"id"}, "v", "s", "d")
			f.exec(change)
			if found, err := f.source.ReadRows(t.Context(), m, [][]string{{"1"}, {"2"}}); !errors.Is(err, mysql.ErrTableChanged) || found != nil {
				t.Errorf("ReadRows = %v, %v; want ErrTableChanged", found, err)
			}
			if chunk, err := f.source.ReadChunk(t.Context(), m, nil, 10); !errors.Is(err, mysql.ErrTableChanged) || chunk != nil {
				t.Errorf("ReadChunk = %v, %v; want ErrTableChanged", chunk, err)
			}
		})
	}
}

// One server of its own, for read_only is a global variable and stopping a shared server would be rude.
func TestRead_NoProofLeavesTheWholeBatchUnknown(t *testing.T) {
	t.Parallel()
	own := services.Own(t)
	f := fixtureOn(t, own.MySQLDSN)
	f.exec("CREATE TABLE o (id INT PRIMARY KEY, v INT)", "INSERT INTO o VALUES (1, 2)", "CREATE TABLE nothing (id INT PRIMARY KEY, v INT)")
	m, empty := f.compile("o", []string{"id"}, "v"), f.compile("nothing", []string{"id"}, "v")
	all := func(t *testing.T, want error) {
		t.Helper()
		for _, reading := range []*mapping.Mapping{m, empty} {
			if found, err := f.source.ReadRows(t.Context(), reading, [][]string{{"1"}, {"2"}}); !errors.Is(err, want) || (err != nil && found != nil) {
				t.Errorf("ReadRows = %v, %v; want error %v", found, err, want)
			}
			if chunk, err := f.source.ReadChunk(t.Context(), reading, nil, 10); !errors.Is(err, want) || (err != nil && chunk != nil) {
				t.Errorf("ReadChunk = %v, %v; want error %v", chunk, err, want)
			}
		}
	}
	all(t, nil)
	f.exec("SET GLOBAL read_only = 1")
	all(t, mysql.ErrNotPrimary)
	if id, err := f.source.Identity(t.Context()); err != nil || !id.ReadOnly {
		t.Errorf("Identity = %+v, %v; want read-only", id, err)
	}
	if _, err := f.source.Check(t.Context(), m.Spec()); !errors.Is(err, mysql.ErrNotPrimary) {
		t.Errorf("Check = %v, want ErrNotPrimary", err)
	}
	f.exec("SET GLOBAL read_only = 0")
	all(t, nil)
	f.exec("SET GLOBAL autocommit = 0")
	var autocommit string
	later := open(t, mysql.Config{Name: "shop", DSN: own.MySQLDSN})
	if err := later.Pool().QueryRowContext(t.Context(), "SELECT @@autocommit").Scan(&autocommit); err != nil || autocommit != "1" {
		t.Errorf("autocommit = %s, %v; want 1, or the first read would hold its transaction open", autocommit, err)
	}
	own.StopMySQL()
	all(t, mysql.ErrUnreachable)
	own.StartMySQL()
	all(t, nil)
	own.KillMySQL()
	all(t, mysql.ErrUnreachable)
}

func TestRead_BlockedServerIsUnreachableWithinTheQueryTimeout(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE o (id INT PRIMARY KEY, v INT)")
	m := f.compile("o", []string{"id"}, "v")
	impatient := open(t, mysql.Config{Name: "shop", DSN: f.dsn, QueryTimeout: 300 * time.Millisecond})
	conn, err := f.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(t.Context(), "LOCK TABLES o WRITE"); err != nil {
		t.Fatal(err)
	}
	if _, err := impatient.ReadRow(t.Context(), m, []string{"1"}); !errors.Is(err, mysql.ErrUnreachable) {
		t.Errorf("blocked read = %v, want ErrUnreachable", err)
	}
	given := errors.New("lost the leadership")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(given)
	if _, err := impatient.ReadRow(ctx, m, []string{"1"}); !errors.Is(err, given) || errors.Is(err, mysql.ErrUnreachable) {
		t.Errorf("cancelled read = %v, want the caller's own reason and no verdict", err)
	}
}

func TestRead_LimitsHoldAtNAndRefuseBeyond(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE o (id INT PRIMARY KEY, v VARCHAR(1000))")
	for id := range 4 {
		f.exec(fmt.Sprintf("INSERT INTO o VALUES (%d, REPEAT('x', 999))", id)) // 1,000 bytes a row with its key
	}
	m := f.compile("o", []string{"id"}, "v")
	pks := make([][]string, mysql.BatchRowsMax+1)
	for i := range pks {
		pks[i] = []string{fmt.Sprint(i)}
	}
	if found, err := f.source.ReadRows(t.Context(), m, pks[:mysql.BatchRowsMax]); err != nil || len(found) != 4 {
		t.Errorf("%d keys: %d rows, %v", mysql.BatchRowsMax, len(found), err)
	}
	if _, err := f.source.ReadRows(t.Context(), m, pks); !errors.Is(err, mysql.ErrBatchTooLarge) {
		t.Errorf("%d keys: %v, want ErrBatchTooLarge", len(pks), err)
	}
	for _, limit := range []int{0, -1, mysql.ChunkRowsMax + 1} {
		if _, err := f.source.ReadChunk(t.Context(), m, nil, limit); !errors.Is(err, mysql.ErrBatchTooLarge) {
			t.Errorf("limit %d: %v, want ErrBatchTooLarge", limit, err)
		}
	}
	f.source.SetReadBytesMax(4_000)
	if found, err := f.source.ReadRows(t.Context(), m, pks[:4]); err != nil || len(found) != 4 {
		t.Errorf("4,000 bytes: %d rows, %v", len(found), err)
	}
	f.source.SetReadBytesMax(3_999)
	if _, err := f.source.ReadRows(t.Context(), m, pks[:4]); !errors.Is(err, mysql.ErrBatchTooLarge) {
		t.Errorf("beyond 3,999 bytes: %v, want ErrBatchTooLarge", err)
	}
	if got := f.walk(m, 100); len(got) != 4 {
		t.Errorf("a pass in chunks of bytes visited %v", got)
	}
	f.source.SetReadBytesMax(1)
	if got := f.walk(m, 100); len(got) != 4 {
		t.Errorf("a pass over rows that are each too large visited %v", got)
	}
}

func TestRead_KeyThatIsNotCanonicalReachesNoStatement(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE o (id INT PRIMARY KEY, v INT)")
	m := f.compile("o", []string{"id"}, "v")
	for _, pk := range [][]string{{"1 OR 1=1"}, {"01"}, {""}, {"1", "2"}, {}, {"2147483648"}, {"0x1"}} {
		if _, err := f.source.ReadRow(t.Context(), m, pk); !isKeyError(err) {
			t.Errorf("ReadRow(%q) = %v, want a KeyError", pk, err)
		}
	}
	for _, place := range [][]string{{"1 OR 1=1"}, {""}, {"1", "2"}, {}, {"0x1"}, {"1'"}, {"1e3"}} {
		if _, err := f.source.ReadChunk(t.Context(), m, place, 1); !isKeyError(err) {
			t.Errorf("ReadChunk(after %q) = %v, want a KeyError", place, err)
		}
	}
}

func isKeyError(err error) bool {
	_, ok := errors.AsType[*mapping.KeyError](err)
	return ok
}
