package mapping

import (
	"fmt"
	"slices"
)

// Mapping is a Spec joined with its table: everything checked, everything looked up.
type Mapping struct {
	spec       Spec
	revision   uint64
	primaryKey []Column
	columns    []Column // in the order of spec.Columns
	names      [][]byte // the columns' names in the value, as JSON strings
	template   template
}

// Compile checks spec against the table's columns. revision is the mapping record's own and is only carried. The error, if any, is an [*InvalidError].
func Compile(spec Spec, revision uint64, columns []Column) (*Mapping, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	spec.PrimaryKey, spec.Columns = slices.Clone(spec.PrimaryKey), slices.Clone(spec.Columns) // the caller keeps its own
	var f faults
	byName := make(map[string]Column, len(columns))
	for _, c := range columns {
		byName[c.Name] = c
	}
	m := &Mapping{spec: spec, revision: revision}
	m.primaryKey = resolvePrimaryKey(&f, spec, columns, byName)
	m.columns = resolveColumns(&f, spec, byName)
	if err := f.err(); err != nil {
		return nil, err
	}
	m.template, _ = parseTemplate(spec.Key, spec.PrimaryKey) // Validate has parsed it
	for _, c := range spec.Columns {
		m.names = append(m.names, appendString(nil, c.Field()))
	}
	return m, nil
}

// resolvePrimaryKey wants exactly the table's primary key in the table's order: another unique key may change under a row, and keyset reads need the index order.
func resolvePrimaryKey(f *faults, spec Spec, columns []Column, byName map[string]Column) []Column {
	actual := primaryKeyOf(columns)
	if len(actual) == 0 {
		f.add("table", "%q has no primary key", spec.Table)
		return nil
	}
	if !slices.Equal(actual, spec.PrimaryKey) {
		f.add("primary_key", "is %q, but the primary key of %q is %q", spec.PrimaryKey, spec.Table, actual)
		return nil
	}
	out := make([]Column, len(actual))
	for i, name := range actual {
		out[i] = byName[name]
		if out[i].Kind != KindInteger {
			f.add(fmt.Sprintf("primary_key[%d]", i), "%q has type %s; only integer primary keys are supported", name, out[i].Type)
		}
	}
	return out
}

func primaryKeyOf(columns []Column) []string {
	var parts []Column
	for _, c := range columns {
		if c.KeyPart > 0 {
			parts = append(parts, c)
		}
	}
	slices.SortFunc(parts, func(a, b Column) int { return a.KeyPart - b.KeyPart })
	names := make([]string, len(parts))
	for i, c := range parts {
		names[i] = c.Name
	}
	return names
}

func resolveColumns(f *faults, spec Spec, byName map[string]Column) []Column {
	out := make([]Column, 0, len(spec.Columns))
	for i, want := range spec.Columns {
		field := fmt.Sprintf("columns[%d].name", i)
		c, ok := byName[want.Name]
		if !ok {
			f.add(field, "%q is not a column of %q", want.Name, spec.Table)
			continue
		}
		if reason := c.unsupported(); reason != "" {
			f.add(field, "%q %s", want.Name, reason)
		}
		out = append(out, c)
	}
	return out
}

// Spec returns the declaration. The caller must not change its slices.
func (m *Mapping) Spec() Spec { return m.spec }

// Revision returns the revision of the mapping record that this was compiled from.
func (m *Mapping) Revision() uint64 { return m.revision }

// PrimaryKey returns the table's primary-key columns in their order. The caller must not change it.
func (m *Mapping) PrimaryKey() []Column { return m.primaryKey }

// Columns returns the value's columns in the order of the spec. The caller must not change it.
func (m *Mapping) Columns() []Column { return m.columns }

// NeedsRow says whether rendering reads the row at all.
func (m *Mapping) NeedsRow() bool { return m.spec.Mode == WriteThrough }

// Key names the data key of a row. pk must come from [Mapping.PK] or from the database.
func (m *Mapping) Key(pk []string) string { return m.template.render(pk) }
