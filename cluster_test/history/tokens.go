package history

import (
	"cmp"
	"fmt"
	"slices"
)

// CheckTokens holds all grants of some histories with one clock to one counter, whatever their names: no token twice, and a grant that was
// asked for when another had been told has the higher one. It answers how many grants it has seen.
func CheckTokens(histories ...History) (grants int, err error) {
	var all []dated
	for _, h := range histories {
		all = append(all, tokensOf(h)...)
	}
	slices.SortFunc(all, func(a, b dated) int { return cmp.Compare(a.token, b.token) })
	for i := 1; i < len(all); i++ {
		if all[i].token == all[i-1].token {
			return len(all), fmt.Errorf("%w: token %d was given to %v and to %v", errImpossible, all[i].token, all[i-1].by, all[i].by)
		}
	}
	slices.SortFunc(all, func(a, b dated) int { return cmp.Compare(a.asked, b.asked) })
	byTold := slices.Clone(all)
	slices.SortFunc(byTold, func(a, b dated) int { return cmp.Compare(a.told, b.told) })
	var before dated
	next := 0
	for _, g := range all {
		for ; byTold[next].told < g.asked; next++ {
			if byTold[next].token > before.token {
				before = byTold[next]
			}
		}
		if g.token <= before.token {
			return len(all), fmt.Errorf("%w: %v got token %d after %v had got %d", errImpossible, g.by, g.token, before.by, before.token)
		}
	}
	return len(all), nil
}

// dated is a new grant: it was made after it was asked for and before it was told.
type dated struct {
	token       uint64
	asked, told int64
	by          *Op
}

func tokensOf(h History) (out []dated) {
	asked := map[int]*Op{}
	byTicket := map[uint64]*Op{}
	for i := range h.Ops {
		if o := &h.Ops[i]; o.Kind == Acquire {
			asked[o.ID], byTicket[o.Told] = o, o
		}
	}
	given := map[uint64]bool{}
	for i := range h.Ops {
		o := &h.Ops[i]
		of := o
		if o.Kind == Attach {
			if of = asked[o.Of]; of == nil {
				of = byTicket[o.Ticket]
			}
		}
		for _, got := range o.Got {
			if of != nil && !given[got.Token] { // a reentrant owner is told the same token again
				given[got.Token] = true
				out = append(out, dated{token: got.Token, asked: of.Call, told: o.Return, by: of})
			}
		}
	}
	return out
}
