package mapping

import "testing"

// deliveredRow is a mapping with a row of usual size.
func deliveredRow(t testing.TB, encoding Encoding) (*Mapping, *Row) {
	m := compile(t, ordersSpec(encoding, "id", "total", "note", "big", "rate"), orders)
	row := &Row{Key: []string{"7"}, PK: []string{"7"}}
	for _, text := range []string{"7", "12.50", "in the drawer below the bench, beside the others; it is the one with the red handle", "18446744073709551615", "1.5"} {
		row.Values = append(row.Values, Cell{Bytes: []byte(text)})
	}
	return m, row
}

// A delivery renders tens of thousands of rows a second: key, guard and value are one allocation each. The race detector adds one.
func TestAppendWrites_JSONIsMadeInOnePiece(t *testing.T) {
	m, row := deliveredRow(t, JSON)
	writes := make([]Write, 0, 1)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := m.AppendWrites(writes, row.Key, row, 7); err != nil {
			t.Fatal(err)
		}
	}); n > 4 {
		t.Errorf("a row of JSON takes %v allocations", n)
	}
}

func BenchmarkAppendWrites(b *testing.B) {
	for _, encoding := range []Encoding{JSON, Hash} {
		m, row := deliveredRow(b, encoding)
		writes := make([]Write, 0, 1)
		b.Run(string(encoding), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.AppendWrites(writes, row.Key, row, 7); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
