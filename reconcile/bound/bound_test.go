package bound

import (
	"math"
	"testing"
)

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-6*math.Max(math.Abs(b), 1e-9) }

func TestUpper_KnownValues(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		found, looked uint64
		confidence    float64
		upper, lower  float64
	}{
		{0, 0, 0.95, 1, 0},
		{0, 1, 0.95, 0.95, 0},
		{1, 1, 0.95, 1, 0.05},
		{0, 10, 0.95, 1 - math.Pow(0.05, 0.1), 0},
		{10, 10, 0.95, 1, math.Pow(0.05, 0.1)},
		{1, 2, 0.95, math.Sqrt(0.95), 1 - math.Sqrt(0.95)}, // 1 - p^2 = 0.05
		{2, 10, 0.975, 0.5560954623, 0.0252107263},         // the two-sided interval at 95 % that tables print
		{5, 100, 0.975, 0.1128349111, 0.0164318793},
		{0, 100_000, 0.95, 2.995687e-5, 0},
	} {
		if got := Upper(test.found, test.looked, test.confidence); !near(got, test.upper) {
			t.Errorf("%d of %d at %g: at most %.10f, want %.10f", test.found, test.looked, test.confidence, got, test.upper)
		}
		if got := Lower(test.found, test.looked, test.confidence); !near(got, test.lower) {
			t.Errorf("%d of %d at %g: at least %.10f, want %.10f", test.found, test.looked, test.confidence, got, test.lower)
		}
	}
}

// pmf is the chance of exactly k of n, an obvious twin of what the bounds are inverted from.
func pmf(k, n uint64, p float64) float64 {
	if p == 0 || p == 1 {
		return map[bool]float64{true: 1, false: 0}[k == n && p == 1 || k == 0 && p == 0]
	}
	ln, _ := math.Lgamma(float64(n) + 1)
	lk, _ := math.Lgamma(float64(k) + 1)
	lr, _ := math.Lgamma(float64(n-k) + 1)
	return math.Exp(ln - lk - lr + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
}

// The coverage is summed exactly over all outcomes, for shares over the whole range: never below the confidence, and not always one.
func TestUpper_HoldsAsOftenAsItSays(t *testing.T) {
	t.Parallel()
	for _, n := range []uint64{1, 7, 50, 400} {
		for _, confidence := range []float64{0.5, 0.95, 0.999} {
			uppers, lowers := make([]float64, n+1), make([]float64, n+1)
			for k := range n + 1 {
				uppers[k], lowers[k] = Upper(k, n, confidence), Lower(k, n, confidence)
			}
			lowest := 1.0
			for step := range 200 {
				p := math.Pow(float64(step)/199, 3)
				upper, lower := 0.0, 0.0
				for k := range n + 1 {
					if uppers[k] >= p {
						upper += pmf(k, n, p)
					}
					if lowers[k] <= p {
						lower += pmf(k, n, p)
					}
				}
				if upper < confidence-1e-9 || lower < confidence-1e-9 {
					t.Errorf("n %d, share %g: right in %.6f and %.6f of the samples, want %g", n, p, upper, lower, confidence)
				}
				lowest = min(lowest, upper)
			}
			if n >= 50 && lowest > confidence+(1-confidence)*0.9 {
				t.Errorf("n %d, confidence %g: right in at least %.6f: the bound is looser than it says", n, confidence, lowest)
			}
		}
	}
}

func TestUpper_GrowsWithWhatIsFoundAndShrinksWithWhatIsLookedAt(t *testing.T) {
	t.Parallel()
	for _, n := range []uint64{10, 1_000, 1_000_000, 1 << 40} {
		last := 0.0
		for k := range uint64(9) {
			u := Upper(k, n, 0.95)
			if !(u > last) || u > 1 || u < float64(k)/float64(n) || Lower(k, n, 0.95) > float64(k)/float64(n) {
				t.Errorf("%d of %d: %g after %g", k, n, u, last)
			}
			if more := Upper(k, 2*n, 0.95); more >= u {
				t.Errorf("%d of %d: %g, of twice as many %g", k, n, u, more)
			}
			last = u
		}
	}
}
