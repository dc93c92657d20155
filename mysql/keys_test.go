package mysql_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
)

// keyed describes a table k whose rows have the number n, and the mapping of n by the key columns.
func (f fixture) keyed(change func(*mapping.Spec), keys ...string) *mapping.Mapping {
	f.Helper()
	columns, err := f.source.Columns(f.Context(), "k")
	if err != nil {
		f.Fatal(err)
	}
	spec := specOf("k", []string{"n"}, "n")
	spec.KeyColumns = keys
	spec.Key = "k:{" + strings.Join(keys, "}/{") + "}"
	if change != nil {
		change(&spec)
	}
	m, err := mapping.Compile(spec, 1, columns)
	if err != nil {
		f.Fatal(err)
	}
	return m
}

// ask gives the number of the row that the key finds, 0 for none, and -1 for a key that is refused.
func (f fixture) ask(m *mapping.Mapping, parts ...string) int {
	f.Helper()
	raw := make([]json.RawMessage, len(parts))
	for i, part := range parts {
		raw[i] = json.RawMessage(part)
	}
	tuple, err := m.Tuple(raw)
	if fault, refused := errors.AsType[*mapping.KeyError](err); refused && fault.Reason != "" {
		return -1
	} else if err != nil {
		f.Fatal(err)
	}
	row, err := f.source.ReadRow(f.Context(), m, tuple)
	if err != nil {
		f.Fatalf("%s: %v", parts, err)
	}
	if row == nil {
		return 0
	}
	n := 0
	if _, err := fmt.Sscan(string(row.Values[0].Bytes), &n); err != nil {
		f.Fatal(err)
	}
	return n
}

func hexed(s string) string { return "x'" + hex.EncodeToString([]byte(s)) + "'" }

func jsonText(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // texts only
	}
	return string(b)
}

