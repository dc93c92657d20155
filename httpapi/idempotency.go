package httpapi

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// Keyed are the headers that every mutating request may have.
type Keyed struct {
	Key   string `header:"Idempotency-Key" maxLength:"200" doc:"client-id/seq, or any other text: the same key answers the same result"`
	Acked uint64 `header:"Idempotency-Acked" maximum:"9007199254740991" doc:"With client-id/seq: the lowest seq whose answer the client has not seen"`
}

// stateKey makes the key of the state. Nil without a key.
func (k Keyed) stateKey(fingerprint uint64) (*fsm.Key, *refusal) {
	if k.Key == "" {
		if k.Acked != 0 {
			return nil, invalid("header."+api.HeaderIdempotencyAcked, "goes with an idempotency key only")
		}
		return nil, nil
	}
	if len(k.Key) > api.IdempotencyKeyMax || strings.ContainsFunc(k.Key, notVisible) {
		return nil, invalid("header."+api.HeaderIdempotencyKey, "at most 200 visible ASCII characters")
	}
	out := &fsm.Key{ID: k.Key, Fingerprint: fingerprint}
	client, seq, counted := countedKey(k.Key)
	switch {
	case !counted && k.Acked != 0:
		return nil, invalid("header."+api.HeaderIdempotencyAcked, "goes with a key of the form client-id/seq only")
	case !counted:
		return out, nil
	case len(client) > api.IdempotencyClients:
		return nil, invalid("header."+api.HeaderIdempotencyKey, "a client id has at most 64 characters")
	case k.Acked > seq:
		return nil, invalid("header."+api.HeaderIdempotencyAcked, "is beyond this request's own sequence number")
	}
	out.Client, out.Seq, out.Acked = client, seq, k.Acked
	return out, nil
}

func notVisible(r rune) bool { return r <= ' ' || r > '~' }

// countedKey splits client-id/seq. The sequence number has one spelling only, so that one number is one key.
func countedKey(key string) (client string, seq uint64, ok bool) {
	at := strings.LastIndexByte(key, '/')
	if at <= 0 {
		return "", 0, false
	}
	seq, err := strconv.ParseUint(key[at+1:], 10, 64)
	if err != nil || strconv.FormatUint(seq, 10) != key[at+1:] {
		return "", 0, false
	}
	return key[:at], seq, true
}

// fingerprint tells requests under one key apart: 64 bits of SHA-256 over what makes the request, each part with its length.
func fingerprint(body []byte, parts ...string) uint64 {
	var room [1_024]byte
	b := room[:0]
	for _, p := range parts {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(p))), p...)
	}
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(body))), body...)
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint64(sum[:])
}
