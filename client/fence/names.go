package fence

import "fmt"

const (
	// NamesDefault is the table of names.
	NamesDefault = "fence_tokens"
	// NamesSchema creates it. Bytes, not characters: a collation would take different names for the same.
	NamesSchema = "CREATE TABLE IF NOT EXISTS " + NamesDefault +
		" (name VARBINARY(256) NOT NULL PRIMARY KEY, token BIGINT UNSIGNED NOT NULL) ENGINE=InnoDB"
	// NameBytesMax bounds names, as it does those of locks.
	NameBytesMax = 256
)

// Names is a table of tokens by name, for what has no row of its own. It must be in the database of what it protects: one transaction
// checks the one and changes the other.
type Names struct{ place place }

// NewNames checks a table's name; "" is NamesDefault. The table itself is not looked at.
func NewNames(table string) (*Names, error) {
	if table == "" {
		table = NamesDefault
	}
	quoted, err := quote(table)
	if err != nil {
		return nil, fmt.Errorf("table: %w", err)
	}
	return &Names{place: place{
		look: "SELECT token FROM " + quoted + " WHERE name = ? FOR UPDATE",
		// The insert comes first and locks the row whatever it finds. Looking for a missing row first would lock a gap, in which two new
		// names then wait for each other.
		insert: "INSERT INTO " + quoted + " (name, token) VALUES (?, ?) ON DUPLICATE KEY UPDATE token = GREATEST(token, ?)",
	}}, nil
}

// Name is the fence of a name, best that of the lock. Its row is made when it is first used, and stays.
func (n *Names) Name(name string) Fence {
	f := Fence{place: &n.place, key: []any{[]byte(name)}, resource: fmt.Sprintf("%q", name)}
	if len(name) == 0 || len(name) > NameBytesMax {
		f.wrong = fmt.Errorf("%w: a name of %d bytes, not 1 to %d", ErrKey, len(name), NameBytesMax)
	}
	return f
}
