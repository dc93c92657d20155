package load_test

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quiescehq/quiesce/bench/load"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPercentile_IsTheSmallestSeenValueThatEnoughDoNotExceed(t *testing.T) {
	t.Parallel()
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1))
	}
	for _, c := range []struct {
		values []time.Duration
		p      float64
		want   time.Duration
	}{
		{nil, 50, 0}, {[]time.Duration{7}, 50, 7}, {[]time.Duration{7}, 99, 7},
		{[]time.Duration{1, 2}, 50, 1}, {[]time.Duration{1, 2}, 51, 2}, {[]time.Duration{1, 2, 3}, 50, 2},
		{hundred, 50, 50}, {hundred, 99, 99}, {hundred, 99.1, 100}, {hundred, 100, 100}, {hundred, 0, 1},
	} {
		if got := load.Percentile(c.values, c.p); got != c.want {
			t.Errorf("percentile %v of %d values: %d, want %d", c.p, len(c.values), got, c.want)
		}
	}
}

func TestMedian_OfRoundsInAnyOrder(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{3, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5}, {[]float64{5}, 5}} {
		if got := load.Median(c.values); got != c.want {
			t.Errorf("median of %v: %v, want %v", c.values, got, c.want)
		}
	}
	if got := load.Median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing: %v", got)
	}
}

// The ratio of the medians would be 2 here, which no round has shown.
func TestRatios_PairRoundsBeforeTheMedian(t *testing.T) {
	t.Parallel()
	ours := []load.Sample{{Rate: 10}, {Rate: 20}, {Rate: 30}}
	theirs := []load.Sample{{Rate: 10}, {Rate: 5}, {Rate: 20}}
	if got, want := load.Ratios(ours, theirs, load.Rate), (load.Spread{Median: 1.5, Low: 1, High: 4}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := load.Ratios(ours, []load.Sample{{}, {Rate: 5}}, load.Rate); got.Median != 4 {
		t.Errorf("a round without a result on the other side was divided by: %+v", got)
	}
}

func TestRun_CountsWhatEndsInTheMeasuredTimeAndNothingElse(t *testing.T) {
	t.Parallel()
	const warm = 50 * time.Millisecond
	var steps, early atomic.Int64
	began := time.Now() // not after the loop's own beginning
	s, err := load.Run(t.Context(), load.Loop{Workers: 3, Warm: warm, Measure: 100 * time.Millisecond}, func(ctx context.Context, _ int) error {
		steps.Add(1)
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
		}
		if time.Since(began) < warm/2 {
			early.Add(1)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.All != int(steps.Load()) || s.Steps > s.All-int(early.Load()) || s.Steps == 0 {
		t.Errorf("%d measured and %d in all of %d steps, %d of which were early", s.Steps, s.All, steps.Load(), early.Load())
	}
	if want := float64(s.Steps) / 0.1; math.Abs(s.Rate-want) > 1e-6*want {
		t.Errorf("rate %v, want %v", s.Rate, want)
	}
	if s.P50 < time.Millisecond || s.P99 < s.P50 || s.Max < s.P99 {
		t.Errorf("durations %v, %v, %v of steps that take a millisecond", s.P50, s.P99, s.Max)
	}
}

// A failed cycle is fast: counted, it would make a broken server look good.
func TestRun_AFailedStepLeavesNoFigure(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	var steps atomic.Int64
	s, err := load.Run(t.Context(), load.Loop{Workers: 4, Measure: time.Minute}, func(context.Context, int) error {
		if steps.Add(1) == 100 {
			return broken
		}
		return nil
	})
	if !errors.Is(err, broken) || s != (load.Sample{}) {
		t.Errorf("got %+v and %v", s, err)
	}
}

func TestRun_AnInterruptedLoopLeavesNoFigure(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var steps atomic.Int64
	s, err := load.Run(ctx, load.Loop{Workers: 2, Measure: time.Minute}, func(context.Context, int) error {
		if steps.Add(1) == 100 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || s != (load.Sample{}) {
		t.Errorf("got %+v and %v", s, err)
	}
}
