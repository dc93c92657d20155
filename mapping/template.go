package mapping

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	// KeyBytesMax bounds a rendered data key.
	KeyBytesMax = 512

	integerTextBytesMax = 20 // -9223372036854775808 and 18446744073709551615
	guardPrefix         = "qg:"
)

// Guard names the guard of a data key: a small hash that holds the last applied token. The braces make it a hash tag,
// so data and guard share a Redis Cluster slot and one script may touch both. That holds because a data key has no brace of its own.
func Guard(key string) string { return guardPrefix + "{" + key + "}" }

// template is a parsed key template: literal[0] part[0] literal[1] … part[n-1] literal[n].
type template struct {
	literals []string
	parts    []int // index into the primary key
}

// parseTemplate reads a template such as "order:{id}". Braces only ever enclose a primary-key column. There is no escape for a literal brace: it would be a hash tag of the
// data key's own, and the guard would land in another slot.
func parseTemplate(s string, primaryKey []string) (template, error) {
	if err := checkTemplateText(s); err != nil {
		return template{}, err
	}
	t, rest := template{}, s
	for {
		open := strings.IndexAny(rest, "{}")
		if open < 0 {
			t.literals = append(t.literals, rest)
			return t, t.check(primaryKey)
		}
		if rest[open] == '}' {
			return template{}, errors.New("has a } without its {")
		}
		name, after, closed := strings.Cut(rest[open+1:], "}")
		if !closed {
			return template{}, errors.New("has a { without its }")
		}
		part, err := findPart(name, primaryKey)
		if err != nil {
			return template{}, err
		}
		t.literals = append(t.literals, rest[:open])
		t.parts = append(t.parts, part)
		rest = after
	}
}

func checkTemplateText(s string) error {
	switch {
	case s == "":
		return errors.New("is empty")
	case len(s) > KeyBytesMax:
		return fmt.Errorf("is longer than %d bytes", KeyBytesMax)
	case !utf8.ValidString(s):
		return errors.New("is not UTF-8")
	case strings.ContainsFunc(s, isControl):
		return errors.New("holds a control character")
	case strings.Contains(s, `\`):
		return errors.New(`holds a \, but there are no escapes`)
	}
	return nil
}

func findPart(name string, primaryKey []string) (int, error) {
	if strings.Contains(name, "{") {
		return 0, errors.New("has nested braces; they only enclose a column, and a literal brace would move the key to another cluster slot than its guard")
	}
	for i, column := range primaryKey {
		if column == name {
			return i, nil
		}
	}
	return 0, fmt.Errorf("names {%s}, which is not a primary-key column", name)
}

// check makes the template injective and bounded.
func (t template) check(primaryKey []string) error {
	used := make([]bool, len(primaryKey))
	for _, part := range t.parts {
		if used[part] {
			return fmt.Errorf("names {%s} twice", primaryKey[part])
		}
		used[part] = true
	}
	for i, ok := range used {
		if !ok {
			return fmt.Errorf("lacks {%s}, so two rows would share a key", primaryKey[i])
		}
	}
	bytes := len(t.parts) * integerTextBytesMax
	for i, literal := range t.literals {
		bytes += len(literal)
		between := i > 0 && i < len(t.parts)
		if between && (literal == "" || literal[0] >= '0' && literal[0] <= '9') {
			return fmt.Errorf("needs text that does not start with a digit between {%s} and {%s}, or two rows could share a key", primaryKey[t.parts[i-1]], primaryKey[t.parts[i]])
		}
	}
	if bytes > KeyBytesMax {
		return fmt.Errorf("may render to %d bytes, more than %d", bytes, KeyBytesMax)
	}
	return nil
}

func (t template) render(pk []string) string {
	var b strings.Builder
	for i, part := range t.parts {
		b.WriteString(t.literals[i])
		b.WriteString(pk[part])
	}
	b.WriteString(t.literals[len(t.literals)-1])
	return b.String()
}
