package fsm

import (
	"bytes"
	"encoding/binary"
)

// Rows of some tables come and go by the hundred thousand each second, and each is encoded for its digest. They are written here without reflection, in the very bytes that [encode] gives.

// deterministic is a value that appends its own deterministic CBOR.
type deterministic interface {
	appendCBOR(b []byte) []byte
}

// Major types of CBOR.
const (
	cborUint = 0 << 5
	cborText = 3 << 5
	cborMap  = 5 << 5
	cborTrue = 0xf5
)

// appendHead appends a major type with its argument in the shortest form.
func appendHead(b []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n < 1<<8:
		return append(b, major|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), n)
}

func appendCBORText(b []byte, s string) []byte {
	return append(appendHead(b, cborText, uint64(len(s))), s...)
}

func appendCBORUint(b []byte, n uint64) []byte { return appendHead(b, cborUint, n) }

// encodeKeyTo and encodeValueTo append to a buffer what encode gives.
func encodeKeyTo[K ordered](b *bytes.Buffer, key *K) {
	switch k := any(key).(type) {
	case *string:
		b.Write(appendCBORText(b.AvailableBuffer(), *k))
	case *uint64:
		b.Write(appendCBORUint(b.AvailableBuffer(), *k))
	}
}

func encodeValueTo[V any](b *bytes.Buffer, value *V) {
	if v, ok := any(value).(deterministic); ok {
		b.Write(v.appendCBOR(b.AvailableBuffer()))
		return
	}
	encodeTo(b, value)
}

func (e *Event) appendCBOR(b []byte) []byte {
	start := len(b)
	fields := byte(5)
	b = append(b, 0)
	b = appendCBORText(append(b, 1), e.Mapping)
	b = appendCBORText(append(b, 2), e.PK)
	b = appendCBORUint(append(b, 3), e.Token)
	b = appendCBORUint(append(b, 4), e.EnqueuedAt)
	number := func(key byte, n uint64) {
		if n != 0 {
			b = appendCBORUint(append(b, key), n)
			fields++
		}
	}
	text := func(key byte, s string) {
		if s != "" {
			b = appendCBORText(append(b, key), s)
			fields++
		}
	}
	number(5, uint64(e.Attempts))
	number(6, e.NextAt)
	text(7, e.Failure)
	text(8, e.Detail)
	number(9, e.Pass)
	b = appendCBORUint(append(b, 10), e.Index)
	if e.Drop {
		b = append(b, 11, cborTrue)
		fields++
	}
	b[start] = cborMap | fields
	return b
}
