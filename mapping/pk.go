package mapping

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

const (
	pkPartBytesMax = 64
	// exactFloatMax is the first integer whose neighbours a float64 cannot tell apart: a JSON number at or beyond it may have been rounded on its way.
	exactFloatMax = 1 << 53
)

// PKError says which part of a primary key is wrong and why. The API calls it pk_invalid.
type PKError struct {
	Part   int    // from 0; -1 when the key as a whole is wrong
	Column string // "" when unknown
	Reason string
}

func (e *PKError) Error() string {
	if e.Part < 0 {
		return "primary key invalid: " + e.Reason
	}
	return fmt.Sprintf("primary key invalid: part %d (%s) %s", e.Part, e.Column, e.Reason)
}

// PK canonicalises a primary key as received: one JSON number or string for each column, in primary-key order. The result is minimal decimal text within each column's range.
// MySQL's own conversion is never relied on: '1abc' = 1 and 18446744073709551616 = 18446744073709551615 would match wrong rows.
func (m *Mapping) PK(raw []json.RawMessage) ([]string, error) {
	if len(raw) != len(m.primaryKey) {
		return nil, &PKError{Part: -1, Reason: fmt.Sprintf("has %d parts, the table's key has %d", len(raw), len(m.primaryKey))}
	}
	pk := make([]string, len(raw))
	for i, column := range m.primaryKey {
		text, reason := integerText(raw[i])
		if reason == "" {
			text, reason = column.canonicalInteger(text)
		}
		if reason != "" {
			return nil, &PKError{Part: i, Column: column.Name, Reason: reason}
		}
		pk[i] = text
	}
	return pk, nil
}

// CheckPK reports whether pk is in the canonical form that [Mapping.PK] gives.
func (m *Mapping) CheckPK(pk []string) error {
	if len(pk) != len(m.primaryKey) {
		return &PKError{Part: -1, Reason: fmt.Sprintf("has %d parts, the table's key has %d", len(pk), len(m.primaryKey))}
	}
	for i, column := range m.primaryKey {
		text, reason := column.canonicalInteger(pk[i])
		if reason == "" && text != pk[i] {
			reason = "is not in canonical form"
		}
		if reason != "" {
			return &PKError{Part: i, Column: column.Name, Reason: reason}
		}
	}
	return nil
}

// integerText takes the digits out of a JSON number or string.
func integerText(raw json.RawMessage) (text, reason string) {
	if len(raw) == 0 || len(raw) > pkPartBytesMax {
		return "", fmt.Sprintf("must be 1 to %d bytes", pkPartBytesMax)
	}
	if raw[0] == '"' {
		if err := json.Unmarshal(raw, &text); err != nil {
			return "", "is not a JSON string"
		}
		return text, ""
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil || !isNumber(raw) {
		return "", "must be an integer, as a JSON string or as a JSON number below 2^53"
	}
	if n >= exactFloatMax || n <= -exactFloatMax {
		return "", "is a JSON number of 2^53 or more, which many clients round; send it as a string"
	}
	return string(raw), ""
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

// EncodePK joins the parts of a key into the one string that the replicated state uses as identity: a JSON array of strings, such as ["42"].
func EncodePK(pk []string) string {
	b := []byte{'['}
	for i, part := range pk {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, part)
	}
	return string(append(b, ']'))
}

// DecodePK is the inverse of [EncodePK]. It refuses any other spelling of the same array, for one row must have one identity.
func DecodePK(s string) ([]string, error) {
	var parts []*string
	if err := json.Unmarshal([]byte(s), &parts); err != nil || len(parts) == 0 {
		return nil, &PKError{Part: -1, Reason: "is not a JSON array of strings"}
	}
	pk := make([]string, len(parts))
	for i, part := range parts {
		if part == nil {
			return nil, &PKError{Part: -1, Reason: "is not a JSON array of strings"}
		}
		pk[i] = *part
	}
	if EncodePK(pk) != s {
		return nil, &PKError{Part: -1, Reason: "is not in canonical form"}
	}
	return pk, nil
}
