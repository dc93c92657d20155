package mapping

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
)

// Kinds of a digested value. They keep a string and a hash with the same bytes apart.
const (
	kindJSON = "json"
	kindRaw  = "raw" // a string without a canonical JSON form: its bytes
	kindHash = "hash"
)

// Digest is the first 128 bits of SHA-256 over the length-prefixed parts. The key is among them, so that two rows whose values were exchanged do not look right; the lengths are,
// so that no byte can move from one part to the next unseen.
func Digest(key, kind string, canonical []byte) [16]byte {
	return digestParts(appendPart(beginDigest(nil, key, kind), canonical))
}

// beginDigest appends the parts before the canonical value, which follows with its length before it.
func beginDigest(b []byte, key, kind string) []byte { return appendPart(appendPart(b, key), kind) }

func digestParts(parts []byte) [16]byte {
	sum := sha256.Sum256(parts)
	return [16]byte(sum[:16])
}

func appendPart[T string | []byte](b []byte, part T) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(len(part)))
	return append(b, part...)
}

// Sum digests a set of keys: how many, and the sums of the upper and lower halves of their digests, modulo 2^64. It does not depend on order, can be merged up a tree and updated in
// place. Addition and not XOR: under XOR a key that is counted twice cancels itself.
type Sum struct {
	Count uint64 `json:"count"`
	Hi    uint64 `json:"hi"`
	Lo    uint64 `json:"lo"`
}

// Add counts one digest in.
func (s *Sum) Add(d [16]byte) {
	s.Count++
	s.Hi += binary.BigEndian.Uint64(d[:8])
	s.Lo += binary.BigEndian.Uint64(d[8:])
}

// Sub takes one digest out that was added before.
func (s *Sum) Sub(d [16]byte) {
	s.Count--
	s.Hi -= binary.BigEndian.Uint64(d[:8])
	s.Lo -= binary.BigEndian.Uint64(d[8:])
}

// Merge adds the sum of a disjoint set.
func (s *Sum) Merge(o Sum) {
	s.Count += o.Count
	s.Hi += o.Hi
	s.Lo += o.Lo
}

// DigestRow digests what the key, one of the row's, should hold. ok is false when it should hold nothing, or only what stands for nothing, and always in mode invalidate, where the value
// is the readers' own.
func (m *Mapping) DigestRow(key string, row *Row) (d [16]byte, ok bool, err error) {
	if m.spec.Mode == Invalidate || m.missing(row) {
		return d, false, nil
	}
	w, err := m.content(row.Key, row)
	if err != nil {
		return d, false, err
	}
	if m.spec.Encoding == Hash {
		return digestHash(key, w.Fields), present(w.Fields) > 0, nil
	}
	return m.digestString(key, w.Value), !m.standsForNothing(w.Value), nil
}

// DigestActual digests what Redis holds under key. It equals DigestRow's exactly when Compare says equal or format_only, or no_ttl: the expiry is not part of a value. An absent key is
// the exception: Compare calls it equal where presence is optional.
// ok is false when there is nothing, or only what stands for nothing, and always in mode invalidate.
func (m *Mapping) DigestActual(key string, actual Actual) (d [16]byte, ok bool) {
	if actual.Type == TypeNone || m.spec.Mode == Invalidate {
		return d, false
	}
	hash := m.spec.Encoding == Hash
	switch {
	case actual.Type == TypeHash && hash:
		managed := m.managed(nil, actual.Fields)
		return digestHash(key, managed), present(managed) > 0
	case actual.Type == TypeString && !hash:
		return m.digestString(key, actual.Value), !m.standsForNothing(actual.Value)
	}
	return Digest(key, actual.Type, nil), true // wrong type: equal to no rendering
}

// standsForNothing tells the value of a missing row. A row whose own text is empty cannot be told from it, on neither side.
func (m *Mapping) standsForNothing(value []byte) bool {
	switch {
	case m.spec.NegativeTTLMillis == 0:
		return false
	case m.spec.Encoding == JSON:
		return string(bytes.Trim(value, " \t\r\n")) == "null"
	}
	return len(value) == 0
}

func (m *Mapping) digestString(key string, value []byte) [16]byte {
	if m.spec.Encoding == JSON {
		if canonical, err := CanonicalJSON(value); err == nil {
			return Digest(key, kindJSON, canonical)
		}
	}
	return Digest(key, kindRaw, value)
}

// digestHash wants fields sorted by name. NULL leaves no field in Redis, so it leaves no trace here.
func digestHash(key string, fields []Field) [16]byte {
	return digestParts(appendHash(nil, key, fields))
}

func appendHash(b []byte, key string, fields []Field) []byte {
	b = append(beginDigest(b, key, kindHash), make([]byte, lengthBytes)...)
	start := len(b)
	for _, f := range fields {
		if !f.Null {
			b = appendPart(appendPart(b, f.Name), f.Value)
		}
	}
	return putLength(b, start)
}

const lengthBytes = 8

// putLength fills in the length of a part that has been appended in pieces.
func putLength(b []byte, start int) []byte {
	binary.BigEndian.PutUint64(b[start-lengthBytes:start], uint64(len(b)-start))
	return b
}

// managed appends the fields that the mapping writes, in the order of their names.
func (m *Mapping) managed(out, fields []Field) []Field {
	for i, column := range m.byField {
		if at := findField(fields, m.spec.Columns[column].Field(), i); at >= 0 {
			out = append(out, fields[at])
		}
	}
	return out
}

// findField looks for a field at a place first: a hash that was written at once keeps its order, as long as it is small.
func findField(fields []Field, name string, hint int) int {
	if hint < len(fields) && fields[hint].Name == name {
		return hint
	}
	for i := range fields {
		if fields[i].Name == name {
			return i
		}
	}
	return -1
}
