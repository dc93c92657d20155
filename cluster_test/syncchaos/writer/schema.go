package writer

import "fmt"

const (
	// Tiers are 1 to Tiers.
	Tiers = 4
	// Source is the name that the coordinator has for the database.
	Source = "main"
	// Service is what the applications are instances of.
	Service = "syncchaos"
	// DoomedPrefix begins the serials of transactions that are rolled back on purpose.
	DoomedPrefix = "x"
)

// Names of what belongs to a tier.
func Table(tier int) string       { return fmt.Sprintf("tier%d", tier) }
func MappingJSON(tier int) string { return fmt.Sprintf("tier%d-json", tier) }
func MappingHash(tier int) string { return fmt.Sprintf("tier%d-hash", tier) }
func PrefixJSON(tier int) string  { return fmt.Sprintf("t%d:j:", tier) }
func PrefixHash(tier int) string  { return fmt.Sprintf("t%d:h:", tier) }

// Schema makes the tables.
func Schema() []string {
	statements := []string{"CREATE TABLE journal (seq BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, k VARCHAR(64) CHARACTER SET ascii NOT NULL, serial VARCHAR(40) CHARACTER SET ascii NOT NULL, KEY (k, seq)) ENGINE=InnoDB"}
	for tier := 1; tier <= Tiers; tier++ {
		statements = append(statements, "CREATE TABLE "+Table(tier)+` (id BIGINT PRIMARY KEY, code BIGINT NOT NULL UNIQUE, serial VARCHAR(40) NOT NULL,
			name VARCHAR(64) NOT NULL, n INT NOT NULL, price DECIMAL(8,2) NOT NULL, note VARCHAR(20) NULL) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4`)
	}
	return statements
}

// Column is one of the values.
type Column struct {
	Name   string
	Number bool
}

// Columns are those that the mappings carry.
func Columns() []Column {
	return []Column{{"id", true}, {"code", true}, {"serial", false}, {"name", false}, {"n", true}, {"price", true}, {"note", false}}
}
