package mapping

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// canonicalDepthMax bounds the recursion: cached bytes are anybody's.
const canonicalDepthMax = 128

var errCanonical = errors.New("no canonical form")

// CanonicalJSON rewrites one JSON value without white space, with object keys sorted by bytes, one spelling for each string, and numbers as the text they had.
// Duplicate keys are refused: readers disagree on which one counts, so no two such objects may be called the same. So is anything after the value.
func CanonicalJSON(src []byte) ([]byte, error) {
	if !utf8.Valid(src) {
		return nil, fmt.Errorf("%w: not UTF-8", errCanonical)
	}
	if loneSurrogate(src) {
		return nil, fmt.Errorf("%w: half of a surrogate pair", errCanonical)
	}
	dec := json.NewDecoder(bytes.NewReader(src))
	dec.UseNumber()
	out, err := appendCanonical(make([]byte, 0, len(src)), dec, 0)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: more than one value", errCanonical)
	}
	return out, nil
}

// loneSurrogate finds \ud800 to \udfff without their partner. The decoder turns each into U+FFFD, so that different values would look the same.
func loneSurrogate(src []byte) bool {
	for i := 0; i < len(src); i++ {
		if src[i] != '\\' {
			continue
		}
		unit, ok := unicodeEscape(src[i:])
		switch {
		case !ok:
			i++ // the escaped byte, which may be a backslash
			continue
		case utf16.IsSurrogate(unit):
			low, _ := unicodeEscape(src[i+unicodeEscapeBytes:])
			if utf16.DecodeRune(unit, low) == utf8.RuneError {
				return true
			}
			i += unicodeEscapeBytes
		}
		i += unicodeEscapeBytes - 1
	}
	return false
}

const unicodeEscapeBytes = len(`\u0000`)

func unicodeEscape(b []byte) (unit rune, ok bool) {
	if len(b) < unicodeEscapeBytes || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[2:unicodeEscapeBytes]), 16, 16)
	return rune(n), err == nil
}

func appendCanonical(b []byte, dec *json.Decoder, depth int) ([]byte, error) {
	if depth > canonicalDepthMax {
		return nil, fmt.Errorf("%w: nested deeper than %d", errCanonical, canonicalDepthMax)
	}
	token, err := dec.Token()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errCanonical, err)
	}
	switch v := token.(type) {
	case json.Delim:
		if v == '{' {
			return appendCanonicalObject(b, dec, depth)
		}
		return appendCanonicalArray(b, dec, depth)
	case json.Number:
		return append(b, v...), nil
	case string:
		return appendString(b, v), nil
	case bool:
		return fmt.Appendf(b, "%t", v), nil
	default:
		return append(b, "null"...), nil
	}
}

func appendCanonicalArray(b []byte, dec *json.Decoder, depth int) ([]byte, error) {
	b = append(b, '[')
	for first := true; dec.More(); first = false {
		if !first {
			b = append(b, ',')
		}
		var err error
		if b, err = appendCanonical(b, dec, depth+1); err != nil {
			return nil, err
		}
	}
	return closeCanonical(append(b, ']'), dec)
}

func appendCanonicalObject(b []byte, dec *json.Decoder, depth int) ([]byte, error) {
	type member struct {
		name  string
		value []byte
	}
	var members []member
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errCanonical, err)
		}
		name, _ := token.(string) // the decoder admits nothing else here
		value, err := appendCanonical(nil, dec, depth+1)
		if err != nil {
			return nil, err
		}
		members = append(members, member{name, value})
	}
	slices.SortFunc(members, func(a, b member) int { return strings.Compare(a.name, b.name) })
	b = append(b, '{')
	for i, m := range members {
		if i > 0 {
			if m.name == members[i-1].name {
				return nil, fmt.Errorf("%w: key %q twice", errCanonical, m.name)
			}
			b = append(b, ',')
		}
		b = append(append(appendString(b, m.name), ':'), m.value...)
	}
	return closeCanonical(append(b, '}'), dec)
}

// closeCanonical consumes the closing delimiter that the caller has written.
func closeCanonical(b []byte, dec *json.Decoder) ([]byte, error) {
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("%w: %w", errCanonical, err)
	}
	return b, nil
}
