package fsm

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// A client that never says what it saw keeps the oldest result, while thousands after it come and go.
func TestAges_KnowTheOldestAndKeepNoMoreThanTwiceWhatLives(t *testing.T) {
	t.Parallel()
	seed := seedOf(t)
	r := rand.New(rand.NewPCG(seed, 2))
	var a ages
	var alive []uint64
	for order := uint64(1); order < 20*agesSlack; order++ {
		a.add(order, fmt.Sprint(order))
		alive = append(alive, order)
		for len(alive) > 8 && r.IntN(20) > 0 {
			i := 1 + r.IntN(len(alive)-1)
			if order%agesSlack == 0 {
				i = 0
			}
			a.remove(alive[i])
			a.remove(alive[i])
			if _, ok := a.get(alive[i]); ok {
				t.Fatalf("%d is gone and was found", alive[i])
			}
			alive = append(alive[:i], alive[i+1:]...)
		}
		key, ok := a.oldest()
		if !ok || key != fmt.Sprint(alive[0]) || a.len() != len(alive) {
			t.Fatalf("the oldest of %d is %d; found %q of %d", len(alive), alive[0], key, a.len())
		}
		if last := alive[len(alive)-1]; len(a.list) > 2*a.live+agesSlack {
			t.Fatalf("%d places for %d results", len(a.list), a.live)
		} else if key, ok := a.get(last); !ok || key != fmt.Sprint(last) {
			t.Fatalf("%d is %q", last, key)
		}
	}
}
