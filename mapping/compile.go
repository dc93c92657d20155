package mapping

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Mapping is a Spec joined with its table: everything checked, everything looked up.
type Mapping struct {
	spec        Spec
	revision    uint64
	primaryKey  []Column
	keyColumns  []keyColumn
	keyIsPK     bool
	columns     []Column // in the order of spec.Columns
	names       [][]byte // the columns' names in the value, as JSON strings
	byField     []int    // the columns in the order of their names in the value
	byName      []int    // the columns in the order of those names as JSON strings
	where       []Predicate
	templates   []template
	keysVary    bool // some tuples of the right types have no key
	guardPrefix string
	fold        bool
	optional    bool
	compact     bool
}

// keyColumn is a column that keys are made of.
type keyColumn struct {
	Column
	class keyClass
}

// Compile checks spec against the table's columns. revision is the mapping record's own and is only carried. The error, if any, is an [*InvalidError].
func Compile(spec Spec, revision uint64, columns []Column) (*Mapping, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	// The caller keeps its own.
	spec.PrimaryKey, spec.KeyColumns, spec.Columns = slices.Clone(spec.PrimaryKey), slices.Clone(spec.KeyColumns), slices.Clone(spec.Columns)
	spec.Keys, spec.Where = slices.Clone(spec.Keys), slices.Clone(spec.Where)
	var f faults
	byName := make(map[string]Column, len(columns))
	for _, c := range columns {
		byName[c.Name] = c
	}
	m := &Mapping{spec: spec, revision: revision, guardPrefix: spec.guardPrefix(), fold: spec.Fold == FoldLower, optional: spec.optional(), compact: spec.Codec == codecCompact}
	m.primaryKey = resolvePrimaryKey(&f, spec, columns, byName)
	m.resolveKeyColumns(&f, byName)
	m.columns = resolveColumns(&f, spec, byName)
	m.where = resolveWhere(&f, spec, byName)
	if len(f) == 0 {
		m.bindTemplates(&f)
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	for i, c := range spec.Columns {
		m.names = append(m.names, appendString(nil, c.Field()))
		m.byField = append(m.byField, i)
	}
	slices.SortFunc(m.byField, func(a, b int) int { return strings.Compare(spec.Columns[a].Field(), spec.Columns[b].Field()) })
	m.byName = slices.Clone(m.byField)
	slices.SortFunc(m.byName, func(a, b int) int { return bytes.Compare(m.names[a], m.names[b]) })
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
		if reason := out[i].unordered(); reason != "" {
			f.add(fmt.Sprintf("primary_key[%d]", i), "%q has type %s, %s", name, out[i].Type, reason)
		}
	}
	return out
}

// unordered gives the reason why a table cannot be read in the order of the column, or "".
func (c Column) unordered() string {
	switch c.Kind {
	case KindFloat, KindDouble:
		return "whose values are rounded, so that a read could not go on where it stopped"
	case KindJSON, KindUnsupported:
		return "in whose order no table is read"
	}
	if base := c.Base(); strings.HasSuffix(base, "text") || strings.HasSuffix(base, "blob") {
		return "of which the primary key holds only the beginning"
	}
	return ""
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

func (m *Mapping) resolveKeyColumns(f *faults, byName map[string]Column) {
	names, what := m.spec.keyColumns(), "key_columns"
	m.keyIsPK = slices.Equal(names, m.spec.PrimaryKey)
	if len(m.spec.KeyColumns) == 0 {
		what = "primary_key"
	}
	folded := false
	for i, name := range names {
		field := fmt.Sprintf("%s[%d]", what, i)
		c, ok := byName[name]
		if !ok {
			if what == "key_columns" { // of the primary key it was said already
				f.add(field, "%q is not a column of %q", name, m.spec.Table)
			}
			continue
		}
		class, reason := c.keyClass(m.fold)
		if reason != "" && (c.KeyPart == 0 || c.unordered() == "") {
			f.add(field, "%q %s", name, reason)
		}
		folded = folded || class == keyText
		m.keyColumns = append(m.keyColumns, keyColumn{c, class})
	}
	if m.fold && !folded && len(*f) == 0 {
		f.add("fold", "needs a key column of text")
	}
}

// bindTemplates needs sound key columns.
func (m *Mapping) bindTemplates(f *faults) {
	names := m.spec.keyColumns()
	for i, text := range m.spec.keyTemplates() {
		t, _ := parseTemplate(text, names) // Validate has parsed it
		if err := t.bind(m.keyColumns); err != nil {
			f.add(m.spec.templateField(i), "%s", err)
		}
		m.keysVary = m.keysVary || t.varies(m.guardPrefix)
		m.templates = append(m.templates, t)
		for j, c := range m.keyColumns {
			if c.Nullable && !slices.Contains(t.parts, j) {
				f.add(m.spec.templateField(i), "lacks {%s}, which may be NULL: then this key would not be cleared either; give it a mapping of its own", c.Name)
			}
		}
	}
	if m.spec.Mode == Invalidate || len(*f) > 0 {
		return
	}
	for i := range m.templates {
		for j := range i {
			if m.templates[i].pattern().meets(m.templates[j].pattern()) {
				f.add(m.spec.templateField(i), "may render the same key as %s", m.spec.templateField(j))
			}
		}
	}
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
		if err := fitsBinary(spec, want, c); err != nil {
			f.add(fmt.Sprintf("columns[%d].binary", i), "%s", err)
		}
		out = append(out, c)
	}
	return out
}

