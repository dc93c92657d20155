package reconcile

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
)

// step is two neighbouring values of a type.
type step struct{ columnType, value, neighbour string }

// steps are values at the ends of every type, and the smallest step from each.
var steps = []step{
	{"TINYINT", "-128", "-127"}, {"TINYINT UNSIGNED", "255", "254"}, {"SMALLINT", "-32768", "32767"}, {"MEDIUMINT", "8388607", "-8388607"}, {"INT UNSIGNED", "4294967295", "4294967294"},
	{"BIGINT", "9007199254740993", "9007199254740992"}, {"BIGINT", "-9223372036854775808", "-9223372036854775807"}, {"BIGINT UNSIGNED", "18446744073709551615", "18446744073709551614"},
	{"DECIMAL(65,30)", "0.000000000000000000000000000001", "-0.000000000000000000000000000001"}, {"DECIMAL(20,2)", "900719925474099.93", "900719925474099.92"}, {"DECIMAL(10,2)", "12.50", "-12.50"},
	{"FLOAT", "16777216", "16777218"}, {"FLOAT", "16777217", "16777218"}, {"FLOAT", "1", "1.0000001192092896"}, {"DOUBLE", "1", "1.0000000000000002"}, {"DOUBLE", "-1.7976931348623157e308", "-1.7976931348623155e308"},
	{"DOUBLE", "5e-324", "0"}, {"DOUBLE", "9007199254740992", "9007199254740994"}, {"DOUBLE", "0.1", "0.10000000000000002"},
	{"BIT(1)", "b'1'", "b'0'"}, {"BIT(64)", "18446744073709551615", "18446744073709551614"},
	{"BINARY(4)", "x'00ff4100'", "x'00ff4120'"}, {"VARBINARY(9)", "x''", "x'00'"}, {"BLOB", "x'c328'", "x'c329'"}, {"LONGBLOB", "REPEAT(x'ff', 70000)", "CONCAT(REPEAT(x'ff', 69999), x'fe')"},
	{"CHAR(5)", "'Abc'", "'abc'"}, {"VARCHAR(9)", "'Abc'", "'abc'"}, {"VARCHAR(9)", "'abc'", "'abc '"}, {"VARCHAR(9)", "''", "' '"}, {"VARCHAR(9)", "'a'", "'ä'"}, {"VARCHAR(9)", "''", "NULL"},
	{"VARCHAR(9)", "'e\u0301'", "'é'"}, {"TEXT", "'🚲'", "'🚳'"}, {"LONGTEXT", "REPEAT('é', 70000)", "CONCAT(REPEAT('é', 69999), 'e')"}, {"VARCHAR(9) CHARACTER SET latin1", "'Zoë€'", "'Zoe€'"},
	{"VARCHAR(9)", "'1'", "'1.0'"}, {"VARCHAR(9)", "'null'", "NULL"}, {"ENUM('','a,b','A')", "'a,b'", "''"}, {"SET('a','b')", "'a,b'", "'a'"},
	{"DATE", "'9999-12-31'", "'9999-12-30'"}, {"TIME(6)", "'-838:59:58.999999'", "'838:59:58.999999'"}, {"DATETIME(6)", "'1000-01-01 00:00:00.000001'", "'1000-01-01 00:00:00.000000'"},
	{"TIMESTAMP(3) NULL", "'2038-01-19 03:14:07.999'", "'2038-01-19 03:14:07.998'"}, {"YEAR", "1901", "1902"},
	{"JSON", `'{"a": [1.10, 2]}'`, `'{"a": [1.1, 2]}'`}, {"JSON", `'{"a": 9007199254740993}'`, `'{"a": 9007199254740992}'`}, {"JSON", `'["x"]'`, `'["X"]'`}, {"JSON", "'null'", "'0'"},
}

// putOver declares a mapping over the table of all types and fills its keys as a delivery does.
func (w *world) putOver(t *testing.T, name string, encoding mapping.Encoding, prefix string, columns []mapping.Column, only ...string) {
	t.Helper()
	spec := mapping.Spec{Source: "shop", Table: "every", PrimaryKey: []string{"id"}, Target: "cache", Key: prefix + name + ":{id}", Mode: mapping.WriteThrough, Encoding: encoding}
	for _, c := range columns[1:] {
		if len(only) > 0 && c.Name != only[0] {
			continue
		}
		column := mapping.ColumnSpec{Name: c.Name}
		if c.Kind == mapping.KindBinary && encoding != mapping.Raw {
			column.Binary = mapping.BinaryHex
		}
		spec.Columns = append(spec.Columns, column)
	}
	specJSON, _ := json.Marshal(spec)
	columnsJSON, _ := json.Marshal(columns)
	r := w.log.must(t, fsm.PutMapping{Name: name, Source: "shop", Target: "cache", Table: "every", Spec: specJSON, Columns: columnsJSON})
	var err error
	if w.mapping, err = mapping.Compile(spec, r.Mapping.Revision, columns); err != nil {
		t.Fatal(err)
	}
	w.fill()
}

