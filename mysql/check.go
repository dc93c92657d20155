package mysql

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/quiescehq/quiesce/mapping"
)

// Level is how much a finding weighs.
type Level string

const (
	LevelError   Level = "error" // the mapping is refused
	LevelWarning Level = "warning"
	LevelNote    Level = "note"
)

// Finding is one thing that a check found. Field is a path in the specification, or empty.
type Finding struct {
	Level  Level
	Field  string
	Reason string
}

// Inspection is all that a source can tell about a specification.
type Inspection struct {
	Server   Identity
	Columns  []mapping.Column // they belong into the mapping record: [mapping.Compile] needs them where the source cannot be asked
	Mapping  *mapping.Mapping // nil when the specification does not compile
	Findings []Finding
	Explain  string       // how the server reads a batch of keys
	Sample   *mapping.Row // nil when the table is empty
}

func (i *Inspection) add(level Level, field, format string, args ...any) {
	i.Findings = append(i.Findings, Finding{level, field, fmt.Sprintf(format, args...)})
}

// addFaults takes over what mapping found.
func (i *Inspection) addFaults(err *mapping.InvalidError) {
	for _, f := range err.Faults {
		i.add(LevelError, f.Field, "%s", f.Reason)
	}
}

// Fault gives the errors among the findings as one [*mapping.InvalidError], or nil.
func (i *Inspection) Fault() error {
	var invalid mapping.InvalidError
	for _, f := range i.Findings {
		if f.Level == LevelError {
			invalid.Faults = append(invalid.Faults, mapping.Fault{Field: f.Field, Reason: f.Reason})
		}
	}
	if len(invalid.Faults) == 0 {
		return nil
	}
	return &invalid
}

// Checked is what a successful [Source.Check] found.
type Checked struct {
	Server  Identity
	Columns []mapping.Column
	Sample  *mapping.Row // nil when the table is empty
}

// Check tries a mapping out: the table is there, the spec compiles against it, the account may read what it names, on a primary. A spec that does not fit is a [*mapping.InvalidError].
func (s *Source) Check(ctx context.Context, spec mapping.Spec) (Checked, error) {
	found, err := s.Inspect(ctx, spec)
	if err == nil {
		err = found.Fault()
	}
	if err != nil {
		return Checked{}, err
	}
	return Checked{Server: found.Server, Columns: found.Columns, Sample: found.Sample}, nil
}

// Inspect finds out all it can about a specification. What is wrong with the specification is a finding; the error is for a server that cannot be asked, an account that may not
// read, and a table that is not there.
func (s *Source) Inspect(ctx context.Context, spec mapping.Spec) (*Inspection, error) {
	found := &Inspection{}
	if err, ok := spec.Validate().(*mapping.InvalidError); ok {
		found.addFaults(err)
		return found, nil
	}
	var err error
	if found.Server, err = s.Identity(ctx); err != nil {
		return nil, err
	}
	if found.Columns, err = s.Columns(ctx, spec.Table); err != nil {
		return nil, err
	}
	for _, look := range []func(context.Context, mapping.Spec, *Inspection) error{s.inspectTable, s.inspectIndexes, s.inspectColumns, s.inspectForeignKeys, s.inspectServer} {
		if err := look(ctx, spec, found); err != nil {
			return nil, err
		}
	}
	m, err := mapping.Compile(spec, 0, found.Columns)
	if invalid, ok := err.(*mapping.InvalidError); ok {
		found.addFaults(invalid)
		return found, nil
	}
	found.Mapping = m
	return found, s.tryOut(ctx, m, found)
}

// tryOut reads one row, by order and by key, as passes and deliveries will.
func (s *Source) tryOut(ctx context.Context, m *mapping.Mapping, found *Inspection) error {
	sample, err := s.ReadChunk(ctx, m, nil, 1)
	if err != nil || len(sample) == 0 {
		return err
	}
	row := &sample[0]
	found.Sample = row
	if row.Key == nil {
		found.add(LevelWarning, "key_columns", "the table's first row names no key: a part is NULL, or a text that keys do not take")
		return nil
	}
	if _, err := m.Render(row.Key, row, 0); err != nil {
		found.add(LevelWarning, "columns", "the table's first row cannot be rendered: %s", err)
	}
	if !m.NeedsRow() {
		return nil
	}
	return s.explain(ctx, m, row.Key, found)
}

