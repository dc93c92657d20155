package history

import (
	"fmt"
	"hash/maphash"
	"strings"

	"github.com/anishathalye/porcupine"
)

// model gives Porcupine the rules of one part.
func model(part []*Op) porcupine.Model {
	r := newRules(part)
	seed := maphash.MakeSeed()
	return porcupine.Model{
		Init: func() any { return r.begin() },
		Step: func(before, asked, _ any) (bool, any) {
			after := r.step(before.(*state), asked.(*Op))
			return after != nil, after
		},
		Equal:             func(a, b any) bool { return a.(*state).key == b.(*state).key },
		Hash:              func(s any) uint64 { return maphash.String(seed, s.(*state).key) },
		DescribeOperation: func(asked, _ any) string { return asked.(*Op).String() + " → " + asked.(*Op).Answer() },
		DescribeState:     func(s any) string { return s.(*state).String() },
	}
}

// String tells who holds and who waits.
func (s *state) String() string {
	var b strings.Builder
	for _, g := range s.grants {
		fmt.Fprintf(&b, "%s: %s/%d ", g.want.Name, g.session, g.token)
	}
	for _, o := range s.queue {
		fmt.Fprintf(&b, "(%s waits) ", o.Session)
	}
	return b.String()
}

func operations(part []*Op) []porcupine.Operation {
	var out []porcupine.Operation
	for _, o := range part {
		out = append(out, porcupine.Operation{ClientId: max(o.Client, 0), Input: o, Call: o.Call, Output: o, Return: o.Return})
	}
	return out
}
