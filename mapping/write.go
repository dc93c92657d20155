package mapping

// Op is what a Write does to its data key. The zero value is invalid on purpose: a Write that nobody filled in must not delete anything.
type Op uint8

const (
	OpSet  Op = iota + 1 // SET the whole string value
	OpHash               // replace the managed hash fields; NULL fields are removed, foreign fields are kept
	OpDel                // UNLINK the data key (row gone, or the mapping only invalidates)

	// The if-present forms write only where the key exists. They advance the guard and clear the lease even where it does not.
	OpSetIfPresent
	OpHashIfPresent

	OpDelFields // remove the managed hash fields only: the row is gone, the foreign fields are not the mapping's
)

// Field is one managed hash field. Null removes it: a cache that kept the old text of a column that became NULL would be stale.
type Field struct {
	Name  string
	Value []byte
	Null  bool
}

// Write is the rendering of one row for one Redis key: everything that the Redis side needs and nothing of MySQL.
// Key and Guard live in the same cluster slot. TTLMillis 0 means no expiry.
type Write struct {
	Key       string
	Guard     string
	Op        Op
	Value     []byte  // OpSet, OpSetIfPresent
	Fields    []Field // OpHash, OpHashIfPresent, sorted by name; OpDelFields: names alone
	TTLMillis int64
	Replace   bool // a key of another type is removed first, where it would be refused otherwise
}
