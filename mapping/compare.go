package mapping

import "bytes"

// Types of an [Actual].
const (
	TypeNone   = "none"
	TypeString = "string"
	TypeHash   = "hash"
	TypeOther  = "other"
)

// NoExpiry is the TTLMillis of a key that never expires, as PTTL answers it.
const NoExpiry = -1

// Actual is what Redis holds under one data key. Value belongs to TypeString, Fields (in any order, foreign ones included) to TypeHash.
type Actual struct {
	Type      string
	Value     []byte
	Fields    []Field
	TTLMillis int64 // NoExpiry when there is none
}

// Verdict is the outcome of one comparison. It travels in pass records: never renumber.
type Verdict uint8

const (
	Equal      Verdict = 1
	FormatOnly Verdict = 2 // the same JSON value in other bytes: a reader sees no difference
	Stale      Verdict = 3 // another value, or a key whose row is gone
	Missing    Verdict = 4 // a row without its key
	WrongType  Verdict = 5
	NoTTL      Verdict = 6 // the right value, but it would stay for ever where the mapping sets a TTL
)

var verdictNames = [...]string{Equal: "equal", FormatOnly: "format_only", Stale: "stale", Missing: "missing", WrongType: "wrong_type", NoTTL: "no_ttl"}

func (v Verdict) String() string {
	if int(v) < len(verdictNames) && verdictNames[v] != "" {
		return verdictNames[v]
	}
	return "unknown"
}

// Compare judges what Redis holds under one of the tuple's keys against the row, in the cache's own domain: the row is rendered exactly as delivery would render it. A nil row is a row that is gone.
//
// The write modes compare the whole value (hash: the managed fields; foreign fields are ignored) and that an expiry exists where the mapping has one, not how much of it is left. An absent key
// is Missing where presence is required, and Equal where it is optional: readers go to the table.
// Invalidate compares existence alone: readers fill the key with what they like, so a present key is Equal while its row exists and Stale when the row is gone; an absent key is
// always Equal, for it is an ordinary miss.
//
// The error is Render's: a row that has no rendering has no verdict either.
func (m *Mapping) Compare(tuple []string, row *Row, actual Actual) (Verdict, error) {
	absent := actual.Type == TypeNone
	if m.spec.Mode == Invalidate {
		return choose(absent || row != nil, Equal, Stale), nil
	}
	want, err := m.content(tuple, row)
	if err != nil {
		return 0, err
	}
	return m.compareContent(want, row, actual), nil
}

func (m *Mapping) compareContent(want content, row *Row, actual Actual) Verdict {
	switch {
	case m.missing(row):
		return m.compareGone(actual)
	case m.spec.Encoding == Hash:
		return m.compareHash(want.Fields, actual)
	case actual.Type == TypeNone:
		return m.absent()
	case actual.Type != TypeString:
		return WrongType
	}
	return m.compareValue(want.Value, actual, m.spec.TTLMillis > 0)
}

// absent is the verdict on a row without its key.
func (m *Mapping) absent() Verdict { return choose(m.optional, Equal, Missing) }

func (m *Mapping) compareValue(want []byte, actual Actual, expires bool) Verdict {
	switch {
	case bytes.Equal(want, actual.Value):
		return withTTL(Equal, expires, actual)
	case m.spec.Encoding == JSON && sameJSON(want, actual.Value):
		return withTTL(FormatOnly, expires, actual)
	}
	return Stale
}

// compareGone judges a key whose row is missing. Nothing is always right, for what is written of a missing row expires.
func (m *Mapping) compareGone(actual Actual) Verdict {
	switch {
	case actual.Type == TypeNone:
		return Equal
	case m.spec.Encoding == Hash && actual.Type != TypeHash:
		return WrongType
	case m.spec.Encoding == Hash:
		return choose(len(m.managed(nil, actual.Fields)) == 0, Equal, Stale)
	case m.spec.NegativeTTLMillis > 0 && actual.Type == TypeString:
		return m.compareValue(m.negative(), actual, true)
	}
	return Stale
}

func choose[T any](condition bool, yes, no T) T {
	if condition {
		return yes
	}
	return no
}

// withTTL lets a missing expiry win over a difference of format: it is the one that does harm.
func withTTL(v Verdict, expires bool, actual Actual) Verdict {
	if expires && actual.TTLMillis < 0 {
		return NoTTL
	}
	return v
}

func (m *Mapping) compareHash(want []Field, actual Actual) Verdict {
	switch actual.Type {
	case TypeNone:
		// Redis has no empty hash: a row of NULLs leaves no key.
		if present(want) == 0 {
			return Equal
		}
		return m.absent()
	case TypeHash:
	default:
		return WrongType
	}
	for i, w := range want {
		at := findField(actual.Fields, w.Name, i)
		there := at >= 0 && !actual.Fields[at].Null
		if there == w.Null || there && !bytes.Equal(actual.Fields[at].Value, w.Value) {
			return Stale
		}
	}
	return withTTL(Equal, m.spec.TTLMillis > 0, actual)
}

func present(fields []Field) int {
	n := 0
	for _, f := range fields {
		if !f.Null {
			n++
		}
	}
	return n
}

// sameJSON is false when either side has no canonical form: bytes are then the only truth.
func sameJSON(a, b []byte) bool {
	ca, errA := CanonicalJSON(a)
	cb, errB := CanonicalJSON(b)
	return errA == nil && errB == nil && bytes.Equal(ca, cb)
}
