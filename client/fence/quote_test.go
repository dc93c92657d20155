package fence

import (
	"strings"
	"testing"
)

// What is accepted reads back as itself by the server's rule, and nothing of it stands outside of the quotes.
func FuzzQuote_NothingEscapes(f *testing.F) {
	for _, seed := range []string{"orders", "`", "``", "a`; DROP TABLE b; -- ", "\\`", "a\x00", "\xe5", "?", " "} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, identifier string) {
		quoted, err := quote(identifier)
		if err != nil {
			return
		}
		read, rest, ok := unquote(quoted + " rest`")
		if !ok || read != identifier || rest != " rest`" {
			t.Errorf("%q became %s, which reads as %q and leaves %q", identifier, quoted, read, rest)
		}
		if strings.ContainsAny(quoted, "?\x00\n") {
			t.Errorf("%q passed", identifier)
		}
	})
}

// unquote reads a quoted identifier as the server does: up to the first quote that is not doubled.
func unquote(text string) (identifier, rest string, ok bool) {
	if text == "" || text[0] != '`' {
		return "", text, false
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		if text[i] != '`' {
			b.WriteByte(text[i])
			continue
		}
		if i+1 == len(text) || text[i+1] != '`' {
			return b.String(), text[i+1:], true
		}
		b.WriteByte('`')
		i++
	}
	return "", text, false
}
