package outage_test

import (
	"testing"
	"time"

	"github.com/quiescehq/quiesce/bench/outage"
)

func TestLongest_OfAKnownSeries(t *testing.T) {
	t.Parallel()
	zero := time.Now()
	at := func(ms ...int) (out []time.Time) {
		for _, m := range ms {
			out = append(out, zero.Add(time.Duration(m)*time.Millisecond))
		}
		return out
	}
	for _, c := range []struct {
		name     string
		acks     []time.Time
		from, to int
		want     int
	}{
		{"between two of them", at(0, 10, 20, 95, 100), 0, 100, 75},
		{"in any order", at(95, 0, 100, 20, 10), 0, 100, 75},
		{"before the first", at(60, 70, 80, 90), 0, 100, 60},
		{"after the last: never answered again", at(0, 10, 20), 0, 100, 80},
		{"without any", nil, 0, 100, 100},
		{"outside the window nothing counts", at(-500, 0, 40, 100, 900), 0, 100, 60},
		{"what lies outside bounds nothing", at(-1, 101), 0, 100, 100},
		{"two at once", at(0, 50, 50, 100), 0, 100, 50},
	} {
		want := time.Duration(c.want) * time.Millisecond
		if got := outage.Longest(c.acks, at(c.from)[0], at(c.to)[0]); got != want {
			t.Errorf("%s: %v, want %v", c.name, got, want)
		}
	}
}
