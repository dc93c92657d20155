package mysql

import (
	"strconv"
	"strings"

	"github.com/quiescehq/quiesce/mapping"
)

// proof is joined to every read. It yields one row whatever the table holds, so an answer without it is no answer.
const proof = "(SELECT @@global.read_only AS ro, @@server_id AS sid) AS s"

// selectRows asks for the rows of pks, which are checked. Key values are written as digits and not as arguments: integers are compared as integers, while text is compared with an
// integer as a double wherever the optimiser does not convert it first, and then 9007199254740993 matches its neighbour.
func selectRows(m *mapping.Mapping, pks [][]string) string {
	var b strings.Builder
	b.WriteString("SELECT s.ro, s.sid")
	for _, c := range m.PrimaryKey() {
		b.WriteString(", t." + quote(c.Name))
	}
	for _, c := range m.Columns() {
		b.WriteString(", " + valueOf("t."+quote(c.Name), c.Kind))
	}
	b.WriteString(" FROM " + proof + " LEFT JOIN " + quote(m.Spec().Table) + " AS t ON (")
	for i, c := range m.PrimaryKey() {
		b.WriteString(separator(i, ", ") + "t." + quote(c.Name))
	}
	b.WriteString(") IN (")
	for i, pk := range pks {
		b.WriteString(separator(i, ", ") + "(" + strings.Join(pk, ", ") + ")")
	}
	b.WriteString(")")
	return b.String()
}

// selectChunk asks for the next rows after a key in primary-key order. The derived table is needed for LIMIT to count rows of the table and not of the join.
func selectChunk(m *mapping.Mapping, after []string, limit string) string {
	var inner, outer, order strings.Builder
	for i, c := range m.PrimaryKey() {
		alias := "k" + strconv.Itoa(i)
		inner.WriteString(separator(i, ", ") + quote(c.Name) + " AS " + alias)
		outer.WriteString(", t." + alias)
		order.WriteString(separator(i, ", ") + quote(c.Name))
	}
	for i, c := range m.Columns() {
		alias := "c" + strconv.Itoa(i)
		inner.WriteString(", " + valueOf(quote(c.Name), c.Kind) + " AS " + alias)
		outer.WriteString(", t." + alias)
	}
	where := ""
	if after != nil {
		where = " WHERE " + keyset(m.PrimaryKey(), after)
	}
	return "SELECT s.ro, s.sid" + outer.String() + " FROM " + proof +
		" LEFT JOIN (SELECT " + inner.String() + " FROM " + quote(m.Spec().Table) + where + " ORDER BY " + order.String() + " LIMIT " + limit + ") AS t ON 1 = 1" +
		" ORDER BY " + orderOfAliases(len(m.PrimaryKey()))
}

// keyset is (a, b) > (x, y) spelled out: the server turns the disjunction into index ranges, but answers the row comparison with a scan from the start of the index.
func keyset(primaryKey []mapping.Column, after []string) string {
	var b strings.Builder
	for last := range primaryKey {
		b.WriteString(separator(last, " OR ") + "(")
		for i := range last {
			b.WriteString(quote(primaryKey[i].Name) + " = " + after[i] + " AND ")
		}
		b.WriteString(quote(primaryKey[last].Name) + " > " + after[last] + ")")
	}
	return b.String()
}

func orderOfAliases(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(separator(i, ", ") + "t.k" + strconv.Itoa(i))
	}
	return b.String()
}

// valueOf selects a column so that its text reaches us untouched; see the package's invariants. DOUBLE takes the same road as FLOAT, so that a column altered from one to the
// other does not lose digits unseen.
func valueOf(column string, kind mapping.Kind) string {
	switch kind {
	case mapping.KindFloat, mapping.KindDouble:
		return "CAST(" + column + " + 0e0 AS CHAR)"
	case mapping.KindYear:
		return "CAST(" + column + " AS CHAR)"
	}
	return column
}

func quote(identifier string) string {
	return "`" + strings.ReplaceAll(identifier, "`", "``") + "`"
}

func separator(i int, s string) string {
	if i == 0 {
		return ""
	}
	return s
}
