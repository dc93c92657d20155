package main

import (
	"context"

	"github.com/quiescehq/quiesce/bench/system"
)

func noStop(context.Context) error { return nil }

// profile takes CPU profiles of a case.
func (b *bench) profile(ctx context.Context, name string) (stop system.StopProfiles, err error) {
	return b.quiesce.Profiles(ctx, b.profiles, name)
}
