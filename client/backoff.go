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
