package mysql

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	statementBytesMax = 512
	hidden            = "?"
	cutOff            = "…"
)

// Scrub gives the shape of a statement: keywords and identifiers, without its literals and comments. Where the server's settings decide what
// is a literal it assumes the worse, and where it cannot tell at all it ends with an ellipsis. The input may be cut off anywhere.
//
// What it takes for a literal: everything in single or double quotes (which hides identifiers under ANSI_QUOTES, too), and every word that
// begins with a digit.
func Scrub(statement string) string {
	s := scrubber{in: statement}
	for s.at < len(s.in) && s.out.Len() < statementBytesMax && !s.lost {
		s.token()
	}
	if s.lost || s.at < len(s.in) {
		s.out.WriteString(cutOff)
	}
	return s.out.String()
}

type scrubber struct {
	in   string
	at   int
	out  strings.Builder
	gap  bool // white space is due before the next word
	lost bool // what follows may be inside a literal or outside
}

func (s *scrubber) token() {
	rest := s.in[s.at:]
	c := rest[0]
	switch {
	case isSpace(c):
		s.at++
		s.gap = s.out.Len() > 0
	case strings.HasPrefix(rest, "/*"):
		s.skipPast("*/", 2)
	case c == '#', strings.HasPrefix(rest, "--") && (len(rest) == 2 || rest[2] <= ' ' || rest[2] == 0x7f):
		s.skipPast("\n", 1)
	case c == '\'' || c == '"':
		s.quoted(c)
	case c == '`':
		s.identifier()
	case c == '\\' || c == '$':
		s.lost = true // neither begins anything that a running statement has outside of its literals, but for $$ … $$
	case isWord(c):
		s.plainWord()
	case c == '.' && len(rest) > 1 && isDigit(rest[1]):
		s.at++
		s.plainWord()
	default:
		s.at++
		s.write(string(rune(c))) // ASCII: other bytes are words
	}
}

// skipPast leaves out a comment. Its hints would be code, but nobody needs them.
func (s *scrubber) skipPast(end string, from int) {
	_, after, found := strings.Cut(s.in[s.at+from:], end)
	s.at = len(s.in)
	if found {
		s.at -= len(after)
	}
	s.gap = s.out.Len() > 0
}

// quoted leaves out a string. A backslash before its quote ends the string under NO_BACKSLASH_ESCAPES and does not otherwise: from there on
// nothing can be told.
func (s *scrubber) quoted(quote byte) {
	s.write(hidden)
	for s.at++; s.at < len(s.in); s.at++ {
		doubled := s.at+1 < len(s.in) && s.in[s.at+1] == quote
		switch {
		case s.in[s.at] == '\\' && doubled:
			s.lost = true
			return
		case s.in[s.at] == quote && doubled:
			s.at++
		case s.in[s.at] == quote:
			s.at++
			return
		}
	}
}

// identifier copies a quoted identifier, which no setting can make a literal.
func (s *scrubber) identifier() {
	end := strings.IndexByte(s.in[s.at+1:], '`')
	if end < 0 {
		s.lost = true
		return
	}
	s.write("`" + s.in[s.at+1:s.at+1+end] + "`")
	s.at += end + 2
}

// plainWord copies an identifier or keyword, and hides a number.
func (s *scrubber) plainWord() {
	number := isDigit(s.in[s.at])
	end := s.at
	for end < len(s.in) && (isWord(s.in[end]) || s.in[end] == '$' || number && s.in[end] == '.') {
		end++
	}
	text := s.in[s.at:end]
	s.at = end
	if number {
		text = hidden
	}
	s.write(text)
}

// write puts at most one space for all that stood before the text.
func (s *scrubber) write(text string) {
	if s.gap {
		s.out.WriteByte(' ')
		s.gap = false
	}
	text = printable(text)
	if s.out.Len()+len(text) > statementBytesMax {
		s.lost = true
		return
	}
	s.out.WriteString(text)
}

func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, text)
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// isWord takes every byte beyond ASCII for a letter, as the server does in identifiers.
func isWord(c byte) bool {
	return isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= utf8.RuneSelf
}
