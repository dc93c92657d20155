package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
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

// ReadRows reads the rows of the given canonical keys in one statement. The result holds the rows that exist, by [mapping.EncodePK]; a key without an entry has no row on the
// primary at the time of the read. Any error leaves every key of the batch unknown.
func (s *Source) ReadRows(ctx context.Context, m *mapping.Mapping, pks [][]string) (map[string]*mapping.Row, error) {
	if len(pks) > BatchRowsMax {
		return nil, fmt.Errorf("source %s: %w: %d keys, at most %d", s.name, ErrBatchTooLarge, len(pks), BatchRowsMax)
	}
	for _, pk := range pks {
		if err := m.CheckPK(pk); err != nil {
			return nil, err
		}
	}
	found := make(map[string]*mapping.Row, len(pks))
	if len(pks) == 0 {
		return found, nil
	}
	whole, err := s.read(ctx, m, selectRows(m, pks), func(row mapping.Row) { found[mapping.EncodePK(row.PK)] = &row })
	if err != nil {
		return nil, err
	}
	if !whole {
		return nil, fmt.Errorf("source %s: %w: more than %d bytes in %d rows", s.name, ErrBatchTooLarge, s.readBytesMax, len(pks))
	}
	return found, nil
}

// ReadRow reads one row. It is nil when the row is surely gone.
func (s *Source) ReadRow(ctx context.Context, m *mapping.Mapping, pk []string) (*mapping.Row, error) {
	found, err := s.ReadRows(ctx, m, [][]string{pk})
	if err != nil {
		return nil, err
	}
	return found[mapping.EncodePK(pk)], nil
}

// ReadChunk reads up to limit rows in primary-key order, starting after the given canonical key, or at the start of the table when it is nil.
// It may return fewer than limit when their values are large: only an empty chunk is the end of the table.
func (s *Source) ReadChunk(ctx context.Context, m *mapping.Mapping, after []string, limit int) ([]mapping.Row, error) {
	if limit < 1 || limit > ChunkRowsMax {
		return nil, fmt.Errorf("source %s: %w: %d rows asked, 1 to %d allowed", s.name, ErrBatchTooLarge, limit, ChunkRowsMax)
	}
	if after != nil {
		if err := m.CheckPK(after); err != nil {
			return nil, err
		}
	}
	var rows []mapping.Row
	_, err := s.read(ctx, m, selectChunk(m, after, strconv.Itoa(limit)), func(row mapping.Row) { rows = append(rows, row) })
	if err != nil {
		return nil, err
	}
	return rows, nil
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
	keys, values := len(m.PrimaryKey()), len(m.Columns())
	raw := make([]sql.RawBytes, proofColumns+keys+values)
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
		take(copyRow(raw[proofColumns:], keys))
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
func copyRow(raw []sql.RawBytes, keys int) mapping.Row {
	row := mapping.Row{PK: make([]string, keys), Values: make([]mapping.Cell, len(raw)-keys)}
	for i := range keys {
		row.PK[i] = string(raw[i])
	}
	total := 0
	for _, cell := range raw[keys:] {
		total += len(cell)
	}
	arena := make([]byte, 0, total)
	for i, cell := range raw[keys:] {
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

// checkTypes compares the types of the answer with those that the statement was made for. After ALTER TABLE a FLOAT that is read as an INT was would be rounded by the driver,
// and nobody would see it.
func (s *Source) checkTypes(m *mapping.Mapping, rows *sql.Rows) error {
	types, err := rows.ColumnTypes()
	if err != nil {
		return fmt.Errorf("source %s: %w", s.name, err)
	}
	columns := append(append([]mapping.Column(nil), m.PrimaryKey()...), m.Columns()...)
	for i, c := range columns {
		if answered := types[proofColumns+i].DatabaseTypeName(); !sameKind(c.Kind, answered) {
			return fmt.Errorf("source %s: %w: column %q of %q was %s and is read as %s", s.name, ErrTableChanged, c.Name, m.Spec().Table, c.Type, answered)
		}
	}
	return nil
}

func sameKind(kind mapping.Kind, answered string) bool {
	integer := strings.HasSuffix(answered, "INT")
	switch kind {
	case mapping.KindInteger:
		return integer
	case mapping.KindDecimal:
		return answered == "DECIMAL"
	}
	switch answered {
	case "DECIMAL", "FLOAT", "DOUBLE", "YEAR", "BIT", "GEOMETRY", "BINARY", "VARBINARY", "TINYBLOB", "BLOB", "MEDIUMBLOB", "LONGBLOB":
		return false
	}
	return !integer
}
