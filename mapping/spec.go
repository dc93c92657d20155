package mapping

import (
	"fmt"
	"slices"
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
	templatesMax         = 8
	codecDefault         = 1
	codecCompact         = 2
)

// Mode says what an event does to its keys.
type Mode string

const (
	WriteThrough   Mode = "write_through"            // the row's rendering is written
	WriteIfPresent Mode = "write_through_if_present" // the same, but only over a key that exists: readers decide what is cached
	Invalidate     Mode = "invalidate"               // the keys are removed; readers fill them
)

// Encoding is the form of the value in Redis.
type Encoding string

const (
	JSON   Encoding = "json"   // a string: one JSON object
	Hash   Encoding = "hash"   // a hash: one field for each column that is not NULL
	String Encoding = "string" // a string: the text of the one column
	Raw    Encoding = "raw"    // a string: the bytes of the one column
)

// Presence says what an absent key means while its row exists.
type Presence string

const (
	Required Presence = "required" // a difference
	Optional Presence = "optional" // a miss: readers go to the table
)

// Values of OnWrongType, Fold and a column's Binary.
const (
	WrongTypeDead    = "dead"    // the event becomes a dead letter
	WrongTypeReplace = "replace" // the key is removed and written

	FoldLower = "lower"

	BinaryHex    = "hex"
	BinaryBase64 = "base64"
)

// Spec is a mapping as declared. TTLMillis 0 means no expiry. TTLJitter shortens each TTL by up to that many percent, so that keys written together do not expire together.
// In mode invalidate, columns and encoding are optional and unused: the keys are all that matters.
type Spec struct {
	Source            string       `json:"source"`
	Table             string       `json:"table"`
	PrimaryKey        []string     `json:"primary_key"`
	KeyColumns        []string     `json:"key_columns,omitempty"` // what the keys are made of and events name; the primary key by default
	Columns           []ColumnSpec `json:"columns,omitempty"`
	Where             []Condition  `json:"where,omitempty"` // a row for which it is not true counts as missing
	Target            string       `json:"target"`
	Key               string       `json:"key,omitempty"`  // either one template
	Keys              []string     `json:"keys,omitempty"` // or several
	GuardPrefix       string       `json:"guard_prefix,omitempty"`
	Mode              Mode         `json:"mode"`
	Encoding          Encoding     `json:"encoding,omitempty"`
	Codec             int          `json:"codec,omitempty"` // 1 (default): JSON columns as the server printed them; 2: without insignificant spaces
	TTLMillis         int64        `json:"ttl_ms,omitempty"`
	TTLJitter         int          `json:"ttl_jitter,omitempty"`
	NegativeTTLMillis int64        `json:"negative_ttl_ms,omitempty"` // a missing row is written, as null or as an empty string
	Presence          Presence     `json:"presence,omitempty"`        // default: required, but optional where keys may expire or only exist at will
	OnWrongType       string       `json:"on_wrong_type,omitempty"`
	Fold              string       `json:"fold,omitempty"` // text key columns are lower case in keys
	OwnsPrefix        bool         `json:"owns_prefix,omitempty"`
}

// ColumnSpec is one column of the value. String renders a number as a JSON string: readers whose numbers are doubles lose integers beyond 2^53 otherwise.
type ColumnSpec struct {
	Name   string `json:"name"`
	As     string `json:"as,omitempty"`
	String bool   `json:"string,omitempty"`
	Binary string `json:"binary,omitempty"` // hex or base64: how bytes become text
	Mask   bool   `json:"mask,omitempty"`   // no difference shows its value
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
	validateNames(&f, "primary_key", s.PrimaryKey)
	if len(s.KeyColumns) > 0 {
		validateNames(&f, "key_columns", s.KeyColumns)
	}
	s.validateColumns(&f)
	s.validateWhere(&f)
	checkName(&f, "target", s.Target)
	s.validateKeys(&f)
	s.validateGuardPrefix(&f)
	s.validateMode(&f)
	s.validateEncoding(&f)
	s.validateTTL(&f)
	s.validateChoices(&f)
	return f.err()
}

// keyColumns are the declared ones, or the primary key.
func (s Spec) keyColumns() []string {
	if len(s.KeyColumns) > 0 {
		return s.KeyColumns
	}
	return s.PrimaryKey
}

func (s Spec) keyTemplates() []string {
	if len(s.Keys) > 0 {
		return s.Keys
	}
	return []string{s.Key}
}

func (s Spec) guardPrefix() string {
	if s.GuardPrefix != "" {
		return s.GuardPrefix
	}
	return guardPrefixDefault
}

