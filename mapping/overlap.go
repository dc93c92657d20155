package mapping

import "strings"

// Overlap tells whether two mappings of one target could touch the same key: their templates may render the same text, or one's guards could be the other's data or guards.
// It may say so of templates that never meet in practice, and never misses two that can. reason is empty when they are apart.
//
// Two mappings that only invalidate may share keys: that is how changes of two tables clear one object.
func Overlap(a, b *Mapping) (reason string) {
	if a.spec.Mode != Invalidate || b.spec.Mode != Invalidate {
		for i := range a.templates {
			for j := range b.templates {
				if a.templates[i].pattern().meets(b.templates[j].pattern()) {
					return "keys of " + a.keyTemplates()[i] + " and " + b.keyTemplates()[j] + " may be the same"
				}
			}
		}
	}
	if a.guardPrefix != b.guardPrefix && (strings.HasPrefix(a.guardPrefix, b.guardPrefix) || strings.HasPrefix(b.guardPrefix, a.guardPrefix)) {
		return "one guard prefix begins with the other"
	}
	if a.mayBegin(b.guardPrefix) || b.mayBegin(a.guardPrefix) {
		return "keys of one may be guards of the other"
	}
	return ""
}

// mayBegin tells whether some key may begin with the other's guard prefix. One's own prefix is seen to with each key.
func (m *Mapping) mayBegin(prefix string) bool {
	if prefix == m.guardPrefix {
		return false
	}
	guards := append(literalPattern(prefix), anyBytes)
	for i := range m.templates {
		if m.templates[i].pattern().meets(guards) {
			return true
		}
	}
	return false
}

// token is one step of a pattern: one byte, or any number of bytes out of a set.
type token struct {
	literal byte
	star    *byteSet
}

type byteSet [256]bool

// pattern is a template without its columns.
type pattern []token

var anyBytes = token{star: setOf("")}

func setOf(alphabet string) *byteSet {
	var set byteSet
	for i := range set {
		set[i] = alphabet == "" || strings.IndexByte(alphabet, byte(i)) >= 0
	}
	return &set
}

func literalPattern(s string) pattern {
	p := make(pattern, 0, len(s)+1)
	for i := range len(s) {
		p = append(p, token{literal: s[i]})
	}
	return p
}

func (t template) pattern() pattern {
	p := literalPattern(t.literals[0])
	for i, form := range t.forms {
		alphabet := form.alphabet
		if form.numeric {
			alphabet += "-"
		}
		p = append(append(p, token{star: setOf(alphabet)}), literalPattern(t.literals[i+1])...)
	}
	return p
}

// meets tells whether some text fits both patterns. It walks over the pairs of places that can be reached by reading the same text.
func (p pattern) meets(q pattern) bool {
	type place struct{ i, j int }
	seen := map[place]bool{{0, 0}: true}
	open := []place{{0, 0}}
	visit := func(i, j int) {
		if at := (place{i, j}); !seen[at] {
			seen[at] = true
			open = append(open, at)
		}
	}
	for len(open) > 0 {
		at := open[len(open)-1]
		open = open[:len(open)-1]
		if at.i == len(p) && at.j == len(q) {
			return true
		}
		inP, inQ := at.i < len(p), at.j < len(q)
		if inP && p[at.i].star != nil {
			visit(at.i+1, at.j)
		}
		if inQ && q[at.j].star != nil {
			visit(at.i, at.j+1)
		}
		if !inP || !inQ {
			continue
		}
		switch x, y := p[at.i], q[at.j]; {
		case x.star == nil && y.star == nil:
			if x.literal == y.literal {
				visit(at.i+1, at.j+1)
			}
		case x.star == nil && y.star[x.literal]:
			visit(at.i+1, at.j)
		case x.star != nil && y.star == nil && x.star[y.literal]:
			visit(at.i, at.j+1)
		}
		// Two stars that read the same byte stay where they are.
	}
	return false
}
