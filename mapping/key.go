package mapping

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	keyPartBytesMax = 4 * (keyTextRunesMax + keyPadRunes) * 3 // of JSON: an escaped character takes six bytes or twelve
	numberBytesMax  = 64
	// exactFloatMax is the first integer whose neighbours a float64 cannot tell apart: a JSON number at or beyond it may have been rounded on its way.
	exactFloatMax = 1 << 53
	// exactDecimalDigits is how many digits of a decimal number a float64 keeps.
	exactDecimalDigits = 15
)

// KeyError says which part of a key is wrong and why. The API calls it pk_invalid.
type KeyError struct {
	Part   int    // from 0; -1 when the key as a whole is wrong
	Column string // "" when unknown
	Reason string
}

func (e *KeyError) Error() string {
	if e.Part < 0 {
		return "key invalid: " + e.Reason
	}
	return fmt.Sprintf("key invalid: part %d (%s) %s", e.Part, e.Column, e.Reason)
}

// Tuple canonicalises a key as received: one JSON string or number for each key column, in their order. It is nil when a part is null: such a tuple names no key.
// MySQL's own conversion is never relied on: '1abc' = 1 and 18446744073709551616 = 18446744073709551615 would match wrong rows.
func (m *Mapping) Tuple(raw []json.RawMessage) ([]string, error) {
	if len(raw) != len(m.keyColumns) {
		return nil, &KeyError{Part: -1, Reason: fmt.Sprintf("has %d parts, and the mapping's key has %d: %s", len(raw), len(m.keyColumns), strings.Join(m.keyNames(), ", "))}
	}
	tuple, null := make([]string, len(raw)), false
	for i := range m.keyColumns {
		if string(raw[i]) == "null" {
			null = true
			continue
		}
		column := &m.keyColumns[i]
		text, reason := keyPartText(raw[i], column.class)
		if reason == "" {
			text, reason = column.canonical(column.class, m.fold, text)
		}
		if reason != "" {
			return nil, &KeyError{Part: i, Column: column.Name, Reason: reason}
		}
		tuple[i] = text
	}
	if null {
		return nil, nil
	}
	if err := m.checkKeys(tuple); err != nil {
		return nil, err
	}
	return tuple, nil
}

// CheckTuple reports whether the tuple is in the canonical form that [Mapping.Tuple] gives, and its keys may be written.
func (m *Mapping) CheckTuple(tuple []string) error {
	if len(tuple) != len(m.keyColumns) {
		return &KeyError{Part: -1, Reason: fmt.Sprintf("has %d parts, and the mapping's key has %d: %s", len(tuple), len(m.keyColumns), strings.Join(m.keyNames(), ", "))}
	}
	for i := range m.keyColumns {
		column := &m.keyColumns[i]
		text, reason := column.canonical(column.class, m.fold, tuple[i])
		if reason == "" && text != tuple[i] {
			reason = "is not in canonical form"
		}
		if reason != "" {
			return &KeyError{Part: i, Column: column.Name, Reason: reason}
		}
	}
	return m.checkKeys(tuple)
}

// RowKey gives the canonical tuple of the key columns' values as the server printed them. It is nil for a row that names no key: a part is NULL, or has no canonical form, so that no event can name it.
func (m *Mapping) RowKey(cells []Cell) []string {
	tuple := make([]string, len(m.keyColumns))
	for i := range m.keyColumns {
		column := &m.keyColumns[i]
		if cells[i].Null {
			return nil
		}
		text, reason := column.canonical(column.class, m.fold, keyOfCell(column.class, cells[i].Bytes))
		if reason != "" {
			return nil
		}
		tuple[i] = text
	}
	if m.checkKeys(tuple) != nil {
		return nil
	}
	return tuple
}

// checkKeys looks at the rendered keys where the templates alone do not settle that each may be written.
func (m *Mapping) checkKeys(tuple []string) error {
	if !m.keysVary {
		return nil
	}
	for i := range m.templates {
		if reason := m.templates[i].refuses(tuple, m.guardPrefix); reason != "" {
			return &KeyError{Part: -1, Reason: reason}
		}
	}
	return nil
}

func (m *Mapping) keyNames() []string {
	names := make([]string, len(m.keyColumns))
	for i := range m.keyColumns {
		names[i] = m.keyColumns[i].Name
	}
	return names
}

// keyPartText takes the text out of a JSON string, or out of a JSON number where the class has numbers and no digit can have been lost.
func keyPartText(raw json.RawMessage, class keyClass) (text, reason string) {
	if len(raw) == 0 || len(raw) > keyPartBytesMax {
		return "", fmt.Sprintf("must be 1 to %d bytes", keyPartBytesMax)
	}
	if raw[0] == '"' {
		if plain, ok := plainText(raw); ok {
			return plain, ""
		}
		if err := json.Unmarshal(raw, &text); err != nil {
			return "", "is not a JSON string"
		}
		if loneSurrogate(raw) {
			return "", "holds half of a surrogate pair"
		}
		return text, ""
	}
	switch class {
	case keyInteger:
		return integerText(raw)
	case keyDecimal:
		return decimalText(raw)
	}
	return "", "must be a JSON string"
}