// Each case asks for keys of a real table. What it finds is the key's own row or nothing; what the server would bend is refused.
func TestReadRows_EachKeyFindsItsOwnRowOrIsRefused(t *testing.T) {
	t.Parallel()
	const none, refused = 0, -1
	type questions map[string]int
	longest := strings.Repeat("é", 190)
	for name, c := range map[string]struct {
		column string
		rows   []string // literals of rows 1, 2, 3, …
		fold   string
		ask    questions
	}{
		"bigint": {"BIGINT", []string{"12", "9007199254740993", "9007199254740992", "0", "-7"}, "", questions{
			`"12"`: 1, `12`: 1, `"12abc"`: refused, `"0012"`: 1, `"12 "`: refused, `"9007199254740993"`: 2, `9007199254740993`: refused, `"9007199254740992"`: 3, `"-0"`: 4, `-0`: 4, `"-7"`: 5, `"9007199254740994"`: none, `"1e1"`: refused,
		}},
		"unsigned": {"BIGINT UNSIGNED", []string{"18446744073709551615", "18446744073709551614"}, "", questions{
			`"18446744073709551615"`: 1, `"18446744073709551614"`: 2, `"18446744073709551616"`: refused, `"-1"`: refused, `18446744073709551615`: refused,
		}},
		"decimal": {"DECIMAL(20,2)", []string{"12.50", "0", "123456789012345678.91", "-1"}, "", questions{
			`"12.5"`: 1, `12.5`: 1, `"12.500"`: 1, `"12.501"`: refused, `"-0.00"`: 2, `"0"`: 2, `"123456789012345678.91"`: 3, `"123456789012345678.92"`: none, `"-1.00"`: 4, `"+1"`: refused,
		}},
		"text": {"VARCHAR(190) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", []string{"'abc'", "'ABC'", "'résumé'", "'resume'", hexed("a'b"), hexed(`a\`), "'🚲'", "''", hexed("x' OR '1'='1"), "'1'", hexed("é"), hexed("e\u0301"), hexed(longest)}, "", questions{
			`"abc"`: 1, `"ABC"`: 2, `"ABC  "`: 2, `"Abc"`: none, `" abc"`: none, `"abc\t"`: refused, `"abc\u0000"`: refused, `"résumé"`: 3, `"resume"`: 4, `"a'b"`: 5, `"a\\"`: 6, `"🚲"`: 7, `"🚗"`: none, `""`: 8, `"  "`: 8,
			`"x' OR '1'='1"`: 9, `"') OR 1=1 -- "`: none, `1`: refused, `"1"`: 10, `"01"`: none, jsonText("é"): 11, jsonText("e\u0301"): 12, jsonText(longest): 13, `"a\" OR 1=1"`: none, `"\\"`: none, `"%"`: none, "\"`k`\"": none,
		}},
		"text without padding": {"VARCHAR(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin", []string{"'abc'", "'abc '"}, "", questions{`"abc"`: 1, `"abc "`: 2, `"abc  "`: none}},
		"char":                 {"CHAR(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin", []string{"'abc'", "'abd '"}, "", questions{`"abc"`: 1, `"abc "`: 1, `"abd"`: 2, `"abd "`: 2}},
		"utf8mb3":              {"VARCHAR(50) CHARACTER SET utf8mb3 COLLATE utf8mb3_bin", []string{"'語'", "'?'"}, "", questions{`"語"`: 1, `"🚲"`: refused, `"?"`: 2}},
		"latin1":               {"VARCHAR(50) CHARACTER SET latin1 COLLATE latin1_bin", []string{"'é€'", "'?'", "'ÿ'"}, "", questions{`"é€"`: 1, `"語"`: refused, `"?"`: 2, `"ÿ"`: 3, jsonText("\u0081"): refused}},
		"ascii":                {"VARCHAR(50) CHARACTER SET ascii COLLATE ascii_bin", []string{"'a'", "'?'"}, "", questions{`"a"`: 1, `"é"`: refused, `"?"`: 2}},
		"folded": {"VARCHAR(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci", []string{"'AbC'", "'résumé'", "'straße'", "'Ω'"}, mapping.FoldLower, questions{
			`"abc"`: 1, `"ABC   "`: 1, `"resume"`: none, `"RÉSUMÉ"`: 2, `"straße"`: 3, `"strasse"`: none, `"stras"`: none, `"ω"`: 4, jsonText("\u2126"): refused,
		}},
		"folded latin1": {"VARCHAR(50) CHARACTER SET latin1", []string{"'ÄB'"}, mapping.FoldLower, questions{`"äb"`: 1, `"ab"`: none}},
		"binary":        {"BINARY(3)", []string{"x'000000'", "x'00ff00'", "x'616200'"}, "", questions{`"000000"`: 1, `"00"`: refused, `"00FF00"`: 2, `"616200"`: 3, `"6162"`: refused, `"ab"`: refused, `"0000000"`: refused}},
		"varbinary":     {"VARBINARY(30)", []string{"x''", "x'00'", "x'0000'", "x'27'", "x'41'", "x'61'"}, "", questions{`""`: 1, `"00"`: 2, `"0000"`: 3, `"27"`: 4, `"41"`: 5, `"61"`: 6, `"6120"`: none, `"0x61"`: refused}},
		"date": {"DATE", []string{"'2024-02-29'", "'1000-01-01'", "'9999-12-31'"}, "", questions{
			`"2024-02-29"`: 1, `"2023-02-29"`: refused, `"2024-2-29"`: refused, `"20240229"`: refused, `"2024-02-29 00:00:00"`: refused, `"0000-00-00"`: refused, `"1000-01-01"`: 2, `"9999-12-31"`: 3, `"2024-02-28"`: none, `20240229`: refused,
		}},
		"datetime":          {"DATETIME", []string{"'2024-02-29 12:00:00'"}, "", questions{`"2024-02-29 12:00:00"`: 1, `"2024-02-29 12:00:00.0"`: refused, `"2024-02-29T12:00:00"`: refused, `"2024-02-29 12:00:01"`: none, `"2024-02-30 12:00:00"`: refused}},
		"datetime fraction": {"DATETIME(6)", []string{"'2024-02-29 12:00:00.000001'", "'2024-02-29 12:00:00'"}, "", questions{`"2024-02-29 12:00:00.000001"`: 1, `"2024-02-29 12:00:00"`: refused, `"2024-02-29 12:00:00.000000"`: 2, `"2024-02-29 12:00:00.000002"`: none}},
		"uuid":              {"UUID", []string{"'123e4567-e89b-12d3-a456-426655440000'"}, "", questions{`"123E4567-E89B-12D3-A456-426655440000"`: 1, `"123e4567e89b12d3a456426655440000"`: 1, `"123e4567-e89b-12d3-a456-426655440001"`: none, `"x"`: refused}},
		"inet6":             {"INET6", []string{"'2001:db8::1'", "'::ffff:1.2.3.4'", "'::'", "'::1'"}, "", questions{`"2001:0DB8:0::1"`: 1, `"::ffff:102:304"`: 2, `"::ffff:1.2.3.4"`: 2, `"1.2.3.4"`: refused, `"::"`: 3, `"::1"`: 4, `"::2"`: refused, `"2001:db8::2"`: none}},
		"inet4":             {"INET4", []string{"'10.0.0.1'"}, "", questions{`"10.0.0.1"`: 1, `"10.0.0.01"`: refused, `"10.0.1"`: refused, `"10.0.0.2"`: none}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			if strings.HasPrefix(c.column, "UUID") || strings.HasPrefix(c.column, "INET") {
				if id, err := f.source.Identity(t.Context()); err != nil || id.Flavour != "mariadb" {
					t.Skip("a type of MariaDB")
				}
			}
			f.exec("CREATE TABLE k (n INT PRIMARY KEY, v " + c.column + " NOT NULL, UNIQUE (v))")
			for i, value := range c.rows {
				f.exec(fmt.Sprintf("INSERT INTO k VALUES (%d, %s)", i+1, value))
			}
			m := f.keyed(func(s *mapping.Spec) { s.Fold = c.fold }, "v")
			for key, want := range c.ask {
				if got := f.ask(m, key); got != want {
					t.Errorf("key %s finds row %d, want %d", key, got, want)
				}
			}
			// All at once, each key finds what it finds alone; and what a chunk says of a row's key is what finds it.
			var tuples [][]string
			for key := range c.ask {
				if tuple, err := m.Tuple([]json.RawMessage{json.RawMessage(key)}); err == nil {
					tuples = append(tuples, tuple)
				}
			}
			chunk, err := f.source.ReadChunk(t.Context(), m, nil, 100)
			if err != nil || len(chunk) != len(c.rows) {
				t.Fatalf("%d rows, %v", len(chunk), err)
			}
			for _, row := range chunk {
				tuples = append(tuples, row.Key)
			}
			found, err := f.source.ReadRows(t.Context(), m, tuples)
			if err != nil || len(found) != len(c.rows) {
				t.Errorf("%d rows of %d are found, %v", len(found), len(c.rows), err)
			}
			for _, row := range chunk {
				if by := found[mapping.EncodeKey(row.Key)]; by == nil || string(by.Values[0].Bytes) != row.PK[0] {
					t.Errorf("row %s says of its key %q, which finds %+v", row.PK[0], row.Key, by)
				}
			}
		})
	}
}

func TestReadRows_CompositeKeysOfSeveralTypes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE k (n INT PRIMARY KEY, a VARCHAR(40) COLLATE utf8mb4_bin, b DATE, c VARBINARY(8), d DECIMAL(6,2), UNIQUE (a, b, c, d))",
		"INSERT INTO k VALUES (1, 'x', '2024-01-01', x'00', 1.5), (2, 'x', '2024-01-02', x'00', 1.5), (3, 'X', '2024-01-01', x'00', 1.5), (4, 'x', '2024-01-01', x'01', 1.5), (5, NULL, '2024-01-01', x'01', 1.5), (6, 'x', '2024-01-01', x'00', 1.6)")
	m := f.keyed(nil, "a", "b", "c", "d")
	for want, key := range [][]string{{`"y"`, `"2024-01-01"`, `"00"`, `"1.5"`}, {`"x"`, `"2024-01-01"`, `"00"`, `"1.5"`}, {`"x"`, `"2024-01-02"`, `"00"`, `1.50`}, {`"X"`, `"2024-01-01"`, `"00"`, `"1.5"`}, {`"x"`, `"2024-01-01"`, `"01"`, `"1.5"`}} {
		if got := f.ask(m, key...); got != want {
			t.Errorf("%s finds row %d, want %d", key, got, want)
		}
	}
	chunk, err := f.source.ReadChunk(t.Context(), m, nil, 100)
	if err != nil || len(chunk) != 6 || chunk[4].Key != nil || chunk[0].Key == nil {
		t.Fatalf("%+v, %v: the row with a NULL names no key", chunk, err)
	}
}

// What fold takes for the same letter must be the same to the server, or the row would not be found.
func TestReadRows_FoldAgreesWithTheServersCollations(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE k (n INT PRIMARY KEY, v VARCHAR(9) COLLATE utf8mb4_general_ci NOT NULL)")
	m := f.keyed(func(s *mapping.Spec) { s.Fold = mapping.FoldLower }, "v")
	var pairs []string
	for r := rune(' '); r < 0x600; r++ {
		tuple, err := m.Tuple([]json.RawMessage{json.RawMessage(jsonText("1" + string(r) + "2"))})
		if err == nil && tuple[0] != "1"+string(r)+"2" {
			pairs = append(pairs, fmt.Sprintf("SELECT %s AS u, %s AS l", hexed(string(r)), hexed(strings.Trim(tuple[0], "12"))))
		}
	}
	if len(pairs) < 200 {
		t.Fatalf("%d letters are folded", len(pairs))
	}
	rows, err := f.db.QueryContext(t.Context(), "SELECT COLLATION_NAME FROM information_schema.COLLATIONS WHERE CHARACTER_SET_NAME = 'utf8mb4' AND COLLATION_NAME LIKE '%ci'")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	tried := 0
	for rows.Next() {
		var collation string
		if err := rows.Scan(&collation); err != nil {
			t.Fatal(err)
		}
		column := mapping.NewColumn("v", "varchar(9)", false)
		column.Collation = collation
		id := mapping.NewColumn("n", "int", false)
		id.KeyPart = 1
		if _, err := mapping.Compile(m.Spec(), 1, []mapping.Column{id, column}); err != nil {
			continue
		}
		tried++
		var different *string
		if err := f.db.QueryRowContext(t.Context(), "SELECT GROUP_CONCAT(HEX(u)) FROM ("+strings.Join(pairs, " UNION ALL ")+") p WHERE NOT (CONVERT(u USING utf8mb4) COLLATE "+collation+
			" = CONVERT(l USING utf8mb4) COLLATE "+collation+")").Scan(&different); err != nil {
			t.Fatal(err)
		}
		if different != nil {
			t.Errorf("%s does not fold %s", collation, *different)
		}
	}
	if tried < 4 {
		t.Errorf("%d collations were tried", tried)
	}
}

func TestReadChunk_GoesOnFromAnyKindOfPlace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		key  string
		rows []string
	}{
		"text":      {"VARCHAR(20) COLLATE utf8mb4_general_ci", []string{"'b'", "'B1'", "'a'", "'é'", "'f'", hexed("o'x"), "'Z'", "'🚲'", "''"}},
		"binary":    {"VARBINARY(20)", []string{"x''", "x'00'", "x'0001'", "x'ff'", "x'27'"}},
		"decimal":   {"DECIMAL(10,2)", []string{"-1.5", "0", "1", "10", "9.99"}},
		"date":      {"DATE", []string{"'0000-00-00'", "'2024-01-01'", "'2023-12-31'"}},
		"time":      {"TIME(2)", []string{"'-10:00:00'", "'00:00:00'", "'838:59:59'", "'9:00:00.5'"}},
		"timestamp": {"TIMESTAMP(3)", []string{"'2024-07-01 12:00:00.5'", "'1999-01-01 00:00:00'"}},
		"year":      {"YEAR", []string{"1999", "2001", "0000", "2155"}},
		"enum":      {"ENUM('z','a','m')", []string{"'a'", "'m'", "'z'"}},
		"set":       {"SET('z','a')", []string{"'a'", "'z'", "'z,a'", "''"}},
		"bit":       {"BIT(64)", []string{"0", "1", "18446744073709551615", "9223372036854775808"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			conn, err := f.db.Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			for _, statement := range []string{"SET sql_mode = '', time_zone = '+00:00'", "CREATE TABLE k (p " + c.key + " NOT NULL, q INT, n INT, PRIMARY KEY (p, q))", "INSERT INTO k SELECT p.v, q.n, q.n FROM (SELECT " +
				strings.Join(c.rows, " AS v UNION SELECT ") + " AS v) p, (SELECT 1 AS n UNION SELECT 2 UNION SELECT 3) q"} {
				if _, err := conn.ExecContext(t.Context(), statement); err != nil {
					t.Fatalf("%s: %v", statement, err)
				}
			}
			m := f.keyed(func(s *mapping.Spec) {
				s.PrimaryKey, s.Mode = []string{"p", "q"}, mapping.Invalidate
				s.KeyColumns = []string{"q"}
				s.Key = "k:{q}"
			})
			want := f.walk(m, mysql.ChunkRowsMax)
			if len(want) != 3*len(c.rows) {
				t.Fatalf("%d rows: %q", len(want), want)
			}
			if got := f.walk(m, 2); !slices.Equal(got, want) {
				t.Errorf("chunks of two visit %q, want %q", got, want)
			}
		})
	}
}

func TestRead_WhereIsEvaluatedByTheServer(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE k (n INT PRIMARY KEY, i INT, s VARCHAR(40), d DATE, x DECIMAL(5,2), e ENUM('a','b'), j JSON)",
		"INSERT INTO k VALUES (1, 5, 'a', '2024-01-01', 1.5, 'a', '{}'), (2, NULL, 'A', '2024-06-01', 2.5, 'b', NULL), (3, -5, 'o''x', NULL, NULL, NULL, '1'), (4, 7, ' OR 1=1 -- ', '2025-01-01', 0, 'a', '2')")
	value := func(s string) *mapping.Literal { v := mapping.Literal(s); return &v }
	for _, c := range []struct {
		where []mapping.Condition
		want  string
	}{
		{[]mapping.Condition{{Column: "i", Op: "=", Value: value("5")}}, "1"}, {[]mapping.Condition{{Column: "i", Op: "!=", Value: value("5")}}, "3 4"}, {[]mapping.Condition{{Column: "i", Op: "<", Value: value("5")}}, "3"},
		{[]mapping.Condition{{Column: "i", Op: ">=", Value: value("5")}, {Column: "d", Op: "<", Value: value("2024-12-31")}}, "1"},
		{[]mapping.Condition{{Column: "i", Op: mapping.WhereIsNull}}, "2"}, {[]mapping.Condition{{Column: "j", Op: mapping.WhereNotNull}}, "1 3 4"},
		{[]mapping.Condition{{Column: "s", Op: mapping.WhereIn, Values: []mapping.Literal{"o'x", " OR 1=1 -- "}}}, "3 4"}, {[]mapping.Condition{{Column: "s", Op: "=", Value: value("' OR '1'='1")}}, ""}, {[]mapping.Condition{{Column: "s", Op: "=", Value: value(`\' OR 1=1 -- `)}}, ""},
		{[]mapping.Condition{{Column: "e", Op: "=", Value: value("a")}}, "1 4"}, {[]mapping.Condition{{Column: "x", Op: ">", Value: value("1.50")}}, "2"}, {[]mapping.Condition{{Column: "d", Op: "=", Value: value("2024-06-01")}}, "2"},
	} {
		m := f.keyed(func(s *mapping.Spec) { s.Where = c.where }, "n")
		chunk, err := f.source.ReadChunk(t.Context(), m, nil, 10)
		if err != nil || len(chunk) != 4 {
			t.Fatalf("%+v: %d rows, %v", c.where, len(chunk), err)
		}
		var in []string
		for _, row := range chunk {
			byKey, err := f.source.ReadRow(t.Context(), m, row.Key)
			if err != nil || byKey == nil || byKey.Excluded != row.Excluded {
				t.Fatalf("%+v: by key %+v, %v", c.where, byKey, err)
			}
			bare, err := f.source.ReadRow(t.Context(), m.KeysOnly(), row.Key)
			if err != nil || bare == nil || bare.Excluded != row.Excluded || len(bare.Values) != 0 {
				t.Fatalf("%+v: without columns %+v, %v", c.where, bare, err)
			}
			if !row.Excluded {
				in = append(in, row.PK[0])
			}
		}
		if got := strings.Join(in, " "); got != c.want {
			t.Errorf("%+v lets %q in, want %q", c.where, got, c.want)
		}
	}
}
