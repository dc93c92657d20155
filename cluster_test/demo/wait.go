package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const pollEvery = 50 * time.Millisecond

// errWaited says that a condition did not come true in time.
var errWaited = errors.New("waited in vain")

// until polls for a condition. It answers "", or what is still missing, which a wait that ends in vain tells.
func until(ctx context.Context, limit time.Duration, condition func(context.Context) (missing string)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w for %v", errWaited, limit))
	defer cancel()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	missing := ""
	for {
		asking := condition(ctx)
		if asking == "" {
			return nil
		}
		if ctx.Err() == nil || missing == "" {
			missing = asking // what is said after the end is only that it ended
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", context.Cause(ctx), missing)
		case <-ticker.C:
		}
	}
}

// pause waits, or returns early with false.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
