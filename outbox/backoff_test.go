package outbox

import (
	"testing"
	"time"
)

func TestBackoff_CeilingDoublesUpToTheCap(t *testing.T) {
	t.Parallel()
	cfg := Default()
	for failures, want := range []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond,
		1600 * time.Millisecond, 3200 * time.Millisecond, 6400 * time.Millisecond, 12800 * time.Millisecond, 25600 * time.Millisecond, 30 * time.Second, 30 * time.Second} {
		if got := cfg.backoffCeiling(uint32(failures)); got != want {
			t.Errorf("after %d failures the ceiling is %v, want %v", failures, got, want)
		}
	}
	if got := cfg.backoffCeiling(1 << 31); got != cfg.BackoffMax {
		t.Errorf("after very many failures the ceiling is %v", got)
	}
}

func TestBackoff_JitterReachesFromOneMillisecondToTheCeiling(t *testing.T) {
	t.Parallel()
	lowest := jitter(func(uint64) uint64 { return 0 }).upTo(time.Second)
	highest := jitter(func(n uint64) uint64 { return n - 1 }).upTo(time.Second)
	if lowest != 1 || highest != 1000 {
		t.Errorf("the delays reach from %d to %d ms, want 1 to 1000", lowest, highest)
	}
}
