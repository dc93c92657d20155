package mapping

import "encoding/json"

// PKError is KeyError.
type PKError = KeyError

// EncodePK is EncodeKey.
func EncodePK(pk []string) string { return EncodeKey(pk) }

// DecodePK is DecodeKey.
func DecodePK(s string) ([]string, error) { return DecodeKey(s) }

// CheckPK is CheckTuple.
func (m *Mapping) CheckPK(pk []string) error { return m.CheckTuple(pk) }

// Guard is the guard of a key under the default prefix.
func Guard(key string) string { return GuardKey(guardPrefixDefault, key) }

// PK is Tuple.
func (m *Mapping) PK(raw []json.RawMessage) ([]string, error) { return m.Tuple(raw) }
