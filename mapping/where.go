package mapping

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	conditionsMax       = 16
	conditionValuesMax  = 100
	conditionValueBytes = 1_024
)

// Condition is one comparison of a column with literals. A row is in the mapping when all conditions are true; NULL makes every comparison but is_null false, as in SQL.
type Condition struct {
	Column string    `json:"column"`
	Op     string    `json:"op"` // = != < <= > >= in is_null not_null
	Value  *Literal  `json:"value,omitempty"`
	Values []Literal `json:"values,omitempty"` // of in
}

// Literal is the text of a value. In JSON it may also be a number.
type Literal string

// UnmarshalJSON keeps a number's text as it stands.
func (l *Literal) UnmarshalJSON(raw []byte) error {
	if isNumber(raw) {
		*l = Literal(raw)
		return nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil || len(raw) == 0 || raw[0] != '"' {
		return errors.New("a value of where must be a JSON string or number")
	}
	*l = Literal(s)
	return nil
}

// Operators of a [Condition] beside the comparisons.
const (
	WhereIn      = "in"
	WhereIsNull  = "is_null"
	WhereNotNull = "not_null"
)

var comparisons = []string{"=", "!=", "<", "<=", ">", ">="}

// Predicate is a checked condition. Values are literals that fit the column: digits for numbers, real dates, UTF-8 text.
type Predicate struct {
	Column Column
	Op     string
	Values []string
}

func (c Condition) literals() []Literal {
	if c.Value != nil {
		return []Literal{*c.Value}
	}
	return c.Values
}

func (s Spec) validateWhere(f *faults) {
	if len(s.Where) > 0 && s.Mode == Invalidate {
		f.add("where", "has no meaning in mode invalidate, which reads no row")
	}
	if len(s.Where) > conditionsMax {
		f.add("where", "has %d conditions, at most %d are allowed", len(s.Where), conditionsMax)
		return
	}
	for i, c := range s.Where {
		c.validate(f, fmt.Sprintf("where[%d]", i))
	}
}

func (c Condition) validate(f *faults, field string) {
	checkIdentifier(f, field+".column", c.Column)
	n := len(c.Values)
	switch {
	case c.Op == WhereIsNull || c.Op == WhereNotNull:
		if c.Value != nil || n > 0 {
			f.add(field, "compares with nothing, so it takes no value")
		}
	case c.Op == WhereIn:
		if c.Value != nil || n == 0 || n > conditionValuesMax {
			f.add(field+".values", "needs 1 to %d values", conditionValuesMax)
		}
	case slices.Contains(comparisons, c.Op):
		if c.Value == nil || n > 0 {
			f.add(field+".value", "needs one value")
		}
	default:
		f.add(field+".op", "must be one of %s %s %s %s", strings.Join(comparisons, " "), WhereIn, WhereIsNull, WhereNotNull)
	}
	for _, v := range c.literals() {
		if len(v) > conditionValueBytes || !utf8.ValidString(string(v)) {
			f.add(field, "has a value that is not UTF-8 or longer than %d bytes", conditionValueBytes)
			return
		}
	}
}

// resolveWhere wants each literal to be a value of its column: the server's own conversion would compare '12abc' with 12.
func resolveWhere(f *faults, spec Spec, byName map[string]Column) []Predicate {
	out := make([]Predicate, 0, len(spec.Where))
	for i, condition := range spec.Where {
		field := fmt.Sprintf("where[%d]", i)
		c, ok := byName[condition.Column]
		if !ok {
			f.add(field+".column", "%q is not a column of %q", condition.Column, spec.Table)
			continue
		}
		p := Predicate{Column: c, Op: condition.Op}
		for _, v := range condition.literals() {
			text, reason := c.conditionLiteral(string(v))
			if reason != "" {
				f.add(field, "value %s", reason)
				break
			}
			p.Values = append(p.Values, text)
		}
		out = append(out, p)
	}
	return out
}

func (c Column) conditionLiteral(s string) (text, reason string) {
	switch c.Kind {
	case KindInteger:
		return c.canonicalInteger(s)
	case KindBit:
		return Column{Type: c.Type, Bits: 64, Unsigned: true}.canonicalInteger(s)
	case KindDecimal:
		return c.canonicalDecimal(s)
	case KindYear:
		return Column{Type: c.Type, Bits: 16, Unsigned: true}.canonicalInteger(s)
	case KindText:
		return c.conditionText(s)
	}
	return "", "cannot be compared with a column of type " + c.Type + "; is_null and not_null can"
}

func (c Column) conditionText(s string) (text, reason string) {
	switch c.Base() {
	case "date":
		return canonicalTime(s, dateForm, "a real date such as 2024-02-29")
	case "datetime", "timestamp":
		return c.canonicalDateTime(s)
	case "time":
		return "", "cannot be compared with a column of type " + c.Type + "; is_null and not_null can"
	case "uuid":
		return canonicalUUID(s)
	case "inet4", "inet6":
		return canonicalInet(s, c.Base() == "inet4")
	}
	return s, c.outsideCharset(s)
}
