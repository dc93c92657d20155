package outbox

import "time"

// jitter gives a number from 0 up to, not including, n. It is math/rand's in production.
type jitter func(n uint64) uint64

// backoffCeiling is base doubled once for each failure before this one, up to the cap.
func (c Config) backoffCeiling(failuresBefore uint32) time.Duration {
	ceiling := c.BackoffBase
	for range failuresBefore {
		if ceiling >= c.BackoffMax/2 {
			return c.BackoffMax
		}
		ceiling *= 2
	}
	return min(ceiling, c.BackoffMax)
}

// upTo draws a delay between one millisecond and the ceiling: full jitter, because rows that failed together would otherwise come back together.
func (j jitter) upTo(ceiling time.Duration) (delayMs uint64) {
	return 1 + j(uint64(max(ceiling.Milliseconds(), 1)))
}
