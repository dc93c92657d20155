package mapping

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestRender_JSONKeepsTheServersTextAndTheSpecsOrder(t *testing.T) {
	t.Parallel()
	spec := ordersSpec(JSON, "total", "note", "doc", "big", "rate")
	spec.Columns[0].As = `sum "net"`
	spec.Columns[3].String = true
	m := compile(t, spec, orders)
	w, err := m.Render([]string{"42"}, rowOf(42, "12.50", "a<b>&\"\\\n\x01\u2028é", `{"b": 1.10, "a": []}`, "18446744073709551615", "1e20"), 9)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"sum \"net\"":12.50,"note":"a<b>&\"\\\n\u0001` + "\u2028" + `é","doc":{"b": 1.10, "a": []},"big":"18446744073709551615","rate":1e20}`
	if string(w.Value) != want {
		t.Errorf("value = %s\nwant    %s", w.Value, want)
	}
	if w.Key != "order:42" || w.Guard != "qg:{order:42}" || w.Op != OpSet || w.TTLMillis != 0 || w.Fields != nil {
		t.Errorf("write = %+v", w)
	}
	if !json.Valid(w.Value) {
		t.Error("the value is not JSON")
	}
	w, err = m.Render([]string{"1"}, rowOf(1, "NULL", "", "null", "NULL", "NULL"), 9)
	if want := `{"sum \"net\"":null,"note":"","doc":null,"big":null,"rate":null}`; err != nil || string(w.Value) != want {
		t.Errorf("value = %s, %v; want %s", w.Value, err, want)
	}
}

func TestRender_HashSortsFieldsAndMarksNulls(t *testing.T) {
	t.Parallel()
	spec := ordersSpec(Hash, "total", "note", "big")
	spec.Columns[1].As = "a"
	w, err := compile(t, spec, orders).Render([]string{"42"}, rowOf(42, "12.50", "NULL", ""), 9)
	if err == nil {
		t.Errorf("an empty number is rendered: %+v", w)
	}
	w, err = compile(t, spec, orders).Render([]string{"42"}, rowOf(42, "12.50", "NULL", "7"), 9)
	want := []Field{{Name: "a", Null: true}, {Name: "big", Value: []byte("7")}, {Name: "total", Value: []byte("12.50")}}
	if err != nil || w.Op != OpHash || !reflect.DeepEqual(w.Fields, want) || w.Value != nil {
		t.Errorf("write = %+v, %v; want fields %+v", w, err, want)
	}
}

func TestRender_MissingRows(t *testing.T) {
	t.Parallel()
	del := Write{Key: "order:42", Guard: "qg:{order:42}", Op: OpDel}
	with := func(change func(*Write)) Write { w := del; change(&w); return w }
	change := func(encoding Encoding, column string, change func(*Spec)) Spec {
		spec := ordersSpec(encoding, column)
		change(&spec)
		return spec
	}
	nothing := func(*Spec) {}
	negative := func(s *Spec) { s.NegativeTTLMillis, s.TTLMillis, s.TTLJitter = 3_000, 60_000, 50 }
	excluded := rowOf(42, "1")
	excluded.Excluded = true
	for name, c := range map[string]struct {
		spec Spec
		row  *Row
		want Write
	}{
		"json":                    {change(JSON, "total", nothing), nil, del},
		"json, excluded":          {change(JSON, "total", nothing), excluded, del},
		"json, if present":        {change(JSON, "total", func(s *Spec) { s.Mode = WriteIfPresent }), nil, del},
		"json, negative":          {change(JSON, "total", negative), excluded, with(func(w *Write) { w.Op, w.Value, w.TTLMillis = OpSet, []byte("null"), 3_000 })},
		"string":                  {change(String, "note", nothing), nil, del},
		"string, NULL":            {change(String, "note", nothing), rowOf(42, "NULL"), del},
		"string, negative":        {change(String, "note", negative), rowOf(42, "NULL"), with(func(w *Write) { w.Op, w.Value, w.TTLMillis = OpSet, []byte{}, 3_000 })},
		"raw, negative, present":  {change(Raw, "raw", func(s *Spec) { negative(s); s.Mode = WriteIfPresent }), nil, with(func(w *Write) { w.Op, w.Value, w.TTLMillis = OpSetIfPresent, []byte{}, 3_000 })},
		"hash keeps other fields": {change(Hash, "total", nothing), nil, with(func(w *Write) { w.Op, w.Fields = OpDelFields, []Field{{Name: "total", Null: true}} })},
		"hash, replace": {change(Hash, "total", func(s *Spec) { s.OnWrongType = WrongTypeReplace }), excluded, with(func(w *Write) {
			w.Op, w.Fields, w.Replace = OpDelFields, []Field{{Name: "total", Null: true}}, true
		})},
		"invalidate, gone":     {change("", "total", func(s *Spec) { s.Mode = Invalidate }), nil, del},
		"invalidate, no value": {change("", "total", func(s *Spec) { s.Mode = Invalidate }), rowOf(42), del},
	} {
		w, err := compile(t, c.spec, orders).Render([]string{"42"}, c.row, 9)
		if err != nil || !reflect.DeepEqual(w, c.want) {
			t.Errorf("%s: %+v, %v; want %+v", name, w, err, c.want)
		}
	}
}

func TestRender_EachEncodingOfEachKind(t *testing.T) {
	t.Parallel()
	bit := append(slices.Clone(orders), NewColumn("flags", "bit(40)", true))
	for _, c := range []struct {
		encoding Encoding
		column   ColumnSpec
		codec    int
		cell     string
		want     string
	}{
		{JSON, ColumnSpec{Name: "raw", Binary: BinaryHex}, 0, "\x00\xffA", `{"raw":"00ff41"}`},
		{JSON, ColumnSpec{Name: "raw", Binary: BinaryBase64}, 0, "\x00\xffA", `{"raw":"AP9B"}`},
		{Hash, ColumnSpec{Name: "raw", Binary: BinaryHex}, 0, "\x00\xffA", "00ff41"},
		{String, ColumnSpec{Name: "raw", Binary: BinaryBase64}, 0, "", ""},
		{Raw, ColumnSpec{Name: "raw"}, 0, "\x00\xffA", "\x00\xffA"},
		{Raw, ColumnSpec{Name: "note"}, 0, "é", "é"},
		{JSON, ColumnSpec{Name: "flags"}, 0, "1099511627775", `{"flags":1099511627775}`},
		{JSON, ColumnSpec{Name: "flags", String: true}, 0, "7", `{"flags":"7"}`},
		{String, ColumnSpec{Name: "flags"}, 0, "7", "7"},
		{String, ColumnSpec{Name: "total"}, 0, "12.50", "12.50"},
		{JSON, ColumnSpec{Name: "doc"}, 1, `{"b": 1.10, "a": [ ]}`, `{"doc":{"b": 1.10, "a": [ ]}}`},
		{JSON, ColumnSpec{Name: "doc"}, 2, `{"b": 1.10, "a": [ ], "s": " < "}`, `{"doc":{"b":1.10,"a":[],"s":" < "}}`},
		{Hash, ColumnSpec{Name: "doc"}, 2, `[1, 2]`, `[1,2]`},
		{String, ColumnSpec{Name: "doc"}, 2, `[1, 2]`, `[1,2]`},
		{Raw, ColumnSpec{Name: "doc"}, 2, `[1, 2]`, `[1, 2]`},
	} {
		spec := ordersSpec(c.encoding)
		spec.Columns, spec.Codec = []ColumnSpec{c.column}, c.codec
		w, err := compile(t, spec, bit).Render([]string{"42"}, rowOf(42, c.cell), 9)
		got := string(w.Value)
		if len(w.Fields) > 0 {
			got = string(w.Fields[0].Value)
		}
		if err != nil || got != c.want {
			t.Errorf("%s %+v codec %d of %q = %q, %v; want %q", c.encoding, c.column, c.codec, c.cell, got, err, c.want)
		}
	}
	for encoding, cell := range map[Encoding]string{String: "\xff", JSON: "\xff"} {
		if _, err := compile(t, ordersSpec(encoding, "note"), orders).Render([]string{"42"}, rowOf(42, cell), 9); !errors.Is(err, ErrUnrenderable) {
			t.Errorf("%s: %v, want ErrUnrenderable", encoding, err)
		}
	}
}

func TestRender_OneEventWritesEachOfItsKeys(t *testing.T) {
	t.Parallel()
	spec := ordersSpec(JSON, "total")
	spec.Key, spec.Keys, spec.GuardPrefix = "", []string{"order:{id}", "{{tenant}}:o:{id}"}, "g:"
	spec.Mode, spec.TTLMillis, spec.TTLJitter, spec.OnWrongType = WriteIfPresent, 600_000, 50, WrongTypeReplace
	m := compile(t, spec, orders)
	writes, err := m.AppendWrites(nil, []string{"42"}, rowOf(42, "1"), 9)
	if err != nil || len(writes) != m.KeyCount() || !slices.Equal(m.Keys([]string{"42"}), []string{writes[0].Key, writes[1].Key}) {
		t.Fatalf("%+v, %v", writes, err)
	}
	for i, want := range []Write{{Key: "order:42", Guard: "g:{order:42}"}, {Key: "{tenant}:o:42", Guard: "g::{tenant}:o:42"}} {
		want.Op, want.Value, want.Replace, want.TTLMillis = OpSetIfPresent, []byte(`{"total":1}`), true, writes[i].TTLMillis
		if !reflect.DeepEqual(writes[i], want) {
			t.Errorf("%+v, want %+v", writes[i], want)
		}
	}
	if writes[0].TTLMillis == writes[1].TTLMillis {
		t.Errorf("both keys expire after %d ms: their jitter is the same", writes[0].TTLMillis)
	}
	if _, err := m.AppendWrites(nil, []string{"42"}, rowOf(41, "1"), 9); !errors.Is(err, ErrUnrenderable) {
		t.Errorf("another row: %v", err)
	}
}

func TestRender_RefusesARowThatDoesNotFit(t *testing.T) {
	t.Parallel()
	for _, encoding := range []Encoding{JSON, Hash} {
		m := compile(t, ordersSpec(encoding, "total", "note", "doc"), orders)
		for name, row := range map[string]*Row{
			"another row":   rowOf(43, "1", "x", "{}"),
			"a cell short":  rowOf(42, "1", "x"),
			"not a number":  rowOf(42, "x", "x", "{}"),
			"leading zero":  rowOf(42, "01", "x", "{}"),
			"not UTF-8":     rowOf(42, "1", "\xff", "{}"),
			"not JSON":      rowOf(42, "1", "x", "{"),
			"JSON, no UTF8": rowOf(42, "1", "x", "\"\xff\""),
		} {
			if w, err := m.Render([]string{"42"}, row, 9); !errors.Is(err, ErrUnrenderable) || !reflect.DeepEqual(w, Write{}) {
				t.Errorf("%s, %s: %+v, %v; want ErrUnrenderable and nothing to write", encoding, name, w, err)
			}
		}
		for size, want := range map[int]error{valueBytesMax - 100: nil, valueBytesMax + 1: ErrTooLarge} {
			if _, err := m.Render([]string{"42"}, rowOf(42, "1", strings.Repeat("x", size), "{}"), 9); !errors.Is(err, want) {
				t.Errorf("%s, %d bytes: %v, want %v", encoding, size, err, want)
			}
		}
	}
}

func TestRender_TTLIsSpreadAndTheSameForEveryRetry(t *testing.T) {
	t.Parallel()
	spec := ordersSpec(JSON, "total")
	spec.TTLMillis, spec.TTLJitter = 10_000, 20
	m := compile(t, spec, orders)
	var buckets [4]int
	for id := range 2_000 {
		row := rowOf(id, "1")
		w, err := m.Render(row.PK, row, uint64(id)+1)
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := m.Render(row.PK, row, uint64(id)+1); again.TTLMillis != w.TTLMillis {
			t.Fatalf("token %d: ttl %d, then %d", id+1, w.TTLMillis, again.TTLMillis)
		}
		if w.TTLMillis <= 8_000 || w.TTLMillis > 10_000 {
			t.Fatalf("ttl %d is not within (8000, 10000]", w.TTLMillis)
		}
		buckets[(w.TTLMillis-8_001)/500]++
	}
	for i, n := range buckets {
		if n < 400 || n > 600 {
			t.Errorf("quarter %d of the range holds %d of 2,000: %v", i, n, buckets)
		}
	}
}

func FuzzRenderedTextSurvivesJSON(f *testing.F) {
	f.Add("plain")
	f.Add("\x00\x1f\x7f\"\\/<>&\u2028😀")
	m := compile(f, ordersSpec(JSON, "note"), orders)
	f.Fuzz(func(t *testing.T, s string) {
		w, err := m.Render([]string{"1"}, &Row{Key: []string{"1"}, Values: []Cell{{Bytes: []byte(s)}}}, 1)
		if !utf8.ValidString(s) {
			if !errors.Is(err, ErrUnrenderable) {
				t.Fatalf("bytes that are not UTF-8: %v", err)
			}
			return
		}
		var back struct{ Note *string }
		if err := json.Unmarshal(w.Value, &back); err != nil || back.Note == nil || *back.Note != s {
			t.Errorf("%q came back as %v, %v", s, back.Note, err)
		}
	})
}

func FuzzIsNumber(f *testing.F) {
	for _, s := range []string{"0", "-0", "01", "1.", ".1", "1e5", "1E+5", "1e", "-", "--1", "1.50", "NaN", "+1", " 1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		trimmed := strings.TrimSpace(s) == s
		want := trimmed && json.Valid([]byte(s)) && s != "" && (s[0] == '-' || s[0] >= '0' && s[0] <= '9')
		if got := isNumber([]byte(s)); got != want {
			t.Errorf("isNumber(%q) = %t", s, got)
		}
	})
}

func ExampleMapping_Render() {
	spec := Spec{
		Source: "shop", Table: "orders", PrimaryKey: []string{"id"}, Columns: []ColumnSpec{{Name: "id"}, {Name: "total", As: "sum"}},
		Target: "cache", Key: "order:{id}", Mode: WriteThrough, Encoding: JSON, TTLMillis: 60_000,
	}
	id := NewColumn("id", "bigint(20)", false)
	id.KeyPart = 1
	m, err := Compile(spec, 1, []Column{id, NewColumn("total", "decimal(10,2)", false)})
	if err != nil {
		fmt.Println(err)
		return
	}
	row := &Row{Key: []string{"42"}, PK: []string{"42"}, Values: []Cell{{Bytes: []byte("42")}, {Bytes: []byte("12.50")}}}
	w, err := m.Render(row.Key, row, 1)
	fmt.Println(w.Key, string(w.Value), w.TTLMillis, err)
	// Output: order:42 {"id":42,"sum":12.50} 60000 <nil>
}
