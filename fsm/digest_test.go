package fsm

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// A row is hashed late or never; the digest is that of the rows all the same, of the table and of clones that outlive it.
func TestTable_DigestIsThatOfItsRowsWheneverTheyAreHashed(t *testing.T) {
	t.Parallel()
	seed := seedOf(t)
	r := rand.New(rand.NewPCG(seed, 1))
	have := newTable[string, uint64]("x", nil)
	rows := map[string]uint64{}
	for step := range 6 * pendingMax {
		k := fmt.Sprint(r.IntN(3 * pendingMax))
		if r.IntN(3) == 0 {
			have.delete(k)
			delete(rows, k)
		} else {
			have.put(k, uint64(step))
			rows[k] = uint64(step)
		}
		if step%(pendingMax/2) != 0 {
			continue
		}
		var want Digest
		for k, v := range rows {
			want = want.add(digestOf([]byte("x"), encode(k), encode(v)))
		}
		if got := have.sum(); got != want || have.sum() != want {
			t.Fatalf("step %d: digest %s, its %d rows have %s", step, got, len(rows), want)
		}
		if n := len(have.pending.rows); n > 2*pendingMax {
			t.Fatalf("%d rows are kept", n)
		}
		if step%(2*pendingMax) == 0 {
			clone := have.clone()
			have.put("later", 1)
			have.delete("later")
			delete(rows, "later")
			if got := clone.sum(); got != want {
				t.Fatalf("step %d: a clone's digest %s, its rows have %s", step, got, want)
			}
		}
	}
}
