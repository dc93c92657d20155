package rediscache

import (
	"fmt"
	"testing"
)

// A delivery sends a hundred thousand keys a second: of each, only the value is put into an interface, and nothing is copied.
func TestApplyCalls_TakeOneAllocationAKey(t *testing.T) {
	const keys = scriptKeysMax
	var writes []Guarded
	for i := range keys {
		writes = append(writes, set(fmt.Sprint("key:", i), uint64(i+1_000), "value"))
	}
	p := &part{target: &Target{}}
	if n := testing.AllocsPerRun(20, func() { p.applyCalls(writes, share{n: keys}) }); n > keys+20 {
		t.Errorf("%d keys take %v allocations", keys, n)
	}
}
