package mapping

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
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

func TestRender_GoneRowAndInvalidateModeDelete(t *testing.T) {
	t.Parallel()
	invalidate := ordersSpec("")
	invalidate.Mode = Invalidate
	for name, c := range map[string]struct {
		spec Spec
		row  *Row
	}{"gone, json": {ordersSpec(JSON, "total"), nil}, "gone, hash": {ordersSpec(Hash, "total"), nil}, "gone, invalidate": {invalidate, nil}, "invalidate": {invalidate, rowOf(42)}} {
		w, err := compile(t, c.spec, orders).Render([]string{"42"}, c.row, 9)
		if want := (Write{Key: "order:42", Guard: "qg:{order:42}", Op: OpDel}); err != nil || !reflect.DeepEqual(w, want) {
			t.Errorf("%s: %+v, %v; want %+v", name, w, err, want)
		}
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
		w, err := m.Render([]string{"1"}, &Row{PK: []string{"1"}, Values: []Cell{{Bytes: []byte(s)}}}, 1)
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
	row := &Row{PK: []string{"42"}, Values: []Cell{{Bytes: []byte("42")}, {Bytes: []byte("12.50")}}}
	w, err := m.Render(row.PK, row, 1)
	fmt.Println(w.Key, string(w.Value), w.TTLMillis, err)
	// Output: order:42 {"id":42,"sum":12.50} 60000 <nil>
}
