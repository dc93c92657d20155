package mysql

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/quiescehq/quiesce/mapping"
)

const (
	// BatchRowsMax bounds the keys of one ReadRows.
	BatchRowsMax = 500
	// ChunkRowsMax bounds the rows of one ReadChunk.
	ChunkRowsMax = 5_000

	readBytesMaxDefault = 64 << 20
	proofColumns        = 2
)

// ReadRows reads the rows of the given canonical tuples of the mapping's key columns in one statement. The result holds the rows that exist, by [mapping.EncodeKey]; a tuple without
// an entry has no row on the primary at the time of the read. The server looks up by the columns' own collations and may find more: only a row whose canonical tuple is the asked
// one is taken. Where rows share a tuple (no unique index), one of them is taken. Any error leaves every key of the batch unknown.
func (s *Source) ReadRows(ctx context.Context, m *mapping.Mapping, tuples [][]string) (map[string]*mapping.Row, error) {
	if len(tuples) > BatchRowsMax {
		return nil, fmt.Errorf("source %s: %w: %d keys, at most %d", s.name, ErrBatchTooLarge, len(tuples), BatchRowsMax)
	}
	asked := make(map[string]bool, len(tuples))
	for _, tuple := range tuples {
		if err := m.CheckTuple(tuple); err != nil {
			return nil, err
		}
		asked[mapping.EncodeKey(tuple)] = true
	}
	found := make(map[string]*mapping.Row, len(tuples))
	if len(tuples) == 0 {
		return found, nil
	}
	whole, err := s.read(ctx, m, selectRows(m, tuples), func(row mapping.Row) {
		if key := mapping.EncodeKey(row.Key); row.Key != nil && asked[key] && found[key] == nil {
			found[key] = &row
		}
	})
	if err != nil {
		return nil, err
	}
	if !whole {
		return nil, fmt.Errorf("source %s: %w: more than %d bytes in %d rows", s.name, ErrBatchTooLarge, s.readBytesMax, len(tuples))
	}
	return found, nil
}

// ReadRow reads one row. It is nil when the row is surely gone.
func (s *Source) ReadRow(ctx context.Context, m *mapping.Mapping, tuple []string) (*mapping.Row, error) {
	found, err := s.ReadRows(ctx, m, [][]string{tuple})
	if err != nil {
		return nil, err
	}
	return found[mapping.EncodeKey(tuple)], nil
}

// ReadChunk reads up to limit rows in primary-key order, starting after the given place, which is the PK of a row that was read, or at the start of the table when it is nil.
// It may return fewer than limit when their values are large: only an empty chunk is the end of the table.
func (s *Source) ReadChunk(ctx context.Context, m *mapping.Mapping, after []string, limit int) ([]mapping.Row, error) {
	chunk, err := s.ReadPart(ctx, m, Part{}, after, limit)
	return chunk.Rows, err
}

// read runs one statement that starts with the proof and passes its rows to take. whole is false when it stopped at readBytesMax with rows left; the first row always fits.
func (s *Source) read(ctx context.Context, m *mapping.Mapping, statement string, take func(mapping.Row)) (whole bool, err error) {
	bounded, cancel := context.WithTimeout(ctx, s.queryTimeout)
	defer cancel()
	rows, err := s.pool.QueryContext(bounded, statement)
	if err != nil {
		return false, s.wrap(ctx, err)
	}
	defer rows.Close()
	if err := s.checkTypes(m, rows); err != nil {
		return false, err
	}
	whole, err = scan(m, rows, s.readBytesMax, take)
	if !whole {
		cancel() // ends the connection: Close would read what is left of the answer
	}
	return whole, s.wrap(ctx, err)
}

func scan(m *mapping.Mapping, rows *sql.Rows, bytesMax int, take func(mapping.Row)) (whole bool, err error) {
	shape := shapeOf(m)
	raw := make([]sql.RawBytes, shape.width())
	dest := make([]any, len(raw))
	for i := range raw {
		dest[i] = &raw[i]
	}
	proved, taken, bytes := false, 0, 0
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return false, err
		}
		if !writable(string(raw[0])) {
			return false, fmt.Errorf("%w: server %s is read-only", ErrNotPrimary, raw[1])
		}
		proved = true
		if raw[proofColumns] == nil {
			continue // the proof alone: the join found no row
		}
		for _, cell := range raw[proofColumns:] {
			bytes += len(cell)
		}
		if bytes > bytesMax && taken > 0 {
			return false, nil
		}
		taken++
		take(copyRow(m, shape, raw[proofColumns:]))
	}
	if err := rows.Err(); err != nil {
		return false, err
	}
	if !proved {
		return false, fmt.Errorf("%w: the server answered without its proof", ErrNotPrimary)
	}
	return true, nil
}

