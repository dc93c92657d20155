// Package oracle judges whether a cache is what its table says, and whether any write to it went backwards. It shares no code with the product: it renders rows itself, compares
// raw rows with raw bytes, and reads the order of writes from the append-only file of Redis. What it finds wrong is wrong, whatever the product thinks of it.
package oracle

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Column is one column of the value. Number columns are not quoted in JSON.
type Column struct {
	Name   string
	Number bool
}

// Mapping is what the oracle needs to know: a table with an integer key, and the keys Prefix + id.
type Mapping struct {
	Table   string
	ID      string
	Columns []Column
	Prefix  string
	Hash    bool // a hash of the columns; else one JSON object
}

// Difference is one key that does not hold what its row says.
type Difference struct {
	Key  string
	Want string // empty: no row, so there should be no key
	Have string // empty: no key
}

// Report sums up one comparison.
type Report struct {
	Rows        int
	Keys        int // that the prefix has in Redis
	Differences []Difference
}

const scanCount = 1_000

// Compare reads the whole table and every key of the prefix. Nothing may write meanwhile.
func Compare(ctx context.Context, db *sql.DB, cache *redis.Client, m Mapping) (Report, error) {
	want, err := m.expected(ctx, db)
	if err != nil {
		return Report{}, err
	}
	report := Report{Rows: len(want)}
	seen := map[string]bool{}
	for cursor := uint64(0); ; {
		keys, next, err := cache.Scan(ctx, cursor, m.Prefix+"*", scanCount).Result()
		if err != nil {
			return report, err
		}
		for _, key := range keys {
			if seen[key] {
				continue
			}
			seen[key] = true
			have, err := m.held(ctx, cache, key)
			if err != nil {
				return report, err
			}
			if have != want[key] {
				report.Differences = append(report.Differences, Difference{Key: key, Want: want[key], Have: have})
			}
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	for key, value := range want {
		if !seen[key] {
			report.Differences = append(report.Differences, Difference{Key: key, Want: value})
		}
	}
	report.Keys = len(seen)
	return report, nil
}

func (m Mapping) expected(ctx context.Context, db *sql.DB) (map[string]string, error) {
	names := make([]string, 0, len(m.Columns)+1)
	names = append(names, "`"+m.ID+"`")
	for _, c := range m.Columns {
		names = append(names, "`"+c.Name+"`")
	}
	rows, err := db.QueryContext(ctx, "SELECT "+strings.Join(names, ", ")+" FROM `"+m.Table+"`")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	want := map[string]string{}
	cells := make([]sql.NullString, len(names))
	into := make([]any, len(names))
	for i := range cells {
		into[i] = &cells[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		value, err := m.value(cells[1:])
		if err != nil {
			return nil, err
		}
		want[m.Prefix+cells[0].String] = value
	}
	return want, rows.Err()
}

// value is what the key of a row should hold: the JSON object, or the fields of the hash in the order of the columns.
func (m Mapping) value(cells []sql.NullString) (string, error) {
	var parts []string
	for i, c := range m.Columns {
		cell := cells[i]
		switch {
		case m.Hash && cell.Valid:
			parts = append(parts, strconv.Quote(c.Name)+"="+strconv.Quote(cell.String))
		case m.Hash:
		case !cell.Valid:
			parts = append(parts, strconv.Quote(c.Name)+":null")
		case c.Number:
			parts = append(parts, strconv.Quote(c.Name)+":"+cell.String)
		default:
			text, err := json.Marshal(cell.String)
			if err != nil {
				return "", err
			}
			parts = append(parts, strconv.Quote(c.Name)+":"+string(text))
		}
	}
	if m.Hash {
		return strings.Join(parts, " "), nil
	}
	return "{" + strings.Join(parts, ",") + "}", nil
}

// held is what Redis has, in the same form. A key of another type is different from everything.
func (m Mapping) held(ctx context.Context, cache *redis.Client, key string) (string, error) {
	kind, err := cache.Type(ctx, key).Result()
	switch {
	case err != nil:
		return "", err
	case kind == "none":
		return "", nil
	case m.Hash && kind == "hash":
		fields, err := cache.HGetAll(ctx, key).Result()
		if err != nil {
			return "", err
		}
		var parts []string
		for _, c := range m.Columns {
			if v, ok := fields[c.Name]; ok {
				parts = append(parts, strconv.Quote(c.Name)+"="+strconv.Quote(v))
			}
		}
		return strings.Join(parts, " "), nil
	case !m.Hash && kind == "string":
		return cache.Get(ctx, key).Result()
	}
	return fmt.Sprintf("a %s", kind), nil
}
