package mapping

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Place canonicalises a place in the table as received: one JSON string or number for each column of the primary key, in their order, in the text by which the table is read on from there.
// It need not be the key of a row. Unlike a [Mapping.Tuple] it renders to no key, so the column may be of any type that a table is read in the order of, and a text of any collation.
func (m *Mapping) Place(raw []json.RawMessage) ([]string, error) {
	if len(raw) != len(m.primaryKey) {
		names := make([]string, len(m.primaryKey))
		for i, c := range m.primaryKey {
			names[i] = c.Name
		}
		return nil, &KeyError{Part: -1, Reason: fmt.Sprintf("has %d parts, and the primary key has %d: %s", len(raw), len(names), strings.Join(names, ", "))}
	}
	place := make([]string, len(raw))
	for i, c := range m.primaryKey {
		text, reason := c.place(raw[i])
		if reason != "" {
			return nil, &KeyError{Part: i, Column: c.Name, Reason: reason}
		}
		place[i] = text
	}
	return place, nil
}

func (c Column) place(raw json.RawMessage) (text, reason string) {
	class := keyText
	switch {
	case c.Kind == KindInteger || c.Kind == KindYear || c.byPosition():
		class = keyInteger
	case c.Kind == KindDecimal:
		class = keyDecimal
	}
	if text, reason = keyPartText(raw, class); reason != "" {
		return "", reason
	}
	switch {
	case c.byPosition():
		text, reason = Column{Type: c.Type, Bits: 64, Unsigned: true}.canonicalInteger(text)
	case c.Kind == KindBinary:
		text, reason = c.canonicalHex(text)
	case c.Base() == "time":
		text, reason = canonicalClock(text)
	default:
		text, reason = c.conditionLiteral(text)
	}
	if reason == "" && !utf8.ValidString(text) {
		reason = "is not UTF-8"
	}
	return text, reason
}

// byPosition tells the types that a table is ordered by as numbers, whatever they print: a place among them is given as that number.
func (c Column) byPosition() bool {
	return c.Kind == KindBit || c.Base() == "enum" || c.Base() == "set"
}

// canonicalClock takes what the server prints of a TIME: a span of hours, possibly negative.
func canonicalClock(s string) (text, reason string) {
	parts := strings.Split(strings.TrimPrefix(s, "-"), ":")
	if len(parts) == 3 && len(parts[0]) >= 2 && len(parts[0]) <= 3 && len(parts[1]) == 2 {
		seconds, fraction, _ := strings.Cut(parts[2], ".")
		if len(seconds) == 2 && len(fraction) <= 6 && strings.Trim(parts[0]+parts[1]+seconds+fraction, "0123456789") == "" {
			return s, ""
		}
	}
	return "", "is not a time such as 08:30:00"
}