// copyRow takes a row out of the driver's buffer with one allocation for all its values.
func copyRow(m *mapping.Mapping, shape shape, raw []sql.RawBytes) mapping.Row {
	row := mapping.Row{PK: placeTexts(m.PrimaryKey(), raw), Values: make([]mapping.Cell, shape.values)}
	row.Key = m.RowKey(keyCells(shape, raw))
	raw = raw[shape.primary+shape.keys:]
	if shape.conditional {
		row.Excluded = string(raw[0]) != "1"
		raw = raw[1:]
	}
	total := 0
	for _, cell := range raw {
		total += len(cell)
	}
	arena := make([]byte, 0, total)
	for i, cell := range raw {
		if cell == nil {
			row.Values[i].Null = true
			continue
		}
		start := len(arena)
		arena = append(arena, cell...)
		row.Values[i].Bytes = arena[start:len(arena):len(arena)]
	}
	return row
}

// placeTexts is a place out of the driver's buffer.
func placeTexts(primaryKey []mapping.Column, raw []sql.RawBytes) []string {
	place := make([]string, len(primaryKey))
	for i, c := range primaryKey {
		place[i] = string(raw[i])
		if c.Kind == mapping.KindBinary {
			place[i] = hex.EncodeToString(raw[i])
		}
	}
	return place
}

// keyCells are the key columns' values, in the driver's buffer.
func keyCells(shape shape, raw []sql.RawBytes) []mapping.Cell {
	raw = raw[:shape.primary+shape.keys]
	if shape.keys > 0 {
		raw = raw[shape.primary:]
	}
	cells := make([]mapping.Cell, len(raw))
	for i, cell := range raw {
		cells[i] = mapping.Cell{Bytes: cell, Null: cell == nil}
	}
	return cells
}

// checkTypes compares the types of the answer with those that the statement was made for. After ALTER TABLE a FLOAT that is read as an INT was would be rounded by the driver,
// and nobody would see it.
func (s *Source) checkTypes(m *mapping.Mapping, rows *sql.Rows) error {
	types, err := rows.ColumnTypes()
	if err != nil {
		return fmt.Errorf("source %s: %w", s.name, err)
	}
	types = types[proofColumns:]
	check := func(columns []mapping.Column, place bool) error {
		for i, c := range columns {
			answered := types[i].DatabaseTypeName()
			if place && byNumber(c) && strings.HasSuffix(answered, "DOUBLE") {
				continue // an ENUM or SET plus zero
			}
			if place && byNumber(c) {
				c.Kind = mapping.KindInteger
			}
			if !sameKind(c.Kind, answered) {
				return fmt.Errorf("source %s: %w: column %q of %q was %s and is read as %s", s.name, ErrTableChanged, c.Name, m.Spec().Table, c.Type, answered)
			}
		}
		types = types[len(columns):]
		return nil
	}
	if err := check(m.PrimaryKey(), true); err != nil {
		return err
	}
	if !m.KeyIsPrimary() {
		if err := check(m.KeyColumns(), false); err != nil {
			return err
		}
	}
	if len(m.Where()) > 0 {
		types = types[1:]
	}
	return check(m.Columns(), false)
}

func sameKind(kind mapping.Kind, answered string) bool {
	integer := strings.HasSuffix(answered, "INT")
	binary := strings.HasSuffix(answered, "BINARY") || strings.HasSuffix(answered, "BLOB")
	switch kind {
	case mapping.KindInteger, mapping.KindBit:
		return integer
	case mapping.KindDecimal:
		return answered == "DECIMAL"
	case mapping.KindBinary:
		return binary
	}
	switch answered {
	case "DECIMAL", "FLOAT", "DOUBLE", "YEAR", "BIT", "GEOMETRY":
		return false
	}
	return !integer && !binary
}
