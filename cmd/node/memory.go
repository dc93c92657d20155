package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The collector runs when the heap has grown by a percentage of what lives. A node's state is small most of the time and its requests make
// much garbage, so with the usual 100 % a third of the work of a busy leader was collecting. A small heap may therefore grow to five times
// what lives, a large one to twice that: never by more than heapSpareBytes beyond what it would have grown.
const (
	heapSpareBytes    = 256 << 20
	gcPercentMin      = 100
	gcPercentMax      = 400
	gcTuneInterval    = time.Second
	heapLiveMetric    = "/gc/heap/live:bytes"
	gcPercentIsFarOff = 10 // a change of less is not worth the stop that it costs
)

// tuneGC holds the collector to that until ctx ends. GOGC and GOMEMLIMIT go before: who sets them knows better.
func tuneGC(ctx context.Context, getenv func(string) string) {
	if getenv("GOGC") != "" || getenv("GOMEMLIMIT") != "" {
		return
	}
	sample := []metrics.Sample{{Name: heapLiveMetric}}
	now := 0
	ticker := time.NewTicker(gcTuneInterval)
	defer ticker.Stop()
	for {
		metrics.Read(sample)
		if want := gcPercent(sample[0].Value.Uint64()); want < now-gcPercentIsFarOff || want > now+gcPercentIsFarOff {
			debug.SetGCPercent(want)
			now = want
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func gcPercent(live uint64) int {
	return int(min(gcPercentMax, max(gcPercentMin, heapSpareBytes*100/max(live, 1))))
}
