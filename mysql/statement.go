package mysql

import (
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/quiescehq/quiesce/mapping"
)

// proof is joined to every read. It yields one row whatever the table holds, so an answer without it is no answer.
const proof = "(SELECT @@global.read_only AS ro, @@server_id AS sid) AS s"

// shape is what the columns of an answer are: the proof, the primary key, the key columns where they are others, whether the row is in the mapping, the values.
type shape struct {
	primary, keys, values int
	conditional           bool
}

func shapeOf(m *mapping.Mapping) shape {
	s := shape{primary: len(m.PrimaryKey()), values: len(m.Columns()), conditional: len(m.Where()) > 0}
	if !m.KeyIsPrimary() {
		s.keys = len(m.KeyColumns())
	}
	return s
}

func (s shape) width() int {
	n := proofColumns + s.primary + s.keys + s.values
	if s.conditional {
		n++
	}
	return n
}

// selectRows asks for the rows of canonical tuples. Literals are of the columns' own types: integers are compared as integers, while text is compared with an
// integer as a double wherever the optimiser does not convert it first, and then 9007199254740993 matches its neighbour.
func selectRows(m *mapping.Mapping, tuples [][]string) string {
	keys := m.KeyColumns()
	var b strings.Builder
	b.WriteString("SELECT s.ro, s.sid")
	for _, c := range m.PrimaryKey() {
		b.WriteString(", " + placeOf("t."+quote(c.Name), c))
	}
	if !m.KeyIsPrimary() {
		for _, c := range keys {
			b.WriteString(", t." + quote(c.Name))
		}
	}
	if len(m.Where()) > 0 {
		b.WriteString(", " + condition(m.Where(), "t."))
	}
	for _, c := range m.Columns() {
		b.WriteString(", " + valueOf("t."+quote(c.Name), c.Kind))
	}
	b.WriteString(" FROM " + proof + " LEFT JOIN " + quote(m.Spec().Table) + " AS t ON ")
	if len(keys) == 1 {
		b.WriteString("t." + quote(keys[0].Name))
	} else {
		for i, c := range keys {
			b.WriteString(separator(i, ", ", "(") + "t." + quote(c.Name))
		}
		b.WriteString(")")
	}
	b.WriteString(" IN (")
	for i, tuple := range tuples {
		b.WriteString(separator(i, ", ", ""))
		if len(tuple) == 1 {
			b.WriteString(valueLiteral(keys[0], tuple[0]))
			continue
		}
		for j, text := range tuple {
			b.WriteString(separator(j, ", ", "(") + valueLiteral(keys[j], text))
		}
		b.WriteString(")")
	}
	b.WriteString(")")
	return b.String()
}

// selectChunk asks for the rows that meet a condition, in primary-key order. The derived table is needed for LIMIT to count rows of the table and not of the join.
func selectChunk(m *mapping.Mapping, where string, limit int) string {
	var inner, outer, order, orderOuter strings.Builder
	for i, c := range m.PrimaryKey() {
		alias := "k" + strconv.Itoa(i)
		inner.WriteString(separator(i, ", ", "") + quote(c.Name) + " AS " + alias)
		outer.WriteString(", " + placeOf("t."+alias, c))
		order.WriteString(separator(i, ", ", "") + quote(c.Name))
		orderOuter.WriteString(separator(i, ", ", "") + "t." + alias)
	}
	if !m.KeyIsPrimary() {
		for i, c := range m.KeyColumns() {
			alias := "e" + strconv.Itoa(i)
			inner.WriteString(", " + quote(c.Name) + " AS " + alias)
			outer.WriteString(", t." + alias)
		}
	}
	if len(m.Where()) > 0 {
		inner.WriteString(", " + condition(m.Where(), "") + " AS w")
		outer.WriteString(", t.w")
	}
	for i, c := range m.Columns() {
		alias := "c" + strconv.Itoa(i)
		inner.WriteString(", " + valueOf(quote(c.Name), c.Kind) + " AS " + alias)
		outer.WriteString(", t." + alias)
	}
	return "SELECT s.ro, s.sid" + outer.String() + " FROM " + proof +
		" LEFT JOIN (SELECT " + inner.String() + " FROM " + quote(m.Spec().Table) + where + " ORDER BY " + order.String() + " LIMIT " + strconv.Itoa(limit) + ") AS t ON 1 = 1" +
		" ORDER BY " + orderOuter.String()
}

// Sides of a place.
const (
	before     = "<"
	upTo       = "<="
	from       = ">="
	afterwards = ">"
)

// keyset is (a, b) > (x, y), or on another side, spelled out: the server turns the disjunction into index ranges, but answers the row comparison with a scan from the start of the index.
func keyset(primaryKey []mapping.Column, side string, place []string) string {
	var b strings.Builder
	for last := range primaryKey {
		b.WriteString(separator(last, " OR ", "(") + "(")
		for i := range last {
			b.WriteString(quote(primaryKey[i].Name) + " = " + placeLiteral(primaryKey[i], place[i]) + " AND ")
		}
		op := side
		if last < len(primaryKey)-1 {
			op = side[:1] // the place itself is decided by its last column
		}
		b.WriteString(quote(primaryKey[last].Name) + " " + op + " " + placeLiteral(primaryKey[last], place[last]) + ")")
	}
	return b.String() + ")"
}

