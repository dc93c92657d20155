package main

import "testing"

func TestGCPercent_SpendsABoundedPartOfMemory(t *testing.T) {
	t.Parallel()
	for live, want := range map[uint64]int{0: 400, 1 << 20: 400, 64 << 20: 400, 128 << 20: 200, 256 << 20: 100, 8 << 30: 100} {
		if got := gcPercent(live); got != want {
			t.Errorf("%d MiB live: %d %%, want %d", live>>20, got, want)
		}
	}
	for live := uint64(1 << 20); live < 16<<30; live *= 2 {
		if beyond := live*uint64(gcPercent(live))/100 - min(live, live*uint64(gcPercent(live))/100); beyond > heapSpareBytes {
			t.Errorf("%d MiB live: the heap may grow %d MiB more than by the usual setting", live>>20, beyond>>20)
		}
	}
}
