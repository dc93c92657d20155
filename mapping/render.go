package mapping

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
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

// Row is one row as read. Key is its canonical key tuple; nil for a row that names no key. PK is its primary key as the server printed it, bytes as hex: the place where a read of the
// table goes on. Values are in the order of the spec's columns.
type Row struct {
	Key      []string
	PK       []string
	Values   []Cell
	Excluded bool // the mapping's where is not true of it: it counts as missing
}

// AppendWrites appends what each key of the tuple should become. A nil row is a row that is surely gone, never one that could not be read.
// token is the event's: it seeds the jitter, so that every retry of the event asks for the same TTL. The writes share their value.
func (m *Mapping) AppendWrites(writes []Write, tuple []string, row *Row, token uint64) ([]Write, error) {
	if len(tuple) != len(m.keyColumns) {
		return writes, fmt.Errorf("%w: %d parts for %d key columns", ErrUnrenderable, len(tuple), len(m.keyColumns))
	}
	w, err := m.content(tuple, row)
	if err != nil {
		return writes, err
	}
	for i := range m.templates {
		w.Key = m.templates[i].render(tuple)
		w.Guard = GuardKey(m.guardPrefix, w.Key)
		if w.value() && !w.negative {
			w.TTLMillis = m.ttl(w.Key, token)
		}
		writes = append(writes, w.Write)
	}
	return writes, nil
}

// Render is [Mapping.AppendWrites] for the first key alone.
func (m *Mapping) Render(tuple []string, row *Row, token uint64) (Write, error) {
	var room [templatesMax]Write
	writes, err := m.AppendWrites(room[:0], tuple, row, token)
	if err != nil {
		return Write{}, err
	}
	return writes[0], nil
}

// content is a write without its key.
type content struct {
	Write
	negative bool
}

func (c *content) value() bool { return c.Op != OpDel && c.Op != OpDelFields }

func (m *Mapping) content(tuple []string, row *Row) (content, error) {
	return m.contentIn(nil, nil, tuple, row)
}

// contentIn is content with room for the value, or for the fields, that it may use.
func (m *Mapping) contentIn(room []byte, fields []Field, tuple []string, row *Row) (content, error) {
	if m.spec.Mode == Invalidate {
		return content{Write: Write{Op: OpDel}}, nil
	}
	if row != nil {
		if err := m.checkRow(tuple, row); err != nil {
			return content{}, err
		}
	}
	if m.missing(row) {
		return m.gone(), nil
	}
	w, err := content{Write: Write{Op: m.op(), Replace: m.replaces()}}, error(nil)
	switch m.spec.Encoding {
	case Hash:
		w.Fields, err = m.renderHash(fields, row)
	case JSON:
		w.Value, err = m.renderJSON(room, row)
	default:
		w.Value, err = m.renderSingle(row)
	}
	if err != nil {
		return content{}, err
	}
	return w, nil
}

func (m *Mapping) replaces() bool { return m.spec.OnWrongType == WrongTypeReplace }

func (m *Mapping) op() Op {
	hash := m.spec.Encoding == Hash
	switch ifPresent := m.spec.Mode == WriteIfPresent; {
	case hash && ifPresent:
		return OpHashIfPresent
	case hash:
		return OpHash
	case ifPresent:
		return OpSetIfPresent
	}
	return OpSet
}

// missing tells whether the row counts as missing: it is gone, left out by where, or has no text to write.
func (m *Mapping) missing(row *Row) bool {
	return row == nil || row.Excluded || m.single() && len(row.Values) == 1 && row.Values[0].Null
}

func (m *Mapping) single() bool { return m.spec.Encoding == String || m.spec.Encoding == Raw }

// gone is what a missing row becomes. The fields of a hash that are not the mapping's stay.
func (m *Mapping) gone() content {
	switch {
	case m.spec.NegativeTTLMillis > 0:
		return content{Write: Write{Op: m.op(), Value: m.negative(), TTLMillis: m.spec.NegativeTTLMillis, Replace: m.replaces()}, negative: true}
	case m.spec.Encoding == Hash:
		fields := make([]Field, len(m.byField))
		for i, column := range m.byField {
			fields[i] = Field{Name: m.spec.Columns[column].Field(), Null: true}
		}
		return content{Write: Write{Op: OpDelFields, Fields: fields, Replace: m.replaces()}}
	}
	return content{Write: Write{Op: OpDel}}
}

// negative is the value of a missing row.
func (m *Mapping) negative() []byte {
	if m.spec.Encoding == JSON {
		return []byte("null")
	}
	return []byte{}
}

