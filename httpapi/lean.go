package httpapi

import "math"

// lean reads the JSON of the busiest requests without reflection and almost without allocation. It reads the plain form only: no escapes, no
// fractions, no signs, no null, each field once. Whatever else a body holds ends the reading, and the general way reads it again from the
// start; so there is one place only that decides what is wrong with a request and says so.
type lean struct {
	b  []byte
	at int
	no bool // not plain: the rest of the reading means nothing
}

func (l *lean) fail() { l.no = true }

func (l *lean) space() {
	for l.at < len(l.b) && (l.b[l.at] == ' ' || l.b[l.at] == '\n' || l.b[l.at] == '\t' || l.b[l.at] == '\r') {
		l.at++
	}
}

// take consumes one byte if it is the next that counts.
func (l *lean) take(c byte) bool {
	l.space()
	if l.at < len(l.b) && l.b[l.at] == c {
		l.at++
		return true
	}
	return false
}

func (l *lean) need(c byte) {
	if !l.take(c) {
		l.fail()
	}
}

// end is true when everything was read and was plain.
func (l *lean) end() bool {
	l.space()
	return !l.no && l.at == len(l.b)
}

// object visits the fields of an object; field reads the value of the one that it is given. It answers the field's number, each its own
// below 64, or -1 if it does not know it.
func (l *lean) object(field func(name []byte) int) {
	l.need('{')
	if l.no || l.take('}') {
		return
	}
	for seen := uint64(0); !l.no; {
		name := l.bytes()
		l.need(':')
		if l.no {
			return
		}
		n := field(name)
		if n < 0 || seen&(1<<n) != 0 {
			l.fail()
			return
		}
		seen |= 1 << n
		if l.take('}') {
			return
		}
		l.need(',')
	}
}

// array visits the elements of an array; element reads one.
func (l *lean) array(element func()) {
	l.need('[')
	if l.no || l.take(']') {
		return
	}
	for !l.no {
		element()
		if l.take(']') {
			return
		}
		l.need(',')
	}
}

// bytes reads a string, which stays part of the body.
func (l *lean) bytes() []byte {
	l.need('"')
	start := l.at
	for !l.no && l.at < len(l.b) {
		switch c := l.b[l.at]; {
		case c == '"':
			l.at++
			return l.b[start : l.at-1]
		case c == '\\' || c < ' ' || c >= 0x80:
			l.fail()
		}
		l.at++
	}
	l.fail()
	return nil
}

func (l *lean) text(max int) string {
	b := l.bytes()
	if len(b) > max {
		l.fail()
		return ""
	}
	return string(b)
}

// number reads an unsigned integer, as plain digits.
func (l *lean) number(max uint64) uint64 {
	l.space()
	start, n := l.at, uint64(0)
	for l.at < len(l.b) && l.b[l.at] >= '0' && l.b[l.at] <= '9' {
		if n > math.MaxUint64/10-1 {
			l.fail()
			return 0
		}
		n = n*10 + uint64(l.b[l.at]-'0')
		l.at++
	}
	if digits := l.at - start; digits == 0 || digits > 1 && l.b[start] == '0' || n > max {
		l.fail()
	}
	return n
}

func (l *lean) bool() bool {
	l.space()
	for _, v := range [...]string{"false", "true"} {
		if len(l.b)-l.at >= len(v) && string(l.b[l.at:l.at+len(v)]) == v {
			l.at += len(v)
			return v == "true"
		}
	}
	l.fail()
	return false
}

// skip passes over an object and answers it as it stands. It looks at strings and braces only: who reads it finds out the rest.
func (l *lean) skip() []byte {
	l.space()
	start, depth := l.at, 0
	for l.at < len(l.b) {
		switch l.b[l.at] {
		case '"':
			if l.bytes(); l.no {
				return nil
			}
			continue
		case '{':
			depth++
		case '}':
			depth--
		}
		l.at++
		if depth == 0 {
			break
		}
	}
	if depth != 0 || l.at == start || l.b[start] != '{' {
		l.fail()
	}
	return l.b[start:l.at]
}
