package mapping

import (
	"strconv"
	"strings"
)

// Kind is how a column is read and rendered. It travels in the replicated mapping record: never renumber.
type Kind uint8

const (
	KindUnsupported Kind = 0 // refused by Compile, with the reason
	KindInteger     Kind = 1
	KindDecimal     Kind = 2
	KindFloat       Kind = 3 // read as col+0e0: the server prints only six digits of a FLOAT
	KindDouble      Kind = 4
	KindText        Kind = 5 // includes ENUM, SET and the temporal types, which are text as the server prints them
	KindJSON        Kind = 6
	KindYear        Kind = 7 // four digits as text: 0000 is no JSON number
	KindBinary      Kind = 8 // BINARY, VARBINARY and the BLOBs: bytes
	KindBit         Kind = 9 // read as an unsigned integer
)

// Column is one column of a table as the server describes it. The mapping record keeps these, so that a node without the source can still canonicalise keys.
// Records of an older version lack what comes after KeyPart; no mapping of that version needs it.
type Column struct {
	Name      string `json:"name"`
	Type      string `json:"type"` // the server's full type, such as bigint(20) unsigned
	Kind      Kind   `json:"kind"`
	Bits      int    `json:"bits,omitempty"` // KindInteger: 8, 16, 24, 32 or 64; KindBit: 1 to 64
	Unsigned  bool   `json:"unsigned,omitempty"`
	Nullable  bool   `json:"nullable,omitempty"`
	KeyPart   int    `json:"key_part,omitempty"`  // position in the primary key from 1, 0 for the others
	Collation string `json:"collation,omitempty"` // of the text types
	Length    int    `json:"length,omitempty"`    // characters of CHAR and VARCHAR, bytes of BINARY and VARBINARY, digits of DECIMAL
	Scale     int    `json:"scale,omitempty"`     // digits after the point of DECIMAL
	Fsp       int    `json:"fsp,omitempty"`       // digits of a second's fraction of TIME, DATETIME and TIMESTAMP
}

// integerBits holds the width of each integer type.
var integerBits = map[string]int{"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "integer": 32, "bigint": 64}

var kinds = map[string]Kind{
	"decimal": KindDecimal, "numeric": KindDecimal, "float": KindFloat, "double": KindDouble, "real": KindDouble, "year": KindYear, "json": KindJSON,
	"char": KindText, "varchar": KindText, "tinytext": KindText, "text": KindText, "mediumtext": KindText, "longtext": KindText, "enum": KindText, "set": KindText,
	"date": KindText, "time": KindText, "datetime": KindText, "timestamp": KindText, "uuid": KindText, "inet4": KindText, "inet6": KindText,
	"binary": KindBinary, "varbinary": KindBinary, "tinyblob": KindBinary, "blob": KindBinary, "mediumblob": KindBinary, "longblob": KindBinary, "bit": KindBit,
}

// NewColumn classifies a column by the server's full type text (information_schema's COLUMN_TYPE).
func NewColumn(name, columnType string, nullable bool) Column {
	words := strings.Fields(strings.ToLower(columnType))
	c := Column{Name: name, Type: columnType, Nullable: nullable}
	if len(words) == 0 {
		return c
	}
	base, arguments, _ := strings.Cut(words[0], "(")
	c.Kind = kinds[base]
	c.measure(base, arguments)
	if bits := integerBits[base]; bits != 0 {
		c.Kind, c.Bits = KindInteger, bits
	}
	numeric := c.Kind == KindInteger || c.Kind == KindDecimal || c.Kind == KindFloat || c.Kind == KindDouble
	if !numeric {
		return c // the words after an ENUM's first one are its values
	}
	for _, word := range words[1:] {
		switch word {
		case "unsigned":
			c.Unsigned = true
		case "zerofill":
			c.Kind = KindUnsupported
		}
	}
	return c
}

// measure reads what stands in the type's parentheses. A type without any has the server's default, which the server spells out but for BIT and the fractions.
func (c *Column) measure(base, arguments string) {
	first, second, _ := strings.Cut(strings.TrimSuffix(arguments, ")"), ",")
	size, err := strconv.Atoi(first)
	if err != nil {
		size = 0
	}
	switch base {
	case "char", "varchar", "binary", "varbinary":
		c.Length = size
	case "decimal", "numeric":
		c.Length = size
		c.Scale, _ = strconv.Atoi(second)
	case "time", "datetime", "timestamp":
		c.Fsp = size
	case "bit":
		c.Bits = max(size, 1)
	}
}

// Base is the type's name alone, such as varchar.
func (c Column) Base() string {
	base, _, _ := strings.Cut(strings.ToLower(c.Type), " ")
	base, _, _ = strings.Cut(base, "(")
	return base
}

// unsupported gives the reason why a column cannot be rendered, or "".
func (c Column) unsupported() string {
	if c.Kind != KindUnsupported {
		return ""
	}
	if strings.Contains(strings.ToLower(c.Type), "zerofill") {
		return "is ZEROFILL: its leading zeros are no number"
	}
	return "has type " + c.Type + ", which is not supported (spatial values and vectors have no text form)"
}

// number tells whether the server's text of a value is a JSON number.
func (c Column) number() bool {
	switch c.Kind {
	case KindInteger, KindDecimal, KindFloat, KindDouble, KindBit:
		return true
	}
	return false
}