// plainText reads a JSON string in which nothing is escaped and all is ASCII.
func plainText(raw []byte) (text string, ok bool) {
	if len(raw) < len(`""`) || raw[len(raw)-1] != '"' {
		return "", false
	}
	inner := raw[1 : len(raw)-1]
	for _, c := range inner {
		if c < 0x20 || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			return "", false
		}
	}
	return string(inner), true
}

func integerText(raw []byte) (text, reason string) {
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil || len(raw) > numberBytesMax || !isNumber(raw) {
		return "", "must be an integer, as a JSON string or as a JSON number below 2^53"
	}
	if n >= exactFloatMax || n <= -exactFloatMax {
		return "", "is a JSON number of 2^53 or more, which many clients round; send it as a string"
	}
	return string(raw), ""
}

func decimalText(raw []byte) (text, reason string) {
	text = string(raw)
	if len(raw) > numberBytesMax || !isNumber(raw) || strings.ContainsAny(text, "eE") {
		return "", "must be a decimal number, as a JSON string or as a JSON number without an exponent"
	}
	if len(strings.Trim(text, "-")) > exactDecimalDigits+1 {
		return "", fmt.Sprintf("is a JSON number of more than %d digits, which many clients round; send it as a string", exactDecimalDigits)
	}
	return text, ""
}

// canonicalInteger strips a minus from zero and zeros from the front, and checks the range of the column's type.
func (c Column) canonicalInteger(s string) (text, reason string) {
	digits, negative := strings.CutPrefix(s, "-")
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return "", "is not a decimal integer"
	}
	digits = strings.TrimLeft(digits, "0")
	if digits == "" {
		return "0", ""
	}
	if c.Unsigned && negative {
		return "", "is negative, and the column is UNSIGNED"
	}
	if c.Unsigned {
		if _, err := strconv.ParseUint(digits, 10, c.Bits); err != nil {
			return "", "is out of the range of " + c.Type
		}
		return digits, ""
	}
	if negative {
		digits = "-" + digits
	}
	if _, err := strconv.ParseInt(digits, 10, c.Bits); err != nil {
		return "", "is out of the range of " + c.Type
	}
	return digits, ""
}

// EncodeKey joins the parts of a key into the one string that the replicated state uses as identity: a JSON array of strings, such as ["42"].
func EncodeKey(tuple []string) string {
	var room [keyRoomBytes]byte
	b := append(room[:0], '[')
	for i, part := range tuple {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, part)
	}
	return string(append(b, ']'))
}

// keyRoomBytes holds the usual key without an allocation beside the string's own.
const keyRoomBytes = 96

// DecodeKey is the inverse of [EncodeKey]. It refuses any other spelling of the same array, for one key must have one identity.
func DecodeKey(s string) ([]string, error) {
	if tuple := plainKey(s); tuple != nil {
		return tuple, nil
	}
	return decodeKey(s)
}

// plainKey reads a key of parts in which nothing is escaped, which is how nearly all are; the parts stay pieces of it. It is nil for all others, and for what is no key: a delivery
// reads the key of each of its events, and encoding/json took a tenth of the leader for that.
func plainKey(s string) []string {
	const opening, closing, between = `["`, `"]`, `","`
	if len(s) < len(opening)+len(closing) || s[:len(opening)] != opening {
		return nil
	}
	var tuple []string
	for start, i := len(opening), len(opening); i < len(s); i++ {
		switch c := s[i]; {
		case c < 0x20 || c == '\\' || c >= utf8.RuneSelf:
			return nil
		case c != '"':
			continue
		case s[i:] == closing:
			return append(tuple, s[start:i])
		case !strings.HasPrefix(s[i:], between):
			return nil
		}
		tuple = append(tuple, s[start:i])
		i += len(between) - 1
		start = i + 1
	}
	return nil
}

func decodeKey(s string) ([]string, error) {
	var parts []*string
	if err := json.Unmarshal([]byte(s), &parts); err != nil || len(parts) == 0 {
		return nil, &KeyError{Part: -1, Reason: "is not a JSON array of strings"}
	}
	tuple := make([]string, len(parts))
	for i, part := range parts {
		if part == nil {
			return nil, &KeyError{Part: -1, Reason: "is not a JSON array of strings"}
		}
		tuple[i] = *part
	}
	if EncodeKey(tuple) != s {
		return nil, &KeyError{Part: -1, Reason: "is not in canonical form"}
	}
	return tuple, nil
}
