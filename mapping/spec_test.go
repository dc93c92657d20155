package mapping

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestValidate_ReportsAllFaultsAtOnceWithTheirPaths(t *testing.T) {
	t.Parallel()
	spec := Spec{
		Source: "Shop", Table: "", PrimaryKey: []string{"id", "id"}, Columns: []ColumnSpec{{Name: "a"}, {Name: "b", As: "a"}, {}}, Target: "-cache", Key: "order:{oid}",
		Mode: "both", Encoding: "xml", TTLMillis: 1, TTLJitter: 51,
	}
	var got []string
	for _, f := range faultsOf(t, spec.Validate()) {
		got = append(got, f.Field)
		if f.Reason == "" {
			t.Errorf("%s: no reason", f.Field)
		}
	}
	want := []string{"source", "table", "primary_key[1]", "columns[1]", "columns[2].name", "target", "key", "mode", "encoding", "ttl_ms", "ttl_jitter"}
	if !slices.Equal(got, want) {
		t.Errorf("faults at %q, want %q", got, want)
	}
}

func TestValidate_LimitsHoldAtNAndRefuseBeyond(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		change func(*Spec, int)
		n      int
	}{
		"name":         {func(s *Spec, n int) { s.Source = strings.Repeat("a", n) }, nameBytesMax},
		"table":        {func(s *Spec, n int) { s.Table = strings.Repeat("é", n) }, identifierRunesMax},
		"ttl":          {func(s *Spec, n int) { s.TTLMillis = int64(n) }, ttlMillisMax},
		"jitter":       {func(s *Spec, n int) { s.TTLMillis, s.TTLJitter = 5_000, n }, ttlJitterPercentMax},
		"key":          {func(s *Spec, n int) { s.Key = strings.Repeat("k", n-integerTextBytesMax) + "{id}" }, KeyBytesMax},
		"guard prefix": {func(s *Spec, n int) { s.GuardPrefix = strings.Repeat("g", n) }, guardPrefixBytesMax},
		"negative ttl": {func(s *Spec, n int) { s.NegativeTTLMillis = int64(n) }, ttlMillisMax},
		"keys": {func(s *Spec, n int) {
			s.Key, s.Keys = "", nil
			for i := range n {
				s.Keys = append(s.Keys, fmt.Sprintf("k%d:{id}", i))
			}
		}, templatesMax},
		"where": {func(s *Spec, n int) { s.Where = slices.Repeat([]Condition{{Column: "total", Op: WhereIsNull}}, n) }, conditionsMax},
		"values": {func(s *Spec, n int) {
			s.Where = []Condition{{Column: "total", Op: WhereIn, Values: slices.Repeat([]Literal{"1"}, n)}}
		}, conditionValuesMax},
		"columns": {func(s *Spec, n int) { s.Columns = manyColumns(n) }, columnsMax},
		"primary key": {func(s *Spec, n int) {
			s.PrimaryKey = []string{"a", "b", "c", "d", "e"}[:n]
			s.Key = strings.TrimSuffix("{"+strings.Join(s.PrimaryKey, "}:{")+"}", ":")
		}, primaryKeyColumnsMax},
	}
	for name, c := range cases {
		spec := ordersSpec(JSON, "total")
		c.change(&spec, c.n)
		if err := spec.Validate(); err != nil {
			t.Errorf("%s at %d: %v", name, c.n, err)
		}
		c.change(&spec, c.n+1)
		err := spec.Validate()
		if name == "key" { // its length depends on the column's type
			_, err = Compile(spec, 1, orders)
		}
		if err == nil {
			t.Errorf("%s at %d is accepted", name, c.n+1)
		}
	}
}

func manyColumns(n int) []ColumnSpec {
	out := make([]ColumnSpec, n)
	for i := range out {
		out[i].Name = "c" + strings.Repeat("x", i%60) + string(rune('a'+i/60))
	}
	return out
}

func TestCompile_RefusesWhatCannotBeCorrect(t *testing.T) {
	t.Parallel()
	text := append(slices.Clone(orders[1:]), Column{Name: "id", Type: "varchar(20)", Kind: KindText, KeyPart: 1})
	pair := []Column{{Name: "a", Type: "int", Kind: KindInteger, Bits: 32, KeyPart: 2}, {Name: "id", Type: "int", Kind: KindInteger, Bits: 32, KeyPart: 1}}
	reversed := ordersSpec(JSON, "a")
	reversed.PrimaryKey, reversed.Key = []string{"a", "id"}, "x:{a}:{id}"
	cases := map[string]struct {
		spec    Spec
		columns []Column
		field   string
	}{
		"text key":           {ordersSpec(JSON, "total"), text, "primary_key[0]"}, // of no known collation
		"part of the key":    {ordersSpec(JSON, "a"), pair, "primary_key"},
		"key in other order": {reversed, pair, "primary_key"},
		"no key":             {ordersSpec(JSON, "total"), orders[1:], "table"},
		"unknown column":     {ordersSpec(JSON, "TOTAL"), orders, "columns[0].name"},
		"binary column":      {ordersSpec(JSON, "total", "raw"), orders, "columns[1].binary"},
		"zerofill column":    {ordersSpec(Hash, "z"), append(slices.Clone(orders), NewColumn("z", "int(5) unsigned zerofill", true)), "columns[0].name"},
	}
	for name, c := range cases {
		_, err := Compile(c.spec, 1, c.columns)
		if got := faultsOf(t, err); len(got) != 1 || got[0].Field != c.field {
			t.Errorf("%s: faults %+v, want one at %s", name, got, c.field)
		}
	}
}

