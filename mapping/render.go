package mapping

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"unicode/utf8"
)

// valueBytesMax bounds one rendered value. A larger one would hold up everything else on its Redis connection.
const valueBytesMax = 8 << 20

var (
	// ErrUnrenderable means that a row's values do not fit the mapping: text that is not UTF-8, a number that is none, a row of another key. A retry cannot help.
	ErrUnrenderable = errors.New("row cannot be rendered")
	// ErrTooLarge means that the value would exceed what one key may hold. A retry cannot help.
	ErrTooLarge = errors.New("rendered value is too large")
)

// Cell is one column's value as the server printed it.
type Cell struct {
	Bytes []byte
	Null  bool
}

// Row is one row as read: its key in canonical text and its values in the order of the spec's columns.
type Row struct {
	PK     []string
	Values []Cell
}

// Render says what the row's key should become. A nil row is a row that is surely gone, never one that could not be read.
// token is the event's: it seeds the jitter, so that every retry of the event asks for the same TTL.
func (m *Mapping) Render(pk []string, row *Row, token uint64) (Write, error) {
	key := m.Key(pk)
	w := Write{Key: key, Guard: Guard(key), Op: OpDel}
	if row == nil || m.spec.Mode == Invalidate {
		return w, nil
	}
	if err := m.checkRow(pk, row); err != nil {
		return Write{}, err
	}
	var err error
	if m.spec.Encoding == Hash {
		w.Op = OpHash
		w.Fields, err = m.renderHash(row)
	} else {
		w.Op = OpSet
		w.Value, err = m.renderJSON(row)
	}
	if err != nil {
		return Write{}, err
	}
	w.TTLMillis = m.ttl(key, token)
	return w, nil
}

// checkRow refuses a row that answers another question: writing row 7 under the key of row 8 is the one mistake that nobody would notice.
func (m *Mapping) checkRow(pk []string, row *Row) error {
	if !slices.Equal(pk, row.PK) {
		return fmt.Errorf("%w: row %q was given for key %q", ErrUnrenderable, row.PK, pk)
	}
	if len(row.Values) != len(m.columns) {
		return fmt.Errorf("%w: %d values for %d columns", ErrUnrenderable, len(row.Values), len(m.columns))
	}
	return nil
}

// renderJSON gives one object with the columns in the order of the spec. Numbers are the server's own text, so 12.50 stays 12.50; NULL is null; JSON columns are embedded as read.
func (m *Mapping) renderJSON(row *Row) ([]byte, error) {
	b := []byte{'{'}
	for i, cell := range row.Values {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, m.names[i]...), ':')
		var err error
		if b, err = m.appendCell(b, i, cell); err != nil {
			return nil, err
		}
	}
	b = append(b, '}')
	if len(b) > valueBytesMax {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(b), valueBytesMax)
	}
	return b, nil
}

func (m *Mapping) appendCell(b []byte, i int, cell Cell) ([]byte, error) {
	if cell.Null {
		return append(b, "null"...), nil
	}
	if err := m.checkCell(i, cell); err != nil {
		return nil, err
	}
	switch m.columns[i].Kind {
	case KindInteger, KindDecimal, KindFloat, KindDouble:
		if !m.spec.Columns[i].String {
			return append(b, cell.Bytes...), nil
		}
	case KindJSON:
		return append(b, cell.Bytes...), nil
	}
	return appendString(b, cell.Bytes), nil
}

// checkCell catches a column whose type changed under the compiled mapping, and bytes that no JSON string can carry.
func (m *Mapping) checkCell(i int, cell Cell) error {
	switch m.columns[i].Kind {
	case KindInteger, KindDecimal, KindFloat, KindDouble:
		if !isNumber(cell.Bytes) {
			return fmt.Errorf("%w: column %q is not a number", ErrUnrenderable, m.columns[i].Name)
		}
	case KindJSON:
		if !json.Valid(cell.Bytes) || !utf8.Valid(cell.Bytes) {
			return fmt.Errorf("%w: column %q is not valid JSON", ErrUnrenderable, m.columns[i].Name)
		}
	default:
		if !utf8.Valid(cell.Bytes) {
			return fmt.Errorf("%w: column %q is not valid UTF-8", ErrUnrenderable, m.columns[i].Name)
		}
	}
	return nil
}

func (m *Mapping) renderHash(row *Row) ([]Field, error) {
	fields := make([]Field, len(row.Values))
	total := 0
	for i, cell := range row.Values {
		fields[i] = Field{Name: m.spec.Columns[i].Field(), Null: cell.Null}
		if cell.Null {
			continue
		}
		if err := m.checkCell(i, cell); err != nil {
			return nil, err
		}
		fields[i].Value = cell.Bytes
		total += len(cell.Bytes)
	}
	if total > valueBytesMax {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, total, valueBytesMax)
	}
	slices.SortFunc(fields, func(a, b Field) int { return strings.Compare(a.Name, b.Name) })
	return fields, nil
}

// ttl lies in (TTL − jitter, TTL]: never longer than the operator allowed.
func (m *Mapping) ttl(key string, token uint64) int64 {
	span := uint64(m.spec.TTLMillis) * uint64(m.spec.TTLJitter) / 100
	if span == 0 {
		return m.spec.TTLMillis
	}
	h := fnv.New64a()
	h.Write([]byte(key))
	h.Write(binary.BigEndian.AppendUint64(nil, token))
	return m.spec.TTLMillis - int64(h.Sum64()%span)
}
