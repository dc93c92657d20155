package mapping

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	primaryKeyColumnsMax = 4
	columnsMax           = 256
	identifierRunesMax   = 64 // MySQL's own limit for table and column names
	ttlMillisMin         = 1_000
	ttlMillisMax         = 10 * 366 * 24 * 3_600_000
	ttlJitterPercentMax  = 50
	nameBytesMax         = 63
)

// Mode says what an event does to its key.
type Mode string

const (
	WriteThrough Mode = "write_through" // the row's rendering is written
	Invalidate   Mode = "invalidate"    // the key is removed; readers fill it
)

// Encoding is the form of the value in Redis.
type Encoding string

const (
	JSON Encoding = "json" // a string: one JSON object
	Hash Encoding = "hash" // a hash: one field for each column that is not NULL
)

// Spec is a mapping as declared. TTLMillis 0 means no expiry. TTLJitter shortens each TTL by up to that many percent, so that keys written together do not expire together.
// In mode invalidate, columns and encoding are optional and unused: the key is all that matters.
type Spec struct {
	Source     string       `json:"source"`
	Table      string       `json:"table"`
	PrimaryKey []string     `json:"primary_key"`
	Columns    []ColumnSpec `json:"columns,omitempty"`
	Target     string       `json:"target"`
	Key        string       `json:"key"`
	Mode       Mode         `json:"mode"`
	Encoding   Encoding     `json:"encoding,omitempty"`
	TTLMillis  int64        `json:"ttl_ms,omitempty"`
	TTLJitter  int          `json:"ttl_jitter,omitempty"`
}

// ColumnSpec is one column of the value. String renders a number as a JSON string: readers whose numbers are doubles lose integers beyond 2^53 otherwise.
type ColumnSpec struct {
	Name   string `json:"name"`
	As     string `json:"as,omitempty"`
	String bool   `json:"string,omitempty"`
}

// Field is the name that the column has in the value.
func (c ColumnSpec) Field() string {
	if c.As != "" {
		return c.As
	}
	return c.Name
}

// Fault is one thing wrong with a spec. Field is its path, such as columns[2].name.
type Fault struct {
	Field  string `json:"field"`
	Reason string `json:"reason"`
}

// InvalidError holds every fault that was found, in the order of the spec's fields.
type InvalidError struct{ Faults []Fault }

func (e *InvalidError) Error() string {
	parts := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		parts[i] = f.Field + ": " + f.Reason
	}
	return "mapping invalid: " + strings.Join(parts, "; ")
}

type faults []Fault

func (f *faults) add(field, format string, args ...any) {
	*f = append(*f, Fault{Field: field, Reason: fmt.Sprintf(format, args...)})
}

func (f faults) err() error {
	if len(f) == 0 {
		return nil
	}
	return &InvalidError{Faults: f}
}

// Validate checks everything that can be known without the table. The error, if any, is an [*InvalidError].
func (s Spec) Validate() error {
	var f faults
	checkName(&f, "source", s.Source)
	checkIdentifier(&f, "table", s.Table)
	s.validatePrimaryKey(&f)
	s.validateColumns(&f)
	checkName(&f, "target", s.Target)
	if _, err := parseTemplate(s.Key, s.PrimaryKey); err != nil {
		f.add("key", "%s", err)
	}
	s.validateEncoding(&f)
	s.validateTTL(&f)
	return f.err()
}

// ValidName reports whether s may name a mapping, source or target: [a-z0-9][a-z0-9._-]{0,62}.
func ValidName(s string) bool {
	if s == "" || len(s) > nameBytesMax {
		return false
	}
	for i, c := range []byte(s) {
		alnum := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '.' && c != '_' && c != '-') {
			return false
		}
	}
	return true
}

func checkName(f *faults, field, s string) {
	if !ValidName(s) {
		f.add(field, "must match [a-z0-9][a-z0-9._-]{0,62}")
	}
}

func checkIdentifier(f *faults, field, s string) {
	switch {
	case s == "":
		f.add(field, "is empty")
	case !utf8.ValidString(s):
		f.add(field, "is not UTF-8")
	case utf8.RuneCountInString(s) > identifierRunesMax:
		f.add(field, "is longer than %d characters", identifierRunesMax)
	case strings.ContainsFunc(s, isControl):
		f.add(field, "holds a control character")
	}
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }

func (s Spec) validatePrimaryKey(f *faults) {
	if n := len(s.PrimaryKey); n == 0 || n > primaryKeyColumnsMax {
		f.add("primary_key", "needs 1 to %d columns, has %d", primaryKeyColumnsMax, n)
		return
	}
	seen := make(map[string]bool, len(s.PrimaryKey))
	for i, name := range s.PrimaryKey {
		field := fmt.Sprintf("primary_key[%d]", i)
		checkIdentifier(f, field, name)
		if seen[name] {
			f.add(field, "repeats %q", name)
		}
		seen[name] = true
	}
}

func (s Spec) validateColumns(f *faults) {
	if len(s.Columns) > columnsMax {
		f.add("columns", "has %d entries, at most %d are allowed", len(s.Columns), columnsMax)
		return
	}
	if len(s.Columns) == 0 && s.Mode == WriteThrough {
		f.add("columns", "is empty, so there would be nothing to write")
	}
	seen := make(map[string]bool, len(s.Columns))
	for i, c := range s.Columns {
		field := fmt.Sprintf("columns[%d]", i)
		checkIdentifier(f, field+".name", c.Name)
		if c.As != "" {
			checkIdentifier(f, field+".as", c.As)
		}
		if seen[c.Field()] {
			f.add(field, "repeats the name %q in the value", c.Field())
		}
		seen[c.Field()] = true
	}
}

func (s Spec) validateEncoding(f *faults) {
	if s.Mode != WriteThrough && s.Mode != Invalidate {
		f.add("mode", "must be write_through or invalidate")
	}
	known := s.Encoding == JSON || s.Encoding == Hash
	if !known && (s.Encoding != "" || s.Mode != Invalidate) {
		f.add("encoding", "must be json or hash")
	}
}

func (s Spec) validateTTL(f *faults) {
	if s.TTLMillis != 0 && (s.TTLMillis < ttlMillisMin || s.TTLMillis > ttlMillisMax) {
		f.add("ttl_ms", "must be 0 (no expiry) or between %d and %d", int64(ttlMillisMin), int64(ttlMillisMax))
	}
	if s.TTLJitter < 0 || s.TTLJitter > ttlJitterPercentMax {
		f.add("ttl_jitter", "must be between 0 and %d percent", ttlJitterPercentMax)
	}
	if s.TTLJitter != 0 && s.TTLMillis == 0 {
		f.add("ttl_jitter", "needs a ttl_ms")
	}
}