// checkRow refuses a row that answers another question: writing row 7 under the key of row 8 is the one mistake that nobody would notice.
func (m *Mapping) checkRow(tuple []string, row *Row) error {
	if !slices.Equal(tuple, row.Key) {
		return fmt.Errorf("%w: row %q was given for key %q", ErrUnrenderable, row.Key, tuple)
	}
	if len(row.Values) != len(m.columns) {
		return fmt.Errorf("%w: %d values for %d columns", ErrUnrenderable, len(row.Values), len(m.columns))
	}
	return nil
}

// renderJSON gives one object with the columns in the order of the spec. Numbers are the server's own text, so 12.50 stays 12.50; NULL is null; JSON columns are embedded as read.
func (m *Mapping) renderJSON(b []byte, row *Row) ([]byte, error) {
	size := len("{}")
	for i, cell := range row.Values {
		size += len(m.names[i]) + len(`:"",`) + max(len(cell.Bytes), len("null"))
	}
	b = append(slices.Grow(b, size), '{') // escapes may need more
	for i, cell := range row.Values {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, m.names[i]...), ':')
		if !cell.Null {
			if err := m.checkCell(i, cell); err != nil {
				return nil, err
			}
		}
		b = m.appendCell(b, i, cell)
	}
	b = append(b, '}')
	return b, tooLarge(len(b))
}

// appendCell appends a checked cell.
func (m *Mapping) appendCell(b []byte, i int, cell Cell) []byte {
	if cell.Null {
		return append(b, "null"...)
	}
	switch m.columns[i].Kind {
	case KindInteger, KindDecimal, KindFloat, KindDouble, KindBit:
		if !m.spec.Columns[i].String {
			return append(b, cell.Bytes...)
		}
	case KindJSON:
		return append(b, m.text(i, cell)...)
	case KindBinary:
		return append(append(append(b, '"'), m.text(i, cell)...), '"')
	}
	return appendString(b, cell.Bytes)
}

// text gives a checked cell as text: bytes in the declared form, JSON as the codec wants it.
func (m *Mapping) text(i int, cell Cell) []byte {
	switch {
	case m.columns[i].Kind == KindBinary && m.spec.Columns[i].Binary == BinaryHex:
		return hex.AppendEncode(nil, cell.Bytes)
	case m.columns[i].Kind == KindBinary:
		return base64.StdEncoding.AppendEncode(nil, cell.Bytes)
	case m.columns[i].Kind == KindJSON && m.compact:
		var b bytes.Buffer
		_ = json.Compact(&b, cell.Bytes) // it was found to be JSON
		return b.Bytes()
	}
	return cell.Bytes
}

// checkCell catches a column whose type changed under the compiled mapping, and bytes that no JSON string can carry.
func (m *Mapping) checkCell(i int, cell Cell) error {
	switch m.columns[i].Kind {
	case KindInteger, KindDecimal, KindFloat, KindDouble, KindBit:
		if !isNumber(cell.Bytes) {
			return fmt.Errorf("%w: column %q is not a number", ErrUnrenderable, m.columns[i].Name)
		}
	case KindJSON:
		if !json.Valid(cell.Bytes) || !utf8.Valid(cell.Bytes) {
			return fmt.Errorf("%w: column %q is not valid JSON", ErrUnrenderable, m.columns[i].Name)
		}
	case KindBinary:
	default:
		if !utf8.Valid(cell.Bytes) {
			return fmt.Errorf("%w: column %q is not valid UTF-8", ErrUnrenderable, m.columns[i].Name)
		}
	}
	return nil
}

func (m *Mapping) renderHash(fields []Field, row *Row) ([]Field, error) {
	fields = slices.Grow(fields, len(row.Values))[:len(row.Values)]
	total := 0
	for at, i := range m.byField {
		cell := row.Values[i]
		fields[at] = Field{Name: m.spec.Columns[i].Field(), Null: cell.Null}
		if cell.Null {
			continue
		}
		if err := m.checkCell(i, cell); err != nil {
			return nil, err
		}
		fields[at].Value = m.text(i, cell)
		total += len(fields[at].Value)
	}
	return fields, tooLarge(total)
}

// renderSingle gives the text of the one column, or in encoding raw its bytes.
func (m *Mapping) renderSingle(row *Row) ([]byte, error) {
	cell := row.Values[0]
	if m.spec.Encoding == Raw {
		return cell.Bytes, tooLarge(len(cell.Bytes))
	}
	if err := m.checkCell(0, cell); err != nil {
		return nil, err
	}
	text := m.text(0, cell)
	return text, tooLarge(len(text))
}

func tooLarge(bytes int) error {
	if bytes > valueBytesMax {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, bytes, valueBytesMax)
	}
	return nil
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