// condition is 1 for a row that meets all predicates, else 0. NULL meets none but IS NULL.
func condition(where []mapping.Predicate, table string) string {
	var b strings.Builder
	for i, p := range where {
		b.WriteString(separator(i, " AND ", "(") + table + quote(p.Column.Name))
		switch p.Op {
		case mapping.WhereIsNull:
			b.WriteString(" IS NULL")
			continue
		case mapping.WhereNotNull:
			b.WriteString(" IS NOT NULL")
			continue
		case mapping.WhereIn:
			for j, text := range p.Values {
				b.WriteString(separator(j, ", ", " IN (") + valueLiteral(p.Column, text))
			}
			b.WriteString(")")
			continue
		}
		b.WriteString(" " + p.Op + " " + valueLiteral(p.Column, p.Values[0]))
	}
	return b.String() + ") IS TRUE"
}

// valueLiteral writes a checked value of a column. Text and bytes are written in hexadecimal, and everything else has an alphabet without quotes.
func valueLiteral(c mapping.Column, text string) string {
	switch c.Kind {
	case mapping.KindInteger, mapping.KindDecimal, mapping.KindBit, mapping.KindYear:
		return text
	case mapping.KindBinary:
		return "x'" + text + "'"
	}
	switch c.Base() {
	case "date":
		return "DATE'" + text + "'"
	case "datetime", "timestamp":
		return "TIMESTAMP'" + text + "'"
	case "uuid", "inet4", "inet6":
		return "'" + text + "'"
	}
	return "_utf8mb4 x'" + hex.EncodeToString([]byte(text)) + "'"
}

// byNumber tells the types that a table is ordered by as numbers, whatever they print.
func byNumber(c mapping.Column) bool {
	base := c.Base()
	return base == "enum" || base == "set" || c.Kind == mapping.KindBit
}

// placeOf selects a primary-key column as the text by which the next read goes on after it.
func placeOf(column string, c mapping.Column) string {
	if byNumber(c) {
		return column + " + 0"
	}
	return valueOf(column, c.Kind)
}

// placeAlphabets bound what may stand in a place, which comes back from the replicated log.
const (
	numberAlphabet = "-.0123456789"
	hexAlphabet    = "0123456789abcdef"
	plainAlphabet  = hexAlphabet + "-.: "
)

// placeLiteral writes the text of placeOf. Dates are written as quoted text: a zero date is a place, and no date.
func placeLiteral(c mapping.Column, text string) string {
	switch {
	case byNumber(c):
		return text
	case c.Kind == mapping.KindText && plain(c):
		return "'" + text + "'"
	}
	return valueLiteral(c, text)
}

func plain(c mapping.Column) bool {
	switch c.Base() {
	case "date", "time", "datetime", "timestamp", "uuid", "inet4", "inet6":
		return true
	}
	return false
}

// checkPlace refuses what could leave its literal.
func checkPlace(primaryKey []mapping.Column, place []string) error {
	if len(place) != len(primaryKey) {
		return &mapping.KeyError{Part: -1, Reason: "has another number of parts than the primary key"}
	}
	for i, c := range primaryKey {
		alphabet, empty := "", false
		switch {
		case byNumber(c) || c.Kind != mapping.KindText && c.Kind != mapping.KindBinary:
			alphabet = numberAlphabet
		case c.Kind == mapping.KindBinary:
			alphabet, empty = hexAlphabet, true
		case plain(c):
			alphabet = plainAlphabet
		default:
			continue // written in hexadecimal
		}
		odd := c.Kind == mapping.KindBinary && len(place[i])%2 != 0
		if place[i] == "" && !empty || odd || strings.Trim(place[i], alphabet) != "" {
			return &mapping.KeyError{Part: i, Column: c.Name, Reason: "is no place in the order of the table"}
		}
	}
	return nil
}

// valueOf selects a column so that its text reaches us untouched; see the package's invariants. DOUBLE takes the same road as FLOAT, so that a column altered from one to the
// other does not lose digits unseen.
func valueOf(column string, kind mapping.Kind) string {
	switch kind {
	case mapping.KindFloat, mapping.KindDouble:
		return "CAST(" + column + " + 0e0 AS CHAR)"
	case mapping.KindYear:
		return "CAST(" + column + " AS CHAR)"
	case mapping.KindBit:
		return column + " + 0"
	}
	return column
}

func quote(identifier string) string {
	return "`" + strings.ReplaceAll(identifier, "`", "``") + "`"
}

func separator(i int, between, first string) string {
	if i == 0 {
		return first
	}
	return between
}
