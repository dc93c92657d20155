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

// keyed is a mapping over key columns of the given types, which are a, b and so on.
func keyed(t testing.TB, template string, types ...string) *Mapping {
	t.Helper()
	return compile(t, keyedSpec(template, types...), keyedColumns("utf8mb4_bin", types...))
}

func keyedSpec(template string, types ...string) Spec {
	spec := Spec{Source: "s", Table: "t", Target: "c", Key: template, Mode: WriteThrough, Encoding: JSON}
	for i := range types {
		spec.PrimaryKey = append(spec.PrimaryKey, string(rune('a'+i)))
	}
	spec.Columns = []ColumnSpec{{Name: "v"}}
	return spec
}

func keyedColumns(collation string, types ...string) []Column {
	columns := []Column{NewColumn("v", "int", true)}
	for i, columnType := range types {
		c := NewColumn(string(rune('a'+i)), columnType, false)
		c.KeyPart = i + 1
		if base := c.Base(); base == "char" || base == "varchar" {
			c.Collation = collation
		}
		columns = append(columns, c)
	}
	return columns
}

// rowOf builds a row of text cells; "NULL" is the null.
func rowOf(id int, cells ...string) *Row {
	row := &Row{Key: []string{strconv.Itoa(id)}, PK: []string{strconv.Itoa(id)}}
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
