package mysql_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/quiescehq/quiesce/mapping"
)

// Every type at its ends, in every encoding: what was inserted is what readers of the cache get. raw is the bytes as they are stored; text is what a hash field and a string hold, and value
// what stands in a JSON object.
func TestRead_EveryTypeInEveryEncoding(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	cases := []struct{ columnType, insert, value, text, raw string }{
		{"TINYINT", "-128", "-128", "-128", "-128"}, {"TINYINT UNSIGNED", "255", "255", "255", "255"}, {"SMALLINT", "-32768", "-32768", "-32768", "-32768"}, {"MEDIUMINT", "8388607", "8388607", "8388607", "8388607"},
		{"INT UNSIGNED", "4294967295", "4294967295", "4294967295", "4294967295"}, {"BIGINT", "-9223372036854775808", "-9223372036854775808", "-9223372036854775808", "-9223372036854775808"},
		{"BIGINT UNSIGNED", "18446744073709551615", "18446744073709551615", "18446744073709551615", "18446744073709551615"}, {"DECIMAL(65,30)", "-0.000000000000000000000000000001", "-0.000000000000000000000000000001", "-0.000000000000000000000000000001", "-0.000000000000000000000000000001"},
		{"DECIMAL(10,2)", "-0.001", "0.00", "0.00", "0.00"}, {"FLOAT", "16777217", "16777216", "16777216", "16777216"}, {"DOUBLE", "-1.7976931348623157e308", "-1.7976931348623157e308", "-1.7976931348623157e308", "-1.7976931348623157e308"}, {"DOUBLE", "5e-324", "5e-324", "5e-324", "5e-324"},
		{"BIT(1)", "b'1'", "1", "1", "1"}, {"BIT(64)", "18446744073709551615", "18446744073709551615", "18446744073709551615", "18446744073709551615"}, {"BIT(13)", "0", "0", "0", "0"},
		{"BINARY(4)", "x'00ff41'", `"00ff4100"`, "00ff4100", "\x00\xffA\x00"}, {"VARBINARY(9)", "x''", `""`, "", ""}, {"VARBINARY(300)", "REPEAT(x'ff', 300)", `"` + strings.Repeat("ff", 300) + `"`, strings.Repeat("ff", 300), strings.Repeat("\xff", 300)},
		{"TINYBLOB", "x'0a'", `"0a"`, "0a", "\n"}, {"BLOB", "x'00'", `"00"`, "00", "\x00"}, {"MEDIUMBLOB", "x'c328'", `"c328"`, "c328", "\xc3("}, {"LONGBLOB", "'{\"a\"}'", `"7b2261227d"`, "7b2261227d", `{"a"}`},
		{"CHAR(5)", "'ab  '", `"ab"`, "ab", "ab"}, {"VARCHAR(9)", "'a\\n\\\\\"\\0'", `"a\n\\\"\u0000"`, "a\n\\\"\x00", "a\n\\\"\x00"}, {"TINYTEXT", "'🚲'", `"🚲"`, "🚲", "🚲"}, {"TEXT", "''", `""`, "", ""}, {"LONGTEXT", "REPEAT('é', 70000)", `"` + strings.Repeat("é", 70000) + `"`, strings.Repeat("é", 70000), strings.Repeat("é", 70000)},
		{"VARCHAR(9) CHARACTER SET latin1", "'Zoë€'", `"Zoë€"`, "Zoë€", "Zoë€"}, {"VARCHAR(9) CHARACTER SET utf16", "'語'", `"語"`, "語", "語"},
		{"ENUM('','a,b')", "'a,b'", `"a,b"`, "a,b", "a,b"}, {"SET('a','b')", "'b,a'", `"a,b"`, "a,b", "a,b"}, {"DATE", "'9999-12-31'", `"9999-12-31"`, "9999-12-31", "9999-12-31"}, {"TIME(6)", "'-838:59:59.000000'", `"-838:59:59.000000"`, "-838:59:59.000000", "-838:59:59.000000"},
		{"DATETIME(6)", "'1000-01-01 00:00:00.000001'", `"1000-01-01 00:00:00.000001"`, "1000-01-01 00:00:00.000001", "1000-01-01 00:00:00.000001"}, {"TIMESTAMP(3) NULL", "'2038-01-19 05:14:07.999'", `"2038-01-19 03:14:07.999"`, "2038-01-19 03:14:07.999", "2038-01-19 03:14:07.999"},
		{"YEAR", "1901", `"1901"`, "1901", "1901"}, {"JSON", `'{"b": 1.10, "a": [ ]}'`, `{"b":1.10,"a":[]}`, `{"b":1.10,"a":[]}`, `{"b": 1.10, "a": [ ]}`}, {"JSON", "'null'", "null", "null", "null"},
	}
	if id, err := f.source.Identity(t.Context()); err != nil {
		t.Fatal(err)
	} else if id.Flavour == "mariadb" {
		uuid := "123e4567-e89b-12d3-a456-426655440000"
		cases = append(cases, []struct{ columnType, insert, value, text, raw string }{{"UUID", "'" + uuid + "'", `"` + uuid + `"`, uuid, uuid}, {"INET6", "'2001:DB8::1'", `"2001:db8::1"`, "2001:db8::1", "2001:db8::1"}}...)
	}
	var definitions, values []string
	for i, c := range cases {
		definitions, values = append(definitions, fmt.Sprintf("c%d %s", i, c.columnType)), append(values, c.insert)
	}
	conn, err := f.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, statement := range []string{"SET time_zone = '+02:00', sql_mode = ''", "CREATE TABLE every (id INT PRIMARY KEY, " + strings.Join(definitions, ", ") + ")", "INSERT INTO every VALUES (1, " + strings.Join(values, ", ") + ")"} {
		if _, err := conn.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%.200s: %v", statement, err)
		}
	}
	columns, err := f.source.Columns(t.Context(), "every")
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range cases {
		name := fmt.Sprintf("c%d", i)
		want := map[mapping.Encoding]string{mapping.JSON: `{"` + name + `":` + c.value + `}`, mapping.Hash: c.text, mapping.String: c.text, mapping.Raw: c.raw}
		for encoding, want := range want {
			spec := specOf("every", []string{"id"}, name)
			spec.Encoding, spec.Codec = encoding, 2
			if columns[i+1].Kind == mapping.KindBinary && encoding != mapping.Raw {
				spec.Columns[0].Binary = mapping.BinaryHex
			}
			m, err := mapping.Compile(spec, 1, columns)
			if err != nil {
				t.Fatalf("%s: %v", c.columnType, err)
			}
			row := f.both(t.Context(), m, "1")
			w, err := m.Render(row.Key, row, 1)
			got := string(w.Value)
			if encoding == mapping.Hash && len(w.Fields) == 1 {
				got = string(w.Fields[0].Value)
			}
			if err != nil || got != want {
				t.Errorf("%s of %s in %s: %.80q, %v; want %.80q", c.insert[:min(len(c.insert), 40)], c.columnType, encoding, got, err, want)
			}
			if encoding == mapping.JSON && !json.Valid(w.Value) {
				t.Errorf("%s: no JSON", c.columnType)
			}
			actual := mapping.Actual{Type: mapping.TypeString, Value: w.Value, TTLMillis: mapping.NoExpiry}
			if encoding == mapping.Hash {
				actual = mapping.Actual{Type: mapping.TypeHash, Fields: w.Fields, TTLMillis: mapping.NoExpiry}
			}
			if verdict, err := m.Compare(row.Key, row, actual); verdict != mapping.Equal || err != nil {
				t.Errorf("%s in %s is %s with itself, %v", c.columnType, encoding, verdict, err)
			}
		}
	}
}
