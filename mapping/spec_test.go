package mapping

import (
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
		"name":    {func(s *Spec, n int) { s.Source = strings.Repeat("a", n) }, nameBytesMax},
		"table":   {func(s *Spec, n int) { s.Table = strings.Repeat("é", n) }, identifierRunesMax},
		"ttl":     {func(s *Spec, n int) { s.TTLMillis = int64(n) }, ttlMillisMax},
		"jitter":  {func(s *Spec, n int) { s.TTLMillis, s.TTLJitter = 5_000, n }, ttlJitterPercentMax},
		"key":     {func(s *Spec, n int) { s.Key = strings.Repeat("k", n-integerTextBytesMax) + "{id}" }, KeyBytesMax},
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
		if spec.Validate() == nil {
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
		"text key":           {ordersSpec(JSON, "total"), text, "primary_key[0]"},
		"part of the key":    {ordersSpec(JSON, "a"), pair, "primary_key"},
		"key in other order": {reversed, pair, "primary_key"},
		"no key":             {ordersSpec(JSON, "total"), orders[1:], "table"},
		"unknown column":     {ordersSpec(JSON, "TOTAL"), orders, "columns[0].name"},
		"binary column":      {ordersSpec(JSON, "total", "raw"), orders, "columns[1].name"},
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
		"decimal(10,2) unsigned":         {Kind: KindDecimal, Unsigned: true},
		"float(7,3)":                     {Kind: KindFloat},
		"double unsigned":                {Kind: KindDouble, Unsigned: true},
		"year(4)":                        {Kind: KindYear},
		"enum('a','zerofill unsigned ')": {Kind: KindText},
		"set('x y')":                     {Kind: KindText},
		"timestamp(6)":                   {Kind: KindText},
		"longtext":                       {Kind: KindText},
		"json":                           {Kind: KindJSON},
		"bit(1)":                         {},
		"blob":                           {},
		"varbinary(3)":                   {},
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