// explain asks how a read by key goes. Rows that are found without an index would be looked for in the whole table, for each batch.
func (s *Source) explain(ctx context.Context, m *mapping.Mapping, tuple []string, found *Inspection) error {
	return s.each(ctx, "EXPLAIN "+selectRows(m, [][]string{tuple}), nil, func(cell map[string]string) {
		if cell["table"] != "t" {
			return
		}
		found.Explain = fmt.Sprintf("type=%s key=%s rows=%s", cell["type"], cell["key"], cell["rows"])
		if cell["possible_keys"] == "" && (cell["type"] == "ALL" || cell["type"] == "index") {
			found.add(LevelWarning, "key_columns", "the server reads the whole table to find a key (%s): an index that begins with the key columns is missing", found.Explain)
		}
	})
}

func (s *Source) inspectTable(ctx context.Context, spec mapping.Spec, found *Inspection) error {
	return s.each(ctx, "SELECT TABLE_TYPE AS type, IFNULL(ENGINE, '') AS engine FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?", []any{s.database, spec.Table}, func(cell map[string]string) {
		switch {
		case cell["type"] != "BASE TABLE":
			found.add(LevelError, "table", "%q is no table but a %s", spec.Table, strings.ToLower(cell["type"]))
		case !strings.EqualFold(cell["engine"], "InnoDB"):
			found.add(LevelError, "table", "%q is of engine %s; only InnoDB commits, so that an event can come after its change is seen", spec.Table, cell["engine"])
		}
	})
}

// inspectIndexes wants at most one row for each key where rows are written.
func (s *Source) inspectIndexes(ctx context.Context, spec mapping.Spec, found *Inspection) error {
	keys := spec.KeyColumns
	if spec.Mode == mapping.Invalidate || len(keys) == 0 || slices.Equal(keys, spec.PrimaryKey) {
		return nil
	}
	within := map[string]bool{}
	err := s.each(ctx, "SELECT INDEX_NAME AS name, COLUMN_NAME AS part FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND NON_UNIQUE = 0", []any{s.database, spec.Table},
		func(cell map[string]string) {
			fits, seen := within[cell["name"]]
			within[cell["name"]] = (fits || !seen) && slices.Contains(keys, cell["part"])
		})
	if err != nil {
		return err
	}
	for _, fits := range within {
		if fits {
			return nil
		}
	}
	found.add(LevelError, "key_columns", "%s: the table has no unique index within these columns, so that several rows could have one key; mode invalidate needs none", strings.Join(keys, ", "))
	return nil
}

func (s *Source) inspectColumns(ctx context.Context, spec mapping.Spec, found *Inspection) error {
	byName := map[string]int{}
	for i, c := range spec.Columns {
		byName[c.Name] = i
	}
	for _, c := range found.Columns {
		i, used := byName[c.Name]
		if !used || spec.Mode == mapping.Invalidate {
			continue
		}
		field := fmt.Sprintf("columns[%d]", i)
		switch {
		case c.Kind == mapping.KindInteger && c.Bits == 64 && spec.Encoding == mapping.JSON && !spec.Columns[i].String:
			found.add(LevelNote, field, "%q is a number of 64 bits: readers whose numbers are doubles lose digits beyond 2^53; \"string\": true keeps them", c.Name)
		case c.Kind == mapping.KindFloat || c.Kind == mapping.KindDouble:
			found.add(LevelNote, field, "%q is printed by the server, and another version of it may print other digits", c.Name)
		case c.Base() == "timestamp":
			found.add(LevelNote, field, "%q is rendered in UTC", c.Name)
		case c.Base() == "longtext" && c.Kind == mapping.KindText && found.Server.Flavour == flavourMariaDB && spec.Encoding == mapping.JSON:
			found.add(LevelNote, field, "%q is rendered as a string: if it is meant to be JSON, it lacks the check json_valid(%s)", c.Name, c.Name)
		}
	}
	return s.each(ctx, "SELECT COLUMN_NAME AS name, EXTRA AS extra FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND EXTRA LIKE '%GENERATED%' AND EXTRA NOT LIKE '%DEFAULT_GENERATED%'", []any{s.database, spec.Table},
		func(cell map[string]string) {
			if i, used := byName[cell["name"]]; used {
				found.add(LevelNote, fmt.Sprintf("columns[%d]", i), "%q is a generated column: it changes with what it is made of", cell["name"])
			}
		})
}

