package fleet_test

import (
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quiescehq/quiesce/bench/fleet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLatencies_AreBetweenAnEventAndTheGrantOfItsOwnRevision(t *testing.T) {
	t.Parallel()
	zero := time.Now()
	at := func(ms int) time.Time { return zero.Add(time.Duration(ms) * time.Millisecond) }
	freed := map[uint64]time.Time{11: at(100), 12: at(110), 15: at(120), 20: at(130)} // nobody was left for 20
	heard := map[uint64][]time.Time{
		10: {at(5), at(9)},     // by the start
		11: {at(103)},          //
		12: {at(111)},          // heard before the one above would be by the order of hearing
		13: {at(140)},          // nothing was freed by it
		15: {at(121), at(122)}, // one place, two grants
	}
	grants, first, unpaired := fleet.Latencies(freed, heard, 10, zero)
	slices.Sort(grants)
	slices.Sort(first)
	ms := time.Millisecond
	if !slices.Equal(grants, []time.Duration{ms, 3 * ms}) || !slices.Equal(first, []time.Duration{5 * ms, 9 * ms}) || unpaired != 3 {
		t.Errorf("grants %v, first %v, unpaired %d", grants, first, unpaired)
	}
}