func fitsBinary(spec Spec, want ColumnSpec, c Column) error {
	switch bytes := c.Kind == KindBinary; {
	case bytes && want.Binary == "" && spec.Encoding != Raw && spec.writes():
		return fmt.Errorf("is needed: %q has type %s, and bytes become text as hex or base64", c.Name, c.Type)
	case !bytes && want.Binary != "":
		return errors.New("is for columns of bytes; " + c.Name + " has type " + c.Type)
	}
	return nil
}

// Spec returns the declaration. The caller must not change its slices.
func (m *Mapping) Spec() Spec { return m.spec }

// Revision returns the revision of the mapping record that this was compiled from.
func (m *Mapping) Revision() uint64 { return m.revision }

// PrimaryKey returns the table's primary-key columns in their order. The caller must not change it.
func (m *Mapping) PrimaryKey() []Column { return m.primaryKey }

// KeyColumns returns the columns that keys are made of, in their order.
func (m *Mapping) KeyColumns() []Column {
	out := make([]Column, len(m.keyColumns))
	for i, c := range m.keyColumns {
		out[i] = c.Column
	}
	return out
}

// KeyIsPrimary tells whether keys are made of the primary key, so that an event names its row by it.
func (m *Mapping) KeyIsPrimary() bool { return m.keyIsPK }

// Columns returns the value's columns in the order of the spec. The caller must not change it.
func (m *Mapping) Columns() []Column { return m.columns }

// KeysOnly is the mapping without its value's columns: rows that are read by it tell that they are there, by which keys, and whether the conditions exclude them, and cannot be rendered.
func (m *Mapping) KeysOnly() *Mapping {
	bare := *m
	bare.columns, bare.spec.Columns, bare.byField, bare.byName = nil, nil, nil, nil
	return &bare
}

// Where returns the conditions that a row must meet. The caller must not change it.
func (m *Mapping) Where() []Predicate { return m.where }

// NeedsRow says whether rendering reads the row at all.
func (m *Mapping) NeedsRow() bool { return m.spec.Mode != Invalidate }

// Keys names the data keys of a canonical tuple, one for each template.
func (m *Mapping) Keys(tuple []string) []string {
	return m.AppendKeys(make([]string, 0, len(m.templates)), tuple)
}

// AppendKeys appends what [Mapping.Keys] gives.
func (m *Mapping) AppendKeys(keys, tuple []string) []string {
	for i := range m.templates {
		keys = append(keys, m.templates[i].render(tuple))
	}
	return keys
}

// KeyCount is the number of keys of each tuple.
func (m *Mapping) KeyCount() int { return len(m.templates) }

// Key names the first data key of a canonical tuple.
func (m *Mapping) Key(tuple []string) string { return m.templates[0].render(tuple) }

// Guard names the guard of one of the mapping's keys.
func (m *Mapping) Guard(key string) string { return GuardKey(m.guardPrefix, key) }

func (m *Mapping) keyTemplates() []string { return m.spec.keyTemplates() }

// Parse gives the tuple whose key this is. It is the inverse of [Mapping.Keys]: ok only if the tuple renders to this very key. Templates that leave a key column out have no inverse.
func (m *Mapping) Parse(key string) (tuple []string, ok bool) {
	for i := range m.templates {
		t := &m.templates[i]
		parts, fits := t.parse(key)
		if !fits || len(parts) != len(m.keyColumns) {
			continue
		}
		tuple = make([]string, len(parts))
		for j, part := range t.parts {
			tuple[part] = parts[j]
		}
		if m.CheckTuple(tuple) == nil && t.render(tuple) == key {
			return tuple, true
		}
	}
	return nil, false
}
