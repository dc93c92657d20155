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
	// SampleRowsMax bounds the rows that one ReadPart of a sample has the server go over.
	SampleRowsMax = 1_000_000
	// SampleWhole is the SamplePPM of all rows.
	SampleWhole = 1_000_000
)

// Part is a part of a table. The server compares places, by the order of the primary key's own types and collations.
type Part struct {
	From      []string // first place in it; nil: the table's first
	To        []string // first place that is not in it any more; nil: there is none
	SamplePPM uint64   // rows in a million, drawn by a hash of their primary key; 0 is all
	Salt      uint64   // the same salt draws the same rows
}

// sampled tells whether rows are left out.
func (p Part) sampled() bool { return p.SamplePPM%SampleWhole != 0 }

// Chunk is what one reading of a part gave.
type Chunk struct {
	Rows  []mapping.Row
	Place []string // where the next reading goes on; nil at the end of the part
}

// ReadPart reads the next rows of a part in primary-key order, after the given place, or from its start when that is nil. It goes over limit rows of the table at most, and may read fewer
// when their values are large. Only a chunk without a Place is the end.
//
// Of a sample only the rows that were drawn leave the server. Which place it came to is asked first, so that no statement goes over more than limit rows, however few are drawn.
func (s *Source) ReadPart(ctx context.Context, m *mapping.Mapping, part Part, after []string, limit int) (Chunk, error) {
	rowsMax := ChunkRowsMax
	if part.sampled() {
		rowsMax = SampleRowsMax
	}
	if limit < 1 || limit > rowsMax || part.SamplePPM > SampleWhole {
		return Chunk{}, fmt.Errorf("source %s: %w: %d rows asked, 1 to %d allowed", s.name, ErrBatchTooLarge, limit, rowsMax)
	}
	for _, place := range [][]string{part.From, part.To, after} {
		if place == nil {
			continue
		}
		if err := checkPlace(m.PrimaryKey(), place); err != nil {
			return Chunk{}, err
		}
	}
	if part.sampled() {
		return s.readSample(ctx, m, part, after, limit)
	}
	var chunk Chunk
	_, err := s.read(ctx, m, selectChunk(m, whereOf(part.bounds(m, after)), limit), func(row mapping.Row) { chunk.Rows = append(chunk.Rows, row) })
	if err != nil {
		return Chunk{}, err
	}
	if n := len(chunk.Rows); n > 0 {
		chunk.Place = chunk.Rows[n-1].PK
	}
	return chunk, nil
}

func (s *Source) readSample(ctx context.Context, m *mapping.Mapping, part Part, after []string, limit int) (Chunk, error) {
	conditions := part.bounds(m, after)
	last, err := s.placeAt(ctx, m, conditions, limit)
	if err != nil {
		return Chunk{}, err
	}
	chunk := Chunk{Place: last}
	if last != nil {
		if err := checkPlace(m.PrimaryKey(), last); err != nil {
			return Chunk{}, err
		}
		conditions = append(conditions, keyset(m.PrimaryKey(), upTo, last))
	}
	conditions = append(conditions, draw(m.PrimaryKey(), part.SamplePPM, part.Salt))
	whole, err := s.read(ctx, m, selectChunk(m, whereOf(conditions), ChunkRowsMax), func(row mapping.Row) { chunk.Rows = append(chunk.Rows, row) })
	if err != nil {
		return Chunk{}, err
	}
	if n := len(chunk.Rows); !whole || n == ChunkRowsMax {
		chunk.Place = chunk.Rows[n-1].PK
	}
	return chunk, nil
}

// placeAt gives the place of the n-th row that meets the conditions, or nil if there are not so many.
func (s *Source) placeAt(ctx context.Context, m *mapping.Mapping, conditions []string, n int) (place []string, err error) {
	bounded, cancel := context.WithTimeout(ctx, s.queryTimeout)
	defer cancel()
	rows, err := s.pool.QueryContext(bounded, selectPlace(m, whereOf(conditions), n))
	if err != nil {
		return nil, s.wrap(ctx, err)
	}
	defer rows.Close()
	raw := make([]sql.RawBytes, proofColumns+len(m.PrimaryKey()))
	dest := make([]any, len(raw))
	for i := range raw {
		dest[i] = &raw[i]
	}
	proved := false
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return nil, s.wrap(ctx, err)
		}
		if !writable(string(raw[0])) {
			return nil, s.wrap(ctx, fmt.Errorf("%w: server %s is read-only", ErrNotPrimary, raw[1]))
		}
		proved = true
		if raw[proofColumns] != nil {
			place = placeTexts(m.PrimaryKey(), raw[proofColumns:])
		}
	}
	if err := rows.Err(); err != nil {
		return nil, s.wrap(ctx, err)
	}
	if !proved {
		return nil, s.wrap(ctx, fmt.Errorf("%w: the server answered without its proof", ErrNotPrimary))
	}
	return place, nil
}

// EstimateRows gives the number of rows that the server thinks a part has, from its statistics. It may be off by half.
func (s *Source) EstimateRows(ctx context.Context, m *mapping.Mapping, part Part) (uint64, error) {
	for _, place := range [][]string{part.From, part.To} {
		if place == nil {
			continue
		}
		if err := checkPlace(m.PrimaryKey(), place); err != nil {
			return 0, err
		}
	}
	bounded, cancel := context.WithTimeout(ctx, s.queryTimeout)
	defer cancel()
	// The optimiser's own estimate is the fresher one: information_schema may be a day behind.
	rows, err := s.pool.QueryContext(bounded, "EXPLAIN SELECT * FROM "+quote(m.Spec().Table)+" FORCE INDEX (PRIMARY)"+whereOf(part.bounds(m, nil)))
	if err != nil {
		return 0, s.wrap(ctx, err)
	}
	defer rows.Close()
	n, err := explainedRows(rows)
	if err != nil {
		return 0, s.wrap(ctx, err)
	}
	if part.sampled() {
		n = uint64(float64(n) * float64(part.SamplePPM) / SampleWhole)
	}
	return n, nil
}

// explainedRows takes the column "rows" of the first line, whose place differs between servers. It is NULL for a table that the server knows to be empty.
func explainedRows(rows *sql.Rows) (uint64, error) {
	names, err := rows.Columns()
	if err != nil {
		return 0, err
	}
	raw := make([]sql.RawBytes, len(names))
	dest := make([]any, len(names))
	for i := range raw {
		dest[i] = &raw[i]
	}
	var found uint64
	if rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return 0, err
		}
		for i, name := range names {
			if strings.EqualFold(name, "rows") && raw[i] != nil {
				if found, err = strconv.ParseUint(string(raw[i]), 10, 64); err != nil {
					return 0, err
				}
			}
		}
	}
	return found, rows.Err()
}

// ThreadsRunning is how many threads of the server are at work at this moment, the asking one included.
func (s *Source) ThreadsRunning(ctx context.Context) (int, error) {
	bounded, cancel := context.WithTimeout(ctx, s.queryTimeout)
	defer cancel()
	var name string
	var n int
	if err := s.pool.QueryRowContext(bounded, "SHOW GLOBAL STATUS LIKE 'Threads_running'").Scan(&name, &n); err != nil {
		return 0, s.wrap(ctx, err)
	}
	return n, nil
}
