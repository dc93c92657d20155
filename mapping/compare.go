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

// Compare judges what Redis holds against the row, in the cache's own domain: the row is rendered exactly as delivery would render it. A nil row is a row that is gone.
//
// Write-through compares the whole value (hash: the managed fields; foreign fields are ignored) and that an expiry exists where the mapping has one, not how much of it is left.
// Invalidate compares existence alone: readers fill the key with what they like, so a present key is Equal while its row exists and Stale when the row is gone; an absent key is
// always Equal, for it is an ordinary miss.
//
// The error is Render's: a row that has no rendering has no verdict either.
func (m *Mapping) Compare(pk []string, row *Row, actual Actual) (Verdict, error) {
	absent := actual.Type == TypeNone
	if row == nil {
		return choose(absent, Equal, Stale), nil
	}
	if m.spec.Mode == Invalidate {
		return Equal, nil
	}
	want, err := m.Render(pk, row, 0)
	if err != nil {
		return 0, err
	}
	if want.Op == OpHash {
		return m.compareHash(want.Fields, actual), nil
	}
	switch {
	case absent:
		return Missing, nil
	case actual.Type != TypeString:
		return WrongType, nil
	case bytes.Equal(want.Value, actual.Value):
		return m.withTTL(Equal, actual), nil
	case sameJSON(want.Value, actual.Value):
		return m.withTTL(FormatOnly, actual), nil
	}
	return Stale, nil
}

func choose(condition bool, yes, no Verdict) Verdict {
	if condition {
		return yes
	}
	return no
}

// withTTL lets a missing expiry win over a difference of format: it is the one that does harm.
func (m *Mapping) withTTL(v Verdict, actual Actual) Verdict {
	if m.spec.TTLMillis > 0 && actual.TTLMillis < 0 {
		return NoTTL
	}
	return v
}

func (m *Mapping) compareHash(want []Field, actual Actual) Verdict {
	switch actual.Type {
	case TypeNone:
		// Redis has no empty hash: a row of NULLs leaves no key.
		return choose(present(want) == 0, Equal, Missing)
	case TypeHash:
	default:
		return WrongType
	}
	held := make(map[string]Field, len(actual.Fields))
	for _, f := range actual.Fields {
		if !f.Null {
			held[f.Name] = f
		}
	}
	for _, w := range want {
		h, ok := held[w.Name]
		if ok == w.Null || ok && !bytes.Equal(h.Value, w.Value) {
			return Stale
		}
	}
	return m.withTTL(Equal, actual)
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
