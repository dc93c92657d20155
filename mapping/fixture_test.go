package mapping

import (
	"errors"
	"strconv"
	"testing"
)

// orders is a table with one column of each kind.
var orders = []Column{
	{Name: "id", Type: "bigint(20)", Kind: KindInteger, Bits: 64, KeyPart: 1},
	NewColumn("total", "decimal(10,2)", true),
	NewColumn("note", "varchar(200)", true),
	NewColumn("doc", "json", true),
	NewColumn("big", "bigint(20) unsigned", true),
	NewColumn("rate", "double", true),
	NewColumn("raw", "varbinary(20)", true),
}

func ordersSpec(encoding Encoding, columns ...string) Spec {
	spec := Spec{Source: "shop", Table: "orders", PrimaryKey: []string{"id"}, Target: "cache", Key: "order:{id}", Mode: WriteThrough, Encoding: encoding}
	for _, c := range columns {
		spec.Columns = append(spec.Columns, ColumnSpec{Name: c})
	}
	return spec
}

func compile(t testing.TB, spec Spec, columns []Column) *Mapping {
	t.Helper()
	m, err := Compile(spec, 7, columns)
	if err != nil {
		t.Fatalf("Compile: %v", err)
	}
	return m
}

// keyed is a mapping over integer key columns of the given types.
func keyed(t testing.TB, template string, types ...string) *Mapping {
	t.Helper()
	spec := Spec{Source: "s", Table: "t", Target: "c", Key: template, Mode: Invalidate}
	var columns []Column
	for i, columnType := range types {
		c := NewColumn(string(rune('a'+i)), columnType, false)
		c.KeyPart = i + 1
		columns = append(columns, c)
		spec.PrimaryKey = append(spec.PrimaryKey, c.Name)
	}
	return compile(t, spec, columns)
}

// rowOf builds a row of text cells; "NULL" is the null.
func rowOf(id int, cells ...string) *Row {
	row := &Row{PK: []string{strconv.Itoa(id)}}
	for _, text := range cells {
		if text == "NULL" {
			row.Values = append(row.Values, Cell{Null: true})
		} else {
			row.Values = append(row.Values, Cell{Bytes: []byte(text)})
		}
	}
	return row
}

func faultsOf(t testing.TB, err error) []Fault {
	t.Helper()
	invalid, ok := errors.AsType[*InvalidError](err)
	if !ok {
		t.Fatalf("error = %v, want an InvalidError", err)
	}
	return invalid.Faults
}
