package fence

import (
	"fmt"
	"strings"
)

const (
	// ColumnDefault is the name of the column that holds a row's token.
	ColumnDefault = "fence_token"
	// ColumnSchema defines that column: ALTER TABLE orders ADD COLUMN followed by this.
	ColumnSchema = ColumnDefault + " BIGINT UNSIGNED NOT NULL DEFAULT 0"
	// KeyDefault is the key column of a table that names none.
	KeyDefault = "id"

	keyColumnsMax = 16 // as many as an index of MySQL has
)

// Spec says where a table keeps its rows' tokens.
type Spec struct {
	Schema string   // "" for the connection's own
	Table  string   // for example orders
	Key    []string // columns that identify one row: the primary key or a unique one; none for KeyDefault
	Column string   // holds the token, as in ColumnSchema; "" for ColumnDefault
}

// Table is a table whose rows hold the tokens that protect them.
type Table struct {
	name string
	keys int
	place
	update update
}

// place is the SQL that all fences of one table share.
type place struct {
	raise  string // token, key…, token: raises a lower token
	look   string // key…: reads the token and locks it
	insert string // key…, token, token: makes a missing row, and raises a lower token; "" where rows are not ours to make
}

// NewTable checks a Spec. The table itself is not looked at.
func NewTable(s Spec) (*Table, error) {
	if len(s.Key) == 0 {
		s.Key = []string{KeyDefault}
	}
	if s.Column == "" {
		s.Column = ColumnDefault
	}
	if len(s.Key) > keyColumnsMax {
		return nil, fmt.Errorf("%w: %d columns, at most %d", ErrKey, len(s.Key), keyColumnsMax)
	}
	table, err := quote(s.Table)
	if err != nil {
		return nil, fmt.Errorf("table: %w", err)
	}
	if s.Schema != "" {
		schema, err := quote(s.Schema)
		if err != nil {
			return nil, fmt.Errorf("schema: %w", err)
		}
		table = schema + "." + table
	}
	column, err := quote(s.Column)
	if err != nil {
		return nil, fmt.Errorf("token column: %w", err)
	}
	where, err := equals(s.Key)
	if err != nil {
		return nil, fmt.Errorf("key column: %w", err)
	}
	return &Table{
		name: s.Table, keys: len(s.Key),
		place: place{
			raise: "UPDATE " + table + " SET " + column + " = ? WHERE " + where + " AND " + column + " < ?",
			look:  "SELECT " + column + " FROM " + table + " WHERE " + where + " LIMIT 2 FOR UPDATE",
		},
		update: update{
			before: "UPDATE " + table + " SET ",
			after:  ", " + column + " = ? WHERE " + where + " AND " + column + " <= ?",
		},
	}, nil
}

func equals(columns []string) (string, error) {
	terms := make([]string, len(columns))
	for i, c := range columns {
		quoted, err := quote(c)
		if err != nil {
			return "", err
		}
		terms[i] = quoted + " = ?"
	}
	return strings.Join(terms, " AND "), nil
}

// Row is one row's fence. The values are those of Spec.Key, in its order and of the columns' own types: MySQL converts others, and may
// then match other rows.
func (t *Table) Row(key ...any) Row {
	return Row{Fence: Fence{place: &t.place, key: key, resource: describe(t.name, key), wrong: t.checkKey(key)}, update: t.update}
}

func (t *Table) checkKey(key []any) error {
	if len(key) != t.keys {
		return fmt.Errorf("%w: %s has %d key columns, not %d", ErrKey, t.name, t.keys, len(key))
	}
	for i, value := range key {
		if value == nil {
			return fmt.Errorf("%w: column %d of %s is NULL, which equals nothing", ErrKey, i+1, t.name)
		}
	}
	return nil
}

func describe(table string, key []any) string {
	text := fmt.Sprintf("%s %v", table, key)
	return text[:min(len(text), resourceBytesMax)]
}
