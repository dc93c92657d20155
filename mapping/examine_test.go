package mapping

import (
	"strconv"
	"testing"
)

// torture has names that sort differently as text and as JSON, and a column of each kind.
func tortureSpec(encoding Encoding) Spec {
	spec := ordersSpec(encoding, "id", "total", "note", "doc", "big", "rate", "raw")
	for i, as := range []string{"a", "a!", `a"`, "z", "é", "Z", "a\\"} {
		spec.Columns[i].As = as
	}
	spec.Columns[4].String = true
	spec.Columns[6].Binary = BinaryHex
	return spec
}

// held is what Redis would hold of a write.
func held(encoding Encoding, w Write) Actual {
	if encoding != Hash {
		return Actual{Type: TypeString, Value: w.Value, TTLMillis: NoExpiry}
	}
	a := Actual{Type: TypeHash, TTLMillis: NoExpiry}
	for i := range w.Fields { // backwards: the order means nothing
		if f := w.Fields[len(w.Fields)-1-i]; !f.Null {
			a.Fields = append(a.Fields, f)
		}
	}
	if len(a.Fields) == 0 {
		a.Type = TypeNone
	}
	return a
}

// FuzzExaminer: one look says what the three functions say that it stands for, of the right value, of the same in other bytes, and of wrong ones.
func FuzzExaminer(f *testing.F) {
	f.Add("12.50", `a "quoted" \ note`, `{"b":1,"a":[1.0,{"x":"A"}]}`, uint64(1<<63), "1e-7", []byte{0, 255}, uint8(0))
	f.Add("-0", "", `"\ud800"`, uint64(0), "0", []byte{}, uint8(255))
	f.Add("7", "\x00é\u2028", ` [ 1 , 2 ] `, uint64(7), "16777217", []byte("x"), uint8(5))
	f.Add("7", "n", `{"a":1,"a":2}`, uint64(7), "3", []byte("x"), uint8(0))
	mappings := map[Encoding]*Mapping{}
	for _, encoding := range []Encoding{JSON, Hash} {
		mappings[encoding] = compile(f, tortureSpec(encoding), orders)
	}
	f.Fuzz(func(t *testing.T, total, note, doc string, big uint64, rate string, raw []byte, nulls uint8) {
		texts := []string{"7", total, note, doc, strconv.FormatUint(big, 10), rate, string(raw)}
		row := &Row{Key: []string{"7"}, PK: []string{"7"}}
		for i, text := range texts {
			row.Values = append(row.Values, Cell{Bytes: []byte(text), Null: i > 0 && nulls>>i&1 == 1})
		}
		for encoding, m := range mappings {
			key := m.Key(row.Key)
			right, err := m.Render(row.Key, row, 0)
			actuals := []Actual{{Type: TypeNone, TTLMillis: NoExpiry}, {Type: TypeOther, TTLMillis: 5}, {Type: TypeString, Value: []byte(doc), TTLMillis: NoExpiry}}
			if err == nil {
				actual := held(encoding, right)
				actuals = append(actuals, actual)
				if encoding == JSON {
					if canonical, err := CanonicalJSON(actual.Value); err == nil {
						actuals = append(actuals, Actual{Type: TypeString, Value: canonical, TTLMillis: NoExpiry})
					}
				} else if len(actual.Fields) > 0 {
					actuals = append(actuals, Actual{Type: TypeHash, Fields: append([]Field{{Name: "foreign", Value: []byte("x")}}, actual.Fields[1:]...), TTLMillis: 5})
				}
			}
			x := NewExaminer(m)
			for range 2 { // what the first look leaves in its room must not show in the second
				for _, actual := range actuals {
					same(t, m, x, key, row, actual)
				}
			}
		}
	})
}

func same(t *testing.T, m *Mapping, x *Examiner, key string, row *Row, actual Actual) {
	t.Helper()
	got, gotErr := x.Examine(key, row, actual)
	verdict, err := m.Compare(row.Key, row, actual)
	if (err == nil) != (gotErr == nil) {
		t.Fatalf("Examine: %v, Compare: %v", gotErr, err)
	}
	if err != nil {
		return
	}
	want := Examined{Verdict: verdict}
	if verdict != Equal || actual.Type != TypeNone {
		if want.Expected, want.HasExpected, err = m.DigestRow(key, row); err != nil {
			t.Fatal(err)
		}
		want.Actual, want.HasActual = m.DigestActual(key, actual)
	}
	if got != want {
		t.Errorf("%s of %+v:\n got %+v\nwant %+v", actual.Type, actual, got, want)
	}
}

func BenchmarkExamine(b *testing.B) {
	for _, encoding := range []Encoding{JSON, Hash} {
		m := compile(b, ordersSpec(encoding, "id", "total", "note", "big", "rate"), orders)
		row := &Row{Key: []string{"7"}, PK: []string{"7"}}
		for _, text := range []string{"7", "12.50", "in the drawer below the bench, beside the others; it is the one with the red handle", "18446744073709551615", "1.5"} {
			row.Values = append(row.Values, Cell{Bytes: []byte(text)})
		}
		w, err := m.Render(row.Key, row, 0)
		if err != nil {
			b.Fatal(err)
		}
		actual, key := held(encoding, w), m.Key(row.Key)
		b.Run(string(encoding), func(b *testing.B) {
			b.ReportAllocs()
			x := NewExaminer(m)
			for b.Loop() {
				if out, err := x.Examine(key, row, actual); err != nil || out.Verdict != Equal {
					b.Fatal(out, err)
				}
			}
		})
	}
}
