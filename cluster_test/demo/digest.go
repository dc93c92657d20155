package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

const (
	keyPrefix = "order:"
	scanRows  = 1_000

	examplesMax = 5 // of what is odd
)

// digest is a hash over all rows in the order of their ids, each with its fields in the order of their names.
type digest struct {
	rows int
	sum  string
}

func (d digest) String() string { return fmt.Sprintf("%d rows %s", d.rows, d.sum[:12]) }

// fields is one row: what each field holds, as text that starts with its kind.
type fields map[string]string

func sumRows(rows map[int64]fields) digest {
	ids := make([]int64, 0, len(rows))
	for id := range rows {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	h := sha256.New()
	for _, id := range ids {
		addRow(h, id, rows[id])
	}
	return digest{rows: len(rows), sum: hex.EncodeToString(h.Sum(nil))}
}

// addRow writes lengths before texts: no two rows can look alike by moving a border.
func addRow(h hash.Hash, id int64, row fields) {
	names := make([]string, 0, len(row))
	for name := range row {
		names = append(names, name)
	}
	slices.Sort(names)
	fmt.Fprintf(h, "row %d %d\n", id, len(row))
	for _, name := range names {
		fmt.Fprintf(h, "%d %s %d %s\n", len(name), name, len(row[name]), row[name])
	}
}

// The columns of orders that the cache holds, by kind in JSON.
var cachedColumns = []struct{ name, kind string }{
	{"id", "number"}, {"customer", "text"}, {"status", "text"}, {"amount", "text"}, {"note", "text"}, {"version", "number"}, {"updated_at", "text"},
}

// tableRows reads the table as MySQL prints it.
func tableRows(ctx context.Context, db *sql.DB) (map[int64]fields, error) {
	names := make([]string, len(cachedColumns))
	for i, c := range cachedColumns {
		names[i] = c.name
	}
	found, err := db.QueryContext(ctx, "SELECT "+strings.Join(names, ", ")+" FROM orders")
	if err != nil {
		return nil, fmt.Errorf("read the table: %w", err)
	}
	defer found.Close()
	rows := map[int64]fields{}
	for found.Next() {
		cells := make([]sql.RawBytes, len(cachedColumns))
		into := make([]any, len(cells))
		for i := range cells {
			into[i] = &cells[i]
		}
		if err := found.Scan(into...); err != nil {
			return nil, fmt.Errorf("read the table: %w", err)
		}
		row := fields{}
		for i, c := range cachedColumns {
			row[c.name] = c.kind + " " + string(cells[i])
		}
		id, err := strconv.ParseInt(string(cells[0]), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read the table: %w", err)
		}
		rows[id] = row
	}
	return rows, found.Err()
}

// cacheRows reads every key of the cache. A key that is no order shows as a row with a note, so that the digest cannot match.
func cacheRows(ctx context.Context, cache *redis.Client) (map[int64]fields, error) {
	rows := map[int64]fields{}
	scan := cache.Scan(ctx, 0, keyPrefix+"*", scanRows).Iterator()
	for scan.Next(ctx) {
		key := scan.Val()
		id, err := strconv.ParseInt(strings.TrimPrefix(key, keyPrefix), 10, 64)
		if err != nil {
			id = -int64(len(rows)) - 1
		}
		value, err := cache.Get(ctx, key).Bytes()
		if err != nil {
			return nil, fmt.Errorf("read the cache: %s: %w", key, err)
		}
		rows[id] = decode(value)
	}
	if err := scan.Err(); err != nil {
		return nil, fmt.Errorf("read the cache: %w", err)
	}
	return rows, nil
}

func decode(value []byte) fields {
	decoder := json.NewDecoder(bytes.NewReader(value))
	decoder.UseNumber()
	var object map[string]any
	if err := decoder.Decode(&object); err != nil {
		return fields{"not JSON": err.Error()}
	}
	if _, err := decoder.Token(); err != io.EOF {
		return fields{"more than JSON": string(value)}
	}
	row := fields{}
	for name, v := range object {
		switch v := v.(type) {
		case json.Number:
			row[name] = "number " + v.String()
		case string:
			row[name] = "text " + v
		default:
			row[name] = fmt.Sprintf("other %v", v)
		}
	}
	return row
}

// differing names some rows that differ, for a person.
func differing(table, cache map[int64]fields) (out []string) {
	for id, row := range table {
		if len(out) == examplesMax {
			return out
		}
		if fmt.Sprint(row) != fmt.Sprint(cache[id]) {
			out = append(out, fmt.Sprintf("order %d: table %v, cache %v", id, row, cache[id]))
		}
	}
	for id, row := range cache {
		if _, known := table[id]; !known && len(out) < examplesMax {
			out = append(out, fmt.Sprintf("order %d: only in the cache: %v", id, row))
		}
	}
	return out
}
