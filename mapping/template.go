package mapping

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// KeyBytesMax bounds a rendered data key.
	KeyBytesMax = 512

	integerTextBytesMax = 20 // -9223372036854775808 and 18446744073709551615
)

// template is a parsed key template: literal[0] part[0] literal[1] … part[n-1] literal[n].
type template struct {
	literals []string
	parts    []int // index into the key columns

	forms []partForm // of the parts; known when the template is bound to its columns
}

// parseTemplate reads a template such as "order:{id}". A doubled brace is a brace of the key itself, so that a key may carry a hash tag: "{{user:{id}}}:profile".
func parseTemplate(s string, keyColumns []string) (template, error) {
	if err := checkTemplateText(s); err != nil {
		return template{}, err
	}
	var t template
	var literal strings.Builder
	for rest := s; ; {
		brace := strings.IndexAny(rest, "{}")
		if brace < 0 {
			literal.WriteString(rest)
			t.literals = append(t.literals, literal.String())
			return t, t.checkParts(keyColumns)
		}
		literal.WriteString(rest[:brace])
		if doubled := rest[brace : brace+1]; strings.HasPrefix(rest[brace+1:], doubled) {
			literal.WriteString(doubled)
			rest = rest[brace+2:]
			continue
		}
		if rest[brace] == '}' {
			return template{}, errors.New("has a } without its {; a brace of the key itself is written twice")
		}
		name, after, closed := strings.Cut(rest[brace+1:], "}")
		if !closed {
			return template{}, errors.New("has a { without its }; a brace of the key itself is written twice")
		}
		part := slices.Index(keyColumns, name)
		if part < 0 {
			return template{}, fmt.Errorf("names {%s}, which is not a key column", name)
		}
		t.literals, t.parts = append(t.literals, literal.String()), append(t.parts, part)
		literal.Reset()
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

func (t template) checkParts(keyColumns []string) error {
	used := make([]bool, len(keyColumns))
	for i, part := range t.parts {
		if used[part] {
			return fmt.Errorf("names {%s} twice", keyColumns[part])
		}
		used[part] = true
		if i > 0 && t.literals[i] == "" {
			return fmt.Errorf("needs text between {%s} and {%s}, or two rows could share a key", keyColumns[t.parts[i-1]], keyColumns[part])
		}
	}
	if len(t.parts) == 0 {
		return errors.New("names no key column, so all rows would share a key")
	}
	return nil
}

// lacks gives the first key column that is not in the template, or "".
func (t template) lacks(keyColumns []string) string {
	for i, name := range keyColumns {
		if !slices.Contains(t.parts, i) {
			return name
		}
	}
	return ""
}

// partForm is what is known of a part's text: enough to tell where it ends.
type partForm struct {
	width    int    // of every value, 0 when it varies
	max      int    // bytes; 0 for text, which is measured when it is rendered
	alphabet string // the bytes of a value, but for a minus in front; "" means any
	numeric  bool   // is never empty, and may begin with a minus
}

const digitBytes = "0123456789"

func (c keyColumn) form() partForm {
	switch c.class {
	case keyInteger:
		return partForm{max: integerTextBytesMax, alphabet: digitBytes, numeric: true}
	case keyDecimal:
		return partForm{max: max(c.Length, decimalDefaultDigits) + 3, alphabet: digitBytes + ".", numeric: true}
	case keyBinary:
		form := partForm{max: 2 * c.Length, alphabet: hexDigits}
		if c.Base() == "binary" {
			form.width = form.max
		}
		return form
	case keyDate:
		return fixed(len(dateForm))
	case keyDateTime:
		if c.Fsp > 0 {
			return fixed(len(datetimeForm) + 1 + c.Fsp)
		}
		return fixed(len(datetimeForm))
	case keyUUID:
		return fixed(uuidBytes)
	case keyInet4:
		return partForm{max: inet4BytesMax, alphabet: digitBytes + "."}
	case keyInet6:
		return partForm{max: inet6BytesMax, alphabet: hexDigits + ":."}
	}
	return partForm{}
}

func fixed(width int) partForm {
	return partForm{width: width, max: width, alphabet: hexDigits + "-: ."}
}

func (p partForm) text() bool { return p.alphabet == "" }

// bind joins the template with its columns. It refuses what could let two rows share a key: the text behind a part of varying width must show where the part ends. Where the part is
// text itself, only a tuple can tell; see refuses.
func (t *template) bind(columns []keyColumn) error {
	bytes := 0
	for i, part := range t.parts {
		form := columns[part].form()
		t.forms = append(t.forms, form)
		bytes += form.max
		if i+1 == len(t.parts) || form.width > 0 || form.text() {
			continue
		}
		if next := t.literals[i+1]; strings.IndexByte(form.alphabet, next[0]) >= 0 {
			return fmt.Errorf("needs text that does not start with %q between {%s} and {%s}, or two rows could share a key", next[:1], columns[part].Name, columns[t.parts[i+1]].Name)
		}
	}
	for _, literal := range t.literals {
		bytes += len(literal)
	}
	if bytes > KeyBytesMax {
		return fmt.Errorf("may render to %d bytes, more than %d", bytes, KeyBytesMax)
	}
	return nil
}

// varies tells whether a tuple of the right types may still render a key that is refused.
func (t template) varies(guardPrefix string) bool {
	return slices.ContainsFunc(t.forms, partForm.text) || strings.HasPrefix(guardPrefix, t.literals[0])
}

func (t template) render(tuple []string) string {
	size := 0
	for _, literal := range t.literals {
		size += len(literal)
	}
	for _, part := range t.parts {
		size += len(tuple[part])
	}
	var b strings.Builder
	b.Grow(size)
	for i, part := range t.parts {
		b.WriteString(t.literals[i])
		b.WriteString(tuple[part])
	}
	b.WriteString(t.literals[len(t.literals)-1])
	return b.String()
}

// refuses gives the reason why the tuple has no key, or "". A text must not hold the literal behind it, nor begin it, as "xa" does before "aa": the first place where the literal
// stands is where the part ends, and so no two tuples share a key.
func (t template) refuses(tuple []string, guardPrefix string) string {
	for i, part := range t.parts[:len(t.parts)-1] {
		text, literal := tuple[part], t.literals[i+1]
		if t.forms[i].text() && strings.Index(text+literal, literal) != len(text) {
			return fmt.Sprintf("part %d holds or begins the text %q that follows it in the key, so that another row could share the key", part, literal)
		}
	}
	key := t.render(tuple)
	switch {
	case key == "":
		return "renders an empty key"
	case len(key) > KeyBytesMax:
		return fmt.Sprintf("renders a key of %d bytes, more than %d", len(key), KeyBytesMax)
	case strings.HasPrefix(key, guardPrefix):
		return fmt.Sprintf("renders a key that begins with %q as guards do", guardPrefix)
	}
	return ""
}

// parse takes a key apart into its parts, in the order of the template. The parts are not checked.
func (t template) parse(key string) (parts []string, ok bool) {
	rest, ok := strings.CutPrefix(key, t.literals[0])
	if !ok {
		return nil, false
	}
	for i, form := range t.forms {
		literal := t.literals[i+1]
		end := form.width
		switch {
		case i+1 == len(t.forms):
			end = len(rest) - len(literal)
		case form.width > 0:
		case form.numeric && rest != "":
			end = 1 + strings.Index(rest[1:], literal) // a minus in front is no literal
			if end == 0 {
				return nil, false
			}
		default:
			end = strings.Index(rest, literal)
		}
		if end < 0 || end > len(rest) || !strings.HasPrefix(rest[end:], literal) {
			return nil, false
		}
		parts = append(parts, rest[:end])
		rest = rest[end+len(literal):]
	}
	return parts, rest == ""
}
