package outage

import (
	"slices"
	"time"
)

// Longest is the longest time without an acknowledgement between two moments, whose own distance to the nearest acknowledgement counts:
// who is never answered again has a gap up to the end. The times need no order; those outside the window bound nothing.
func Longest(acks []time.Time, from, to time.Time) (gap time.Duration) {
	last := from
	for _, at := range slices.SortedFunc(slices.Values(acks), time.Time.Compare) {
		if at.Before(from) || at.After(to) {
			continue
		}
		gap, last = max(gap, at.Sub(last)), at
	}
	return max(gap, to.Sub(last))
}
