package mapping

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// masked stands for a value that is not shown.
const masked = "***"

// ShowRow gives what the row's keys should hold as text for a person, of at most so many bytes: empty for nothing, and for a row that has no rendering. No value of a masked column is in it.
func (m *Mapping) ShowRow(row *Row, bytesMax int) string {
	if m.spec.Mode == Invalidate || row == nil || m.missing(row) {
		return ""
	}
	w, err := m.content(row.Key, row)
	if err != nil {
		return ""
	}
	return clipText(m.show(w.Value, w.Fields), bytesMax)
}

// ShowActual gives what a key holds in the same form. Where a column is masked, so is all that is not the value of another one: fields that the mapping does not know, and a value that is not made of its
// columns, of which only the length and a digest are shown.
func (m *Mapping) ShowActual(actual Actual, bytesMax int) string {
	switch actual.Type {
	case TypeNone:
		return ""
	case TypeString, TypeHash:
		if m.hasMask() && (actual.Type == TypeHash) != (m.spec.Encoding == Hash) {
			return opaque(actual)
		}
		return clipText(m.show(actual.Value, actual.Fields), bytesMax)
	}
	return "(" + actual.Type + ")"
}

func (m *Mapping) hasMask() bool {
	return slices.ContainsFunc(m.spec.Columns, func(c ColumnSpec) bool { return c.Mask })
}

// hides tells whether the value under a name in the cache is hidden. It is for mappings that mask something.
func (m *Mapping) hides(field string) bool {
	return !slices.ContainsFunc(m.spec.Columns, func(c ColumnSpec) bool { return c.Field() == field && !c.Mask })
}

func (m *Mapping) show(value []byte, fields []Field) string {
	mask := m.hasMask()
	switch {
	case fields != nil:
		return m.showFields(fields, mask)
	case !mask:
		return string(value)
	case m.spec.Encoding == JSON:
		return m.showJSON(value)
	case m.single() && m.spec.Mode != Invalidate:
		return masked
	}
	return opaque(Actual{Value: value})
}

func (m *Mapping) showFields(fields []Field, mask bool) string {
	fields = slices.Clone(fields)
	slices.SortFunc(fields, func(a, b Field) int { return strings.Compare(a.Name, b.Name) })
	var b strings.Builder
	for _, f := range fields {
		if f.Null {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(f.Name + "=")
		if mask && m.hides(f.Name) {
			b.WriteString(masked)
		} else {
			b.Write(f.Value)
		}
	}
	return b.String()
}

// showJSON keeps the members in their order and in their spelling.
func (m *Mapping) showJSON(value []byte) string {
	if string(bytes.TrimSpace(value)) == "null" {
		return "null" // what stands for a missing row
	}
	members := json.NewDecoder(bytes.NewReader(value))
	if t, err := members.Token(); err != nil || t != json.Delim('{') || !json.Valid(value) {
		return opaque(Actual{Value: value})
	}
	b := []byte{'{'}
	for members.More() {
		name, err := members.Token()
		text, isText := name.(string)
		var member json.RawMessage
		if err != nil || !isText || members.Decode(&member) != nil {
			return opaque(Actual{Value: value})
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(appendString(b, []byte(text)), ':')
		if m.hides(text) {
			b = append(b, `"`+masked+`"`...)
		} else {
			b = append(b, member...)
		}
	}
	return string(append(b, '}'))
}

// opaque tells two values apart without telling either.
func opaque(actual Actual) string {
	n, h := 0, sha256.New()
	for _, part := range append([]Field{{Value: actual.Value}}, actual.Fields...) {
		n += len(part.Name) + len(part.Value)
		h.Write(appendPart(appendPart(nil, part.Name), part.Value))
	}
	return fmt.Sprintf("(%d bytes, digest %s)", n, hex.EncodeToString(h.Sum(nil)[:6]))
}

// clipText gives valid UTF-8, for it travels as JSON, and cuts no character in half.
func clipText(text string, bytesMax int) string {
	if len(text) > bytesMax {
		cut := bytesMax
		for cut > 0 && cut > bytesMax-utf8.UTFMax && !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut]
	}
	return strings.ToValidUTF8(text, "")
}
