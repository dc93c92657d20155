package fsm

import (
	"cmp"
	"slices"
)

// ages lists the stored results in the order of storing: derived. Results are added at one end and mostly leave near the other, for which a
// tree would do too much.
type ages struct {
	list []age // rising; the first is alive, later ones may be gone
	live int
}

type age struct {
	order uint64
	key   string // empty: gone
}

const agesSlack = 1_024 // places of results that are gone, on top of as many as live

func (a *ages) len() int { return a.live }

// add takes orders above all that it has, but for Restore, which sorts.
func (a *ages) add(order uint64, key string) {
	a.list = append(a.list, age{order, key})
	a.live++
}

func (a *ages) sort() {
	slices.SortFunc(a.list, func(x, y age) int { return cmp.Compare(x.order, y.order) })
}

func (a *ages) at(order uint64) (int, bool) {
	return slices.BinarySearchFunc(a.list, order, func(x age, order uint64) int { return cmp.Compare(x.order, order) })
}

func (a *ages) get(order uint64) (key string, ok bool) {
	if i, found := a.at(order); found {
		key = a.list[i].key
	}
	return key, key != ""
}

func (a *ages) remove(order uint64) {
	i, found := a.at(order)
	if !found || a.list[i].key == "" {
		return
	}
	a.list[i].key = ""
	a.live--
	gone := 0
	for gone < len(a.list) && a.list[gone].key == "" {
		gone++
	}
	a.list = a.list[gone:] // append moves what is left when it finds no room
	if len(a.list) > 2*a.live+agesSlack {
		a.list = slices.DeleteFunc(a.list, func(x age) bool { return x.key == "" })
	}
}

func (a *ages) oldest() (key string, ok bool) {
	if a.live == 0 {
		return "", false
	}
	return a.list[0].key, true
}