// inspectForeignKeys names what changes rows without a statement on the table: no trigger runs for it.
func (s *Source) inspectForeignKeys(ctx context.Context, spec mapping.Spec, found *Inspection) error {
	return s.each(ctx, `SELECT CONSTRAINT_NAME AS name, REFERENCED_TABLE_NAME AS parent, UPDATE_RULE AS upd, DELETE_RULE AS del FROM information_schema.REFERENTIAL_CONSTRAINTS
		WHERE CONSTRAINT_SCHEMA = ? AND TABLE_NAME = ?`, []any{s.database, spec.Table}, func(cell map[string]string) {
		for _, rule := range []string{cell["upd"], cell["del"]} {
			if rule == "CASCADE" || rule == "SET NULL" {
				found.add(LevelWarning, "table", "foreign key %s changes rows when %s changes (%s), and no trigger runs for it: the application or a pass has to tell", cell["name"], cell["parent"], rule)
				return
			}
		}
	})
}

// readPrivileges are those that an account for reading has.
var readPrivileges = []string{"SELECT", "USAGE", "SHOW VIEW", "PROCESS", "SHOW DATABASES", "REPLICATION CLIENT", "BINLOG MONITOR", "SLAVE MONITOR"}

func (s *Source) inspectServer(ctx context.Context, _ mapping.Spec, found *Inspection) error {
	if found.Server.ReadOnly {
		found.add(LevelError, "source", "the server is read-only: a source is the primary")
	}
	more := map[string]bool{}
	err := s.each(ctx, "SHOW GRANTS", nil, func(cell map[string]string) {
		for _, grant := range cell {
			privileges, _, ok := strings.Cut(strings.TrimPrefix(grant, "GRANT "), " ON ")
			if !ok {
				continue // a role
			}
			for _, p := range strings.Split(privileges, ",") {
				p, _, _ = strings.Cut(strings.TrimSpace(p), " (") // of columns
				if p == strings.ToUpper(p) && !slices.Contains(readPrivileges, p) {
					more[p] = true
				}
			}
		}
	})
	if err != nil {
		return err
	}
	if len(more) > 0 {
		names := make([]string, 0, len(more))
		for p := range more {
			names = append(names, p)
		}
		slices.Sort(names)
		found.add(LevelWarning, "source", "the account may do more than read (%s): give it SELECT alone", clipped(strings.Join(names, ", ")))
	}
	return s.each(ctx, "SELECT @@log_bin AS log_bin", nil, func(cell map[string]string) {
		if cell["log_bin"] == "0" {
			found.add(LevelNote, "source", "the server keeps no binary log: commits that a failover of it loses cannot be told")
		}
	})
}

const findingTextMax = 200

func clipped(s string) string {
	if len(s) > findingTextMax {
		return s[:findingTextMax] + "…"
	}
	return s
}

const inspectRowsMax = 10_000

// each gives the rows of a short answer by the names of their columns, in lower case. NULL is empty.
func (s *Source) each(ctx context.Context, statement string, args []any, take func(cell map[string]string)) error {
	bounded, cancel := context.WithTimeout(ctx, s.queryTimeout)
	defer cancel()
	rows, err := s.pool.QueryContext(bounded, statement, args...)
	if err != nil {
		return s.wrap(ctx, err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return s.wrap(ctx, err)
	}
	cells, dest := make([]*string, len(names)), make([]any, len(names))
	for i := range cells {
		dest[i] = &cells[i]
	}
	for n := 0; n < inspectRowsMax && rows.Next(); n++ {
		if err := rows.Scan(dest...); err != nil {
			return s.wrap(ctx, err)
		}
		row := make(map[string]string, len(names))
		for i, name := range names {
			if cells[i] != nil {
				row[strings.ToLower(name)] = *cells[i]
			}
		}
		take(row)
	}
	return s.wrap(ctx, rows.Err())
}
