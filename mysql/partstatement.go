package mysql

import (
	"strconv"
	"strings"

	"github.com/quiescehq/quiesce/mapping"
)

// bounds are the conditions on the rows of a part after a place, which lies in it.
func (p Part) bounds(m *mapping.Mapping, after []string) []string {
	var conditions []string
	switch {
	case after != nil:
		conditions = append(conditions, keyset(m.PrimaryKey(), afterwards, after))
	case p.From != nil:
		conditions = append(conditions, keyset(m.PrimaryKey(), from, p.From))
	}
	if p.To != nil {
		conditions = append(conditions, keyset(m.PrimaryKey(), before, p.To))
	}
	return conditions
}

func whereOf(conditions []string) string {
	if len(conditions) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(conditions, " AND ")
}

// selectPlace asks for the primary key of the n-th row that meets a condition.
func selectPlace(m *mapping.Mapping, where string, n int) string {
	var inner, outer, order strings.Builder
	for i, c := range m.PrimaryKey() {
		alias := "k" + strconv.Itoa(i)
		inner.WriteString(separator(i, ", ", "") + quote(c.Name) + " AS " + alias)
		outer.WriteString(", " + placeOf("t."+alias, c))
		order.WriteString(separator(i, ", ", "") + quote(c.Name))
	}
	return "SELECT s.ro, s.sid" + outer.String() + " FROM " + proof + " LEFT JOIN (SELECT " + inner.String() + " FROM " + quote(m.Spec().Table) + where +
		" ORDER BY " + order.String() + " LIMIT 1 OFFSET " + strconv.Itoa(n-1) + ") AS t ON 1 = 1"
}

// drawPrime is the largest prime below 2^32.
const drawPrime = 4_294_967_291

// draw is true of a share of the rows, chosen by a hash of their primary key: (a + b·CRC-32) modulo a prime. For a and b by chance any row is drawn as likely as any other, and any two independently of each
// other. CRC-32 alone would not do: a salt in front of the key only turns the same bits of all hashes, and samples of two salts would be one sample. The server computes it three times
// as fast as MD5, and that is most of what a sample costs it.
func draw(primaryKey []mapping.Column, ppm, salt uint64) string {
	a, b := mix(2*salt)%drawPrime, 1+mix(2*salt+1)%(1<<31) // so that the sum stays below 2^64
	var key strings.Builder
	for i, c := range primaryKey {
		key.WriteString(separator(i, ", ", "") + "CAST(" + quote(c.Name) + " AS BINARY)")
	}
	hash := "CRC32(CONCAT_WS(x'00', " + key.String() + "))"
	return "(" + strconv.FormatUint(a, 10) + " + " + strconv.FormatUint(b, 10) + " * " + hash + ") % " + strconv.FormatUint(drawPrime, 10) + " % 1000000 < " + strconv.FormatUint(ppm, 10)
}

// mix spreads neighbouring numbers: the finaliser of SplitMix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