func TestNewColumn_ReadsTheServersTypes(t *testing.T) {
	t.Parallel()
	for columnType, want := range map[string]Column{
		"tinyint(1)":                     {Kind: KindInteger, Bits: 8},
		"BIGINT(20) UNSIGNED":            {Kind: KindInteger, Bits: 64, Unsigned: true},
		"int":                            {Kind: KindInteger, Bits: 32},
		"mediumint unsigned":             {Kind: KindInteger, Bits: 24, Unsigned: true},
		"decimal(10,2) unsigned":         {Kind: KindDecimal, Unsigned: true, Length: 10, Scale: 2},
		"float(7,3)":                     {Kind: KindFloat},
		"double unsigned":                {Kind: KindDouble, Unsigned: true},
		"year(4)":                        {Kind: KindYear},
		"enum('a','zerofill unsigned ')": {Kind: KindText},
		"set('x y')":                     {Kind: KindText},
		"timestamp(6)":                   {Kind: KindText, Fsp: 6},
		"longtext":                       {Kind: KindText},
		"json":                           {Kind: KindJSON},
		"bit(12)":                        {Kind: KindBit, Bits: 12},
		"blob":                           {Kind: KindBinary},
		"varbinary(3)":                   {Kind: KindBinary, Length: 3},
		"varchar(20)":                    {Kind: KindText, Length: 20},
		"point":                          {},
		"int(5) zerofill":                {Bits: 32},
		"":                               {},
	} {
		want.Name, want.Type, want.Nullable = "c", columnType, true
		if got := NewColumn("c", columnType, true); got != want {
			t.Errorf("%q = %+v, want %+v", columnType, got, want)
		}
	}
}

func TestValidate_RefusesWhatHasNoMeaning(t *testing.T) {
	t.Parallel()
	one := Literal("1")
	for field, change := range map[string]func(*Spec){
		"keys":              func(s *Spec) { s.Keys = []string{"b:{id}"} },
		"key":               func(s *Spec) { s.Key = "qg:{id}" },
		"keys[1]":           func(s *Spec) { s.Key, s.Keys = "", []string{"b:{id}", "b:{id}"} },
		"keys[0]":           func(s *Spec) { s.Key, s.Keys, s.KeyColumns = "", []string{"b:{id}"}, []string{"id", "big"} },
		"guard_prefix":      func(s *Spec) { s.GuardPrefix = "g{" },
		"key_columns[1]":    func(s *Spec) { s.KeyColumns = []string{"id", "id"} },
		"codec":             func(s *Spec) { s.Codec = 3 },
		"encoding":          func(s *Spec) { s.Encoding, s.Columns = String, append(s.Columns, ColumnSpec{Name: "note"}) },
		"columns[0].binary": func(s *Spec) { s.Columns[0].Binary = "rot13" },
		"negative_ttl_ms":   func(s *Spec) { s.Encoding, s.NegativeTTLMillis = Hash, 5_000 },
		"negative_ttl_ms ":  func(s *Spec) { s.Mode, s.NegativeTTLMillis = Invalidate, 5_000 },
		"negative_ttl_ms  ": func(s *Spec) { s.NegativeTTLMillis = 5 },
		"presence":          func(s *Spec) { s.Presence = "maybe" },
		"presence ":         func(s *Spec) { s.Mode, s.Presence = WriteIfPresent, Required },
		"on_wrong_type":     func(s *Spec) { s.OnWrongType = "ignore" },
		"fold":              func(s *Spec) { s.Fold = "upper" },
		"where":             func(s *Spec) { s.Mode, s.Where = Invalidate, []Condition{{Column: "total", Op: WhereIsNull}} },
		"where[0].op":       func(s *Spec) { s.Where = []Condition{{Column: "total", Op: "like", Value: &one}} },
		"where[0].value":    func(s *Spec) { s.Where = []Condition{{Column: "total", Op: "="}} },
		"where[0].value ":   func(s *Spec) { s.Where = []Condition{{Column: "total", Op: "<", Values: []Literal{"1"}}} },
		"where[0].values":   func(s *Spec) { s.Where = []Condition{{Column: "total", Op: WhereIn, Value: &one}} },
		"where[0]":          func(s *Spec) { s.Where = []Condition{{Column: "total", Op: WhereIsNull, Value: &one}} },
		"where[0].column":   func(s *Spec) { s.Where = []Condition{{Column: "", Op: WhereIsNull}} },
		"where[0] ":         func(s *Spec) { s.Where = []Condition{{Column: "note", Op: "=", Value: ptr(Literal("\xff"))}} },
	} {
		spec := ordersSpec(JSON, "total")
		change(&spec)
		if got := faultsOf(t, spec.Validate()); got[0].Field != strings.TrimSpace(field) {
			t.Errorf("%s: faults %+v", field, got)
		}
	}
}

