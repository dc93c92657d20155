package mapping

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// canonicalDepthMax bounds the recursion: cached bytes are anybody's.
const canonicalDepthMax = 128

var (
	errCanonical = errors.New("no canonical form")
	errDepth     = fmt.Errorf("%w: nested deeper than %d", errCanonical, canonicalDepthMax)
)

// CanonicalJSON rewrites one JSON value without white space, with one spelling for each string, object members sorted by that spelling, and numbers as the text they had.
// Duplicate members are refused: readers disagree on which one counts, so no two such objects may be called the same.
//
// It is a scanner of its own because a pass calls it for every row and every key: the standard decoder's tokens took five times as long.
func CanonicalJSON(src []byte) ([]byte, error) {
	return appendCanonicalJSON(make([]byte, 0, len(src)), src, 0)
}

// appendCanonicalJSON appends the canonical form of a value that lies so deep in another.
func appendCanonicalJSON(b, src []byte, depth int) ([]byte, error) {
	switch {
	case !json.Valid(src): // so the scanner need not check grammar
		return nil, fmt.Errorf("%w: not JSON", errCanonical)
	case !utf8.Valid(src):
		return nil, fmt.Errorf("%w: not UTF-8", errCanonical)
	case loneSurrogate(src):
		return nil, fmt.Errorf("%w: half of a surrogate pair", errCanonical)
	}
	s := scanner{src: src}
	return s.value(b, depth)
}

// scanner walks over text that is known to be valid.
type scanner struct {
	src []byte
	pos int
}

// next skips white space and returns the byte there.
func (s *scanner) next() byte {
	for {
		switch c := s.src[s.pos]; c {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return c
		}
	}
}

func (s *scanner) value(b []byte, depth int) ([]byte, error) {
	if depth > canonicalDepthMax {
		return nil, errDepth
	}
	switch s.next() {
	case '{':
		return s.object(b, depth)
	case '[':
		return s.array(b, depth)
	case '"':
		return s.text(b)
	}
	length := bytes.IndexAny(s.src[s.pos:], ",]} \t\r\n") // a number, true, false or null
	if length < 0 {
		length = len(s.src) - s.pos
	}
	b = append(b, s.src[s.pos:s.pos+length]...)
	s.pos += length
	return b, nil
}

func (s *scanner) text(b []byte) ([]byte, error) {
	start, escaped := s.pos, false
	for s.pos++; s.src[s.pos] != '"'; s.pos++ {
		if s.src[s.pos] == '\\' {
			escaped = true
			s.pos++
		}
	}
	s.pos++
	if !escaped {
		return append(b, s.src[start:s.pos]...), nil
	}
	var decoded string
	if err := json.Unmarshal(s.src[start:s.pos], &decoded); err != nil {
		return nil, fmt.Errorf("%w: %w", errCanonical, err)
	}
	return appendString(b, decoded), nil
}

func (s *scanner) array(b []byte, depth int) ([]byte, error) {
	b = append(b, '[')
	s.pos++
	for first := true; s.next() != ']'; first = false {
		if !first {
			b = append(b, ',')
			s.pos++
		}
		var err error
		if b, err = s.value(b, depth+1); err != nil {
			return nil, err
		}
	}
	s.pos++
	return append(b, ']'), nil
}

// member is where one member of an object lies in the output.
type member struct{ start, nameEnd, end int }

func (s *scanner) object(b []byte, depth int) ([]byte, error) {
	b = append(b, '{')
	s.pos++
	first := len(b)
	members := make([]member, 0, 16)
	for s.next() != '}' {
		if len(members) > 0 {
			b = append(b, ',')
			s.pos++
			s.next()
		}
		m := member{start: len(b)}
		var err error
		if b, err = s.text(b); err != nil {
			return nil, err
		}
		m.nameEnd = len(b)
		s.next()
		s.pos++ // the colon
		if b, err = s.value(append(b, ':'), depth+1); err != nil {
			return nil, err
		}
		m.end = len(b)
		members = append(members, m)
	}
	s.pos++
	if err := sortMembers(b, first, members); err != nil {
		return nil, err
	}
	return append(b, '}'), nil
}

// sortMembers puts the members, which fill b from first on with a comma between them, in order.
func sortMembers(b []byte, first int, members []member) error {
	byName := func(x, y member) int { return bytes.Compare(b[x.start:x.nameEnd], b[y.start:y.nameEnd]) }
	sorted := slices.IsSortedFunc(members, byName)
	if !sorted {
		slices.SortFunc(members, byName)
	}
	for i := 1; i < len(members); i++ {
		if byName(members[i-1], members[i]) == 0 {
			return fmt.Errorf("%w: member %s twice", errCanonical, b[members[i].start:members[i].nameEnd])
		}
	}
	if sorted {
		return nil
	}
	ordered := make([]byte, 0, len(b)-first)
	for i, m := range members {
		if i > 0 {
			ordered = append(ordered, ',')
		}
		ordered = append(ordered, b[m.start:m.end]...)
	}
	copy(b[first:], ordered)
	return nil
}

// loneSurrogate finds \ud800 to \udfff without their partner. Decoding turns each into U+FFFD, so that different values would look the same.
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
