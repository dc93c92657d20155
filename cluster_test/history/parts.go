package history

import "slices"

// parts splits a history by what has to do with each other: the names that some operation wants together, and all that is done with them.
// The operations of a session belong to every part in which it has asked for something.
func parts(ops []*Op) [][]*Op {
	u := union{}
	byID := map[int]*Op{}
	for _, o := range ops {
		byID[o.ID] = o
		for _, name := range o.names() {
			u.join(o.names()[0], name)
		}
	}
	rootOf := func(o *Op) string {
		if o.Of != 0 {
			o = byID[o.Of]
		}
		return u.root(o.names()[0])
	}
	found := map[string][]*Op{}
	in := map[string][]string{} // parts of a session
	var order []string
	for _, o := range ops {
		if o.ofSession() {
			continue
		}
		root := rootOf(o)
		if found[root] == nil {
			order = append(order, root)
		}
		found[root] = append(found[root], o)
		if !slices.Contains(in[o.Session], root) {
			in[o.Session] = append(in[o.Session], root)
		}
	}
	for _, o := range ops {
		if o.ofSession() {
			for _, root := range in[o.Session] {
				found[root] = append(found[root], o)
			}
		}
	}
	var out [][]*Op
	for _, root := range order {
		out = append(out, relevant(found[root]))
	}
	return out
}

// relevant leaves out what happens by itself, if at all, when all answers have been given.
func relevant(part []*Op) []*Op {
	last := int64(0)
	for _, o := range part {
		if o.Return != Never {
			last = max(last, o.Return)
		}
	}
	return slices.DeleteFunc(part, func(o *Op) bool { return o.Kind >= Expire && o.Call > last })
}

// union is a forest of names.
type union map[string]string

func (u union) root(name string) string {
	for u[name] != "" && u[name] != name {
		name = u[name]
	}
	return name
}

func (u union) join(a, b string) {
	if a, b = u.root(a), u.root(b); a != b {
		u[b] = a
	}
}