func ptr[T any](v T) *T { return &v }

func TestCompile_RefusesWhatDoesNotFitTheTable(t *testing.T) {
	t.Parallel()
	where := func(column, value string) func(*Spec) {
		return func(s *Spec) { s.Where = []Condition{{Column: column, Op: "=", Value: ptr(Literal(value))}} }
	}
	for field, change := range map[string]func(*Spec){
		"where[0].column":   where("missing", "1"),
		"where[0]":          where("total", "12abc"),
		"where[0] ":         where("total", "1.234"),
		"where[0]  ":        where("doc", "{}"),
		"where[0]   ":       where("rate", "0.5"),
		"where[0]    ":      where("raw", "x"),
		"where[0]     ":     where("big", "-1"),
		"columns[0].binary": func(s *Spec) { s.Columns[0].Binary = BinaryHex },
		"key_columns[0]":    func(s *Spec) { s.KeyColumns, s.Key = []string{"rate"}, "r:{rate}" },
		"key_columns[0] ":   func(s *Spec) { s.KeyColumns, s.Key = []string{"doc"}, "r:{doc}" },
		"key_columns[0]  ":  func(s *Spec) { s.KeyColumns, s.Key = []string{"nowhere"}, "r:{nowhere}" },
		"fold":              func(s *Spec) { s.Fold = FoldLower },
		"keys[1]":           func(s *Spec) { s.Key, s.Keys = "", []string{"a:{id}", "a:-{id}"} },
		"keys[0]": func(s *Spec) {
			s.Mode, s.KeyColumns, s.Key, s.Keys = Invalidate, []string{"id", "big"}, "", []string{"a:{id}", "b:{id}:{big}"}
		},
	} {
		spec := ordersSpec(JSON, "total")
		change(&spec)
		_, err := Compile(spec, 1, orders)
		if got := faultsOf(t, err); len(got) != 1 || got[0].Field != strings.TrimSpace(field) {
			t.Errorf("%s: faults %+v", field, got)
		}
	}
}

// A record as the first version wrote it: specification and columns are in the replicated log and are read for ever.
func TestCompile_RecordsOfTheFirstVersionRenderAsTheyDid(t *testing.T) {
	t.Parallel()
	const columnsJSON = `[{"name":"a","type":"bigint(20)","kind":1,"bits":64,"key_part":1},{"name":"b","type":"int(10) unsigned","kind":1,"bits":32,"unsigned":true,"key_part":2},` +
		`{"name":"total","type":"decimal(10,2)","kind":2,"nullable":true},{"name":"doc","type":"json","kind":6,"nullable":true},{"name":"raw","type":"varbinary(9)","kind":0},{"name":"y","type":"year(4)","kind":7}]`
	const head = `{"source":"shop","table":"orders","primary_key":["a","b"],"target":"cache","key":"order:{a}-{b}","mode":"write_through",`
	for encoding, spec := range map[Encoding]string{
		JSON: head + `"columns":[{"name":"total","as":"sum","string":true},{"name":"doc"},{"name":"y"}],"encoding":"json","ttl_ms":60000,"ttl_jitter":10}`,
		Hash: head + `"columns":[{"name":"total","as":"sum"},{"name":"doc"},{"name":"y"}],"encoding":"hash"}`,
	} {
		var read Spec
		var columns []Column
		if err := json.Unmarshal([]byte(spec), &read); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(columnsJSON), &columns); err != nil {
			t.Fatal(err)
		}
		if again, err := json.Marshal(read); err != nil || !sameJSON(again, []byte(spec)) {
			t.Errorf("the specification is written back as %s, %v", again, err)
		}
		m := compile(t, read, columns)
		key := []string{"-5", "7"}
		row := &Row{Key: key, PK: key, Values: []Cell{{Bytes: []byte("12.50")}, {Bytes: []byte(`{"b": 1.10}`)}, {Bytes: []byte("2024")}}}
		w, err := m.Render(key, row, 9)
		if err != nil || w.Key != "order:-5-7" || w.Guard != "qg:{order:-5-7}" {
			t.Errorf("%s: %+v, %v", encoding, w, err)
		}
		if want := `{"sum":"12.50","doc":{"b": 1.10},"y":"2024"}`; encoding == JSON && (string(w.Value) != want || w.TTLMillis != 59_314) {
			t.Errorf("value %s for %d ms, want %s", w.Value, w.TTLMillis, want)
		}
		if encoding == Hash && (len(w.Fields) != 3 || w.Fields[0].Name != "doc" || string(w.Fields[1].Value) != "12.50" || w.TTLMillis != 0) {
			t.Errorf("fields %+v", w.Fields)
		}
	}
}
