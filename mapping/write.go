package mapping

// Op is what a Write does to its data key. The zero value is invalid on purpose: a Write that nobody filled in must not delete anything.
type Op uint8

const (
	OpSet  Op = iota + 1 // SET the whole string value
	OpHash               // replace the managed hash fields; NULL fields are removed, foreign fields are kept
	OpDel                // UNLINK the data key (row gone, or the mapping only invalidates)
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
	Value     []byte  // OpSet
	Fields    []Field // OpHash, sorted by name
	TTLMillis int64
}