// optional tells whether an absent key is a miss and no difference.
func (s Spec) optional() bool {
	if s.Presence != "" {
		return s.Presence == Optional
	}
	return s.TTLMillis > 0 || s.Mode == WriteIfPresent
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

func validateNames(f *faults, what string, names []string) {
	if n := len(names); n == 0 || n > primaryKeyColumnsMax {
		f.add(what, "needs 1 to %d columns, has %d", primaryKeyColumnsMax, n)
		return
	}
	seen := make(map[string]bool, len(names))
	for i, name := range names {
		field := fmt.Sprintf("%s[%d]", what, i)
		checkIdentifier(f, field, name)
		if seen[name] {
			f.add(field, "repeats %q", name)
		}
		seen[name] = true
	}
}

func (s Spec) templateField(i int) string {
	if len(s.Keys) > 0 {
		return fmt.Sprintf("keys[%d]", i)
	}
	return "key"
}

// validateKeys wants every key column in every template, or two rows would share a key. A mapping that only invalidates may leave columns out, for clearing one key too often does no harm.
func (s Spec) validateKeys(f *faults) {
	if s.Key != "" && len(s.Keys) > 0 {
		f.add("keys", "is there beside key; one of the two says it all")
	}
	if len(s.Keys) > templatesMax {
		f.add("keys", "has %d templates, at most %d are allowed", len(s.Keys), templatesMax)
		return
	}
	columns, used := s.keyColumns(), make(map[string]bool)
	seen, sound := make(map[string]bool), true
	for i, text := range s.keyTemplates() {
		field := s.templateField(i)
		t, err := parseTemplate(text, columns)
		switch {
		case err != nil:
			f.add(field, "%s", err)
			sound = false
			continue
		case seen[text]:
			f.add(field, "repeats %q", text)
		case s.Mode != Invalidate && t.lacks(columns) != "":
			f.add(field, "lacks {%s}, so two rows would share a key", t.lacks(columns))
		case strings.HasPrefix(t.literals[0], s.guardPrefix()):
			f.add(field, "begins with %q as guards do", s.guardPrefix())
		}
		seen[text] = true
		for _, part := range t.parts {
			used[columns[part]] = true
		}
	}
	for _, name := range columns {
		if s.Mode == Invalidate && sound && !used[name] {
			f.add(s.templateField(0), "lacks {%s}, and no other template has it", name)
		}
	}
}

func (s Spec) validateGuardPrefix(f *faults) {
	switch p := s.guardPrefix(); {
	case len(p) > guardPrefixBytesMax:
		f.add("guard_prefix", "is longer than %d bytes", guardPrefixBytesMax)
	case strings.ContainsAny(p, "{}"):
		f.add("guard_prefix", "holds a brace, and would move guards to other cluster slots than their keys")
	case !utf8.ValidString(p) || strings.ContainsFunc(p, isControl):
		f.add("guard_prefix", "is not UTF-8 or holds a control character")
	}
}

func (s Spec) validateColumns(f *faults) {
	if len(s.Columns) > columnsMax {
		f.add("columns", "has %d entries, at most %d are allowed", len(s.Columns), columnsMax)
		return
	}
	if len(s.Columns) == 0 && s.writes() {
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
		if c.Mask && (slices.Contains(s.PrimaryKey, c.Name) || slices.Contains(s.KeyColumns, c.Name)) {
			f.add(field+".mask", "has no meaning for a column that is part of keys, which are shown")
		}
	}
}

// writes tells whether values are written at all.
func (s Spec) writes() bool { return s.Mode == WriteThrough || s.Mode == WriteIfPresent }

func (s Spec) validateMode(f *faults) {
	if !s.writes() && s.Mode != Invalidate {
		f.add("mode", "must be write_through, write_through_if_present or invalidate")
	}
}

func (s Spec) validateEncoding(f *faults) {
	single := s.Encoding == String || s.Encoding == Raw
	known := single || s.Encoding == JSON || s.Encoding == Hash
	if !known && (s.Encoding != "" || s.Mode != Invalidate) {
		f.add("encoding", "must be json, hash, string or raw")
	}
	if single && len(s.Columns) != 1 && s.writes() {
		f.add("encoding", "%s has exactly one column", s.Encoding)
	}
	for i, c := range s.Columns {
		switch field := fmt.Sprintf("columns[%d].binary", i); {
		case c.Binary != "" && c.Binary != BinaryHex && c.Binary != BinaryBase64:
			f.add(field, "must be hex or base64")
		case c.Binary != "" && s.Encoding == Raw:
			f.add(field, "has no meaning in encoding raw, which keeps the bytes")
		}
	}
	if s.Codec != 0 && s.Codec != codecDefault && s.Codec != codecCompact {
		f.add("codec", "must be %d or %d", codecDefault, codecCompact)
	}
}

func (s Spec) validateTTL(f *faults) {
	checkTTL(f, "ttl_ms", s.TTLMillis, "no expiry")
	if s.TTLJitter < 0 || s.TTLJitter > ttlJitterPercentMax {
		f.add("ttl_jitter", "must be between 0 and %d percent", ttlJitterPercentMax)
	}
	if s.TTLJitter != 0 && s.TTLMillis == 0 {
		f.add("ttl_jitter", "needs a ttl_ms")
	}
	checkTTL(f, "negative_ttl_ms", s.NegativeTTLMillis, "a missing row has no key")
	switch {
	case s.NegativeTTLMillis == 0:
	case s.Mode == Invalidate:
		f.add("negative_ttl_ms", "has no meaning in mode invalidate, which writes nothing")
	case s.Encoding == Hash:
		f.add("negative_ttl_ms", "has no meaning in encoding hash: there is no empty hash")
	}
}

func checkTTL(f *faults, field string, millis int64, zero string) {
	if millis != 0 && (millis < ttlMillisMin || millis > ttlMillisMax) {
		f.add(field, "must be 0 (%s) or between %d and %d", zero, int64(ttlMillisMin), int64(ttlMillisMax))
	}
}

func (s Spec) validateChoices(f *faults) {
	switch {
	case s.Presence != "" && s.Presence != Required && s.Presence != Optional:
		f.add("presence", "must be required or optional")
	case s.Presence == Required && s.Mode != WriteThrough:
		f.add("presence", "required needs mode write_through: in the other modes readers decide what is cached")
	}
	if s.OnWrongType != "" && s.OnWrongType != WrongTypeDead && s.OnWrongType != WrongTypeReplace {
		f.add("on_wrong_type", "must be dead or replace")
	}
	if s.Fold != "" && s.Fold != FoldLower {
		f.add("fold", "must be lower")
	}
}