// What a delivery wrote of any value of any type compares equal, in every encoding, and the smallest change of one column of one row is found, and nothing else. In encodings of one column each column
// has a mapping of its own.
func TestTask_FindsTheSmallestChangeOfEveryType(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, nil)
	definitions, values := []string{"id INT PRIMARY KEY"}, []string{}
	for i, s := range steps {
		definitions, values = append(definitions, fmt.Sprintf("c%d %s", i, s.columnType)), append(values, s.value)
	}
	conn, err := w.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	exec := func(statement string) {
		t.Helper()
		if _, err := conn.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%.300s: %v", statement, err)
		}
	}
	exec("SET NAMES utf8mb4")
	exec("SET time_zone = '+00:00', sql_mode = ''")
	exec("CREATE TABLE every (" + strings.Join(definitions, ", ") + ")")
	for i := range steps {
		exec(fmt.Sprintf("INSERT INTO every VALUES (%d, %s)", i, strings.Join(values, ", ")))
	}
	columns, err := w.source.Columns(context.Background(), "every")
	if err != nil {
		t.Fatal(err)
	}
	prefix := strings.TrimSuffix(w.mapping.Key([]string{"1"}), "order:1")
	type over struct {
		name  string
		stale []int // rows that must be found
	}
	var mappings []over
	all := make([]int, len(steps))
	for i := range steps {
		all[i] = i
	}
	for _, encoding := range []mapping.Encoding{mapping.JSON, mapping.Hash} {
		w.putOver(t, string(encoding), encoding, prefix, columns)
		mappings = append(mappings, over{string(encoding), all})
	}
	for _, encoding := range []mapping.Encoding{mapping.String, mapping.Raw} {
		for i := range steps {
			name := fmt.Sprintf("%s-%d", encoding, i)
			w.putOver(t, name, encoding, prefix, columns, fmt.Sprintf("c%d", i))
			mappings = append(mappings, over{name, []int{i}})
		}
	}
	w.config.PassesMax, w.config.CheckpointEvery = fsm.PassesRunningMax, 1
	defer w.lead(w.task(nil))()
	passOver := func(name string) fsm.Pass {
		return w.ended(w.log.must(t, fsm.StartPass{Mapping: name, PassOptions: fsm.PassOptions{Mode: fsm.PassDryRun}}).Pass.ID)
	}
	rows := uint64(len(steps))
	for _, m := range mappings {
		if p := passOver(m.name); p.State != fsm.PassDone || p.Counts.Equal != rows || p.Expected != p.Actual {
			t.Errorf("%s as it was written: %s %q: %+v %+v", m.name, p.State, p.Reason, p.Counts, p.Samples)
		}
	}
	for i, s := range steps {
		exec(fmt.Sprintf("UPDATE every SET c%d = %s WHERE id = %d", i, s.neighbour, i))
	}
	for _, m := range mappings {
		p := passOver(m.name)
		if p.State != fsm.PassDone || p.Counts.Differences() != uint64(len(m.stale)) || p.Counts.Equal != rows-uint64(len(m.stale)) {
			t.Errorf("%s: %s %q: %+v, want %d differences", m.name, p.State, p.Reason, p.Counts, len(m.stale))
		}
		found := map[string]bool{}
		for _, d := range p.Samples {
			found[d.PK] = true
		}
		for _, i := range m.stale {
			if !found[mapping.EncodeKey([]string{fmt.Sprint(i)})] {
				t.Errorf("%s: %s from %s to %s was not seen", m.name, steps[i].columnType, steps[i].value, steps[i].neighbour)
			}
		}
	}
}

// What is masked is in no sample, whatever the kind of the difference.
func TestTask_MaskedValuesAreInNoSample(t *testing.T) {
	t.Parallel()
	const rows = 300
	for _, encoding := range []mapping.Encoding{mapping.JSON, mapping.Hash} {
		w := newWorld(t, rows, func(s *mapping.Spec) {
			s.Encoding, s.TTLMillis = encoding, 600_000
			s.Columns[1].Mask = true
		})
		w.plant(rows, plan{stale: 10, wrongType: 5, noTTL: 5, swapped: 5})
		if encoding == mapping.JSON {
			w.cache.do("SET", w.key(299), "customer 000299 in no JSON")
		}
		p := w.run(fsm.PassDryRun, 0, 0)
		if len(p.Samples) < 30 {
			t.Fatalf("%d samples", len(p.Samples))
		}
		hidden := 0
		for _, d := range p.Samples {
			if text := strings.ToLower(d.Expected + d.Actual); strings.Contains(text, "customer") || strings.Contains(text, "somebody") {
				t.Errorf("%s: %+v", encoding, d)
			}
			hidden += strings.Count(d.Expected+d.Actual, "***")
		}
		if hidden < 30 {
			t.Errorf("%s: nothing was masked in %d samples", encoding, len(p.Samples))
		}
	}
}
