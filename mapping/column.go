package mapping

import "strings"

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
)

// Column is one column of a table as the server describes it. The mapping record keeps these, so that a node without the source can still canonicalise keys.
type Column struct {
	Name     string `json:"name"`
	Type     string `json:"type"` // the server's full type, such as bigint(20) unsigned
	Kind     Kind   `json:"kind"`
	Bits     int    `json:"bits,omitempty"` // KindInteger: 8, 16, 24, 32 or 64
	Unsigned bool   `json:"unsigned,omitempty"`
	Nullable bool   `json:"nullable,omitempty"`
	KeyPart  int    `json:"key_part,omitempty"` // position in the primary key from 1, 0 for the others
}

// integerBits holds the width of each integer type.
var integerBits = map[string]int{"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "integer": 32, "bigint": 64}

var kinds = map[string]Kind{
	"decimal": KindDecimal, "numeric": KindDecimal, "float": KindFloat, "double": KindDouble, "real": KindDouble, "year": KindYear, "json": KindJSON,
	"char": KindText, "varchar": KindText, "tinytext": KindText, "text": KindText, "mediumtext": KindText, "longtext": KindText, "enum": KindText, "set": KindText,
	"date": KindText, "time": KindText, "datetime": KindText, "timestamp": KindText, "uuid": KindText, "inet4": KindText, "inet6": KindText,
}

// NewColumn classifies a column by the server's full type text (information_schema's COLUMN_TYPE).
func NewColumn(name, columnType string, nullable bool) Column {
	words := strings.Fields(strings.ToLower(columnType))
	c := Column{Name: name, Type: columnType, Nullable: nullable}
	if len(words) == 0 {
		return c
	}
	base, _, _ := strings.Cut(words[0], "(")
	c.Kind = kinds[base]
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

// unsupported gives the reason why a column cannot be rendered, or "".
func (c Column) unsupported() string {
	if c.Kind != KindUnsupported {
		return ""
	}
	if strings.Contains(strings.ToLower(c.Type), "zerofill") {
		return "is ZEROFILL: its leading zeros are no number"
	}
	return "has type " + c.Type + ", which is not supported (binary and spatial values have no text form)"
}
