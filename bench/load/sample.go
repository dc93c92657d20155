package load

import (
	"math"
	"slices"
	"time"
)

// Sample is what one loop showed.
type Sample struct {
	Steps int
	Rate  float64 // steps a second
	P50   time.Duration
	P99   time.Duration
	Max   time.Duration

	All     int           // steps, those of the warm-up included
	Servers time.Duration // CPU of what was measured, for all steps; 0 if unknown
	Client  time.Duration // CPU of the side that measured
	Others  float64       // cores that everything else on the machine used meanwhile
}

// NewSample reduces durations, which it sorts, that were seen within some time.
func NewSample(took []time.Duration, within time.Duration) Sample {
	slices.Sort(took)
	s := Sample{Steps: len(took), P50: Percentile(took, 50), P99: Percentile(took, 99), Max: Percentile(took, 100)}
	if within > 0 {
		s.Rate = float64(len(took)) / within.Seconds()
	}
	return s
}

// Percentile is the smallest value that at least p percent of the sorted values do not exceed: a value that was seen, no interpolation.
// It is 0 without values.
func Percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// Median of some values; the mean of the middle two if their number is even, NaN if there are none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// Spread is a median with the lowest and the highest value.
type Spread struct{ Median, Low, High float64 }

// NewSpread of some values; NaN if there are none.
func NewSpread(values []float64) Spread {
	if len(values) == 0 {
		return Spread{math.NaN(), math.NaN(), math.NaN()}
	}
	return Spread{Median(values), slices.Min(values), slices.Max(values)}
}

// Of maps samples of several rounds to one of their values.
func Of(samples []Sample, value func(Sample) float64) []float64 {
	out := make([]float64, 0, len(samples))
	for _, s := range samples {
		out = append(out, value(s))
	}
	return out
}

// Values of a sample, with durations in milliseconds.
func Rate(s Sample) float64  { return s.Rate }
func P50Ms(s Sample) float64 { return Ms(s.P50) }
func P99Ms(s Sample) float64 { return Ms(s.P99) }

func Others(s Sample) float64    { return s.Others }
func ServersUs(s Sample) float64 { return perStep(s.Servers, s.All) }
func ClientUs(s Sample) float64  { return perStep(s.Client, s.All) }

// perStep is in microseconds.
func perStep(d time.Duration, steps int) float64 {
	if steps == 0 {
		return 0
	}
	return float64(d) / float64(time.Microsecond) / float64(steps)
}

// Ms is a duration in milliseconds.
func Ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Ratios divides what two sides showed in each round. Rounds that only one of them has are left out.
func Ratios(ours, theirs []Sample, value func(Sample) float64) Spread {
	var out []float64
	for i := range min(len(ours), len(theirs)) {
		if other := value(theirs[i]); other > 0 {
			out = append(out, value(ours[i])/other)
		}
	}
	return NewSpread(out)
}
