package client

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	backoffBase = 20 * time.Millisecond
	backoffMax  = time.Second
)

// backoff gives the wait before attempt n (from 1) in full jitter: uniform between nothing and an exponentially growing bound. A server's
// Retry-After is not added: the callers of one node that went away must spread out, and another node may be well.
func backoff(n int) time.Duration {
	bound := backoffMax
	if n < 6 {
		bound = min(backoffMax, backoffBase<<n)
	}
	return rand.N(bound)
}

// pause waits, or returns early with the context's cause.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// jitterParts is the part of a period by which it may be cut short.
const jitterParts = 5

// early is a random factor a little below 1: by how much a period is cut short, so that the processes of a deployment that started together
// do not all call together. It never makes a period longer: what must be renewed in time is.
func early() float64 { return 1 - rand.Float64()/jitterParts }

func jittered(d time.Duration) time.Duration { return time.Duration(float64(d) * early()) }
