package bound

import "math"

// Upper is the largest share of differing rows that goes with found ones among those that were looked at, at a confidence between 0 and 1 on one side.
func Upper(found, looked uint64, confidence float64) float64 {
	alpha := 1 - confidence
	switch {
	case looked == 0 || found >= looked || !(alpha > 0):
		return 1
	case alpha >= 1:
		return 0
	case found == 0:
		return -math.Expm1(math.Log(alpha) / float64(looked))
	}
	// The chance of at most found falls as the share grows.
	low, high := 0.0, 1.0
	for range bisections {
		middle := (low + high) / 2
		if atMost(found, looked, middle) > alpha {
			low = middle
		} else {
			high = middle
		}
	}
	return high
}

// Lower is the smallest such share.
func Lower(found, looked uint64, confidence float64) float64 {
	if looked == 0 {
		return 0
	}
	return 1 - Upper(looked-min(found, looked), looked, confidence)
}

const bisections = 100

// atMost is the chance of at most k differing rows among n when the share is p: the regularised incomplete beta function I(1-p; n-k, k+1).
func atMost(k, n uint64, p float64) float64 {
	return beta(float64(n-k), float64(k)+1, 1-p)
}

// beta is the regularised incomplete beta function. Its continued fraction converges fast below the mean, and the function is symmetric.
func beta(a, b, x float64) float64 {
	if x <= 0 {
		return 0
	}
	if x >= 1 {
		return 1
	}
	if x > (a+1)/(a+b+2) {
		return 1 - beta(b, a, 1-x)
	}
	return math.Exp(a*math.Log(x)+b*math.Log1p(-x)-logBeta(a, b)) / a * fraction(a, b, x)
}

func logBeta(a, b float64) float64 {
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	return la + lb - lab
}

// fraction evaluates the continued fraction by the method of Lentz, as modified by Thompson and Barnett.
func fraction(a, b, x float64) float64 {
	const tiny, enough = 1e-300, 1e-15
	away := func(v float64) float64 {
		if math.Abs(v) < tiny {
			return tiny
		}
		return v
	}
	c, d := 1.0, 1/away(1-(a+b)*x/(a+1))
	h := d
	for i := 1; i < termsMax; i++ {
		m := float64(i)
		even := m * (b - m) * x / ((a + 2*m - 1) * (a + 2*m))
		d, c = 1/away(1+even*d), away(1+even/c)
		h *= d * c
		odd := -(a + m) * (a + b + m) * x / ((a + 2*m) * (a + 2*m + 1))
		d, c = 1/away(1+odd*d), away(1+odd/c)
		h *= d * c
		if math.Abs(d*c-1) < enough {
			break
		}
	}
	return h
}

// termsMax is far beyond what counts of rows need: the terms grow with the root of the smaller count.
const termsMax = 100_000
