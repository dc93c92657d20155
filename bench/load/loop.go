package load

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// stepsExpected is the room that a worker's list of durations begins with, so that it grows outside the common case only.
const stepsExpected = 1 << 12

// graceMax is how long a step that is under way at the end may take before it counts as hung.
const graceMax = 30 * time.Second

// Loop says how many workers repeat a step, and for how long.
type Loop struct {
	Workers int
	Warm    time.Duration // not measured
	Measure time.Duration
}

// Step is what one worker does once. Workers are numbered from 0.
type Step func(ctx context.Context, worker int) error

// Run repeats step in every worker, each beginning again as soon as it has ended. The error is that of the first step that failed.
func Run(ctx context.Context, l Loop, step Step) (Sample, error) {
	ctx, cancel := context.WithTimeout(ctx, l.Warm+l.Measure+graceMax)
	defer cancel()
	took := make([][]time.Duration, l.Workers)
	all := make([]int, l.Workers)
	from := time.Now().Add(l.Warm)
	until := from.Add(l.Measure)
	group, failed := errgroup.WithContext(ctx)
	for worker := range l.Workers {
		group.Go(func() error {
			mine := make([]time.Duration, 0, stepsExpected)
			defer func() { took[worker] = mine }()
			for began := time.Now(); began.Before(until) && failed.Err() == nil; {
				if err := step(failed, worker); err != nil {
					return fmt.Errorf("worker %d: %w", worker, err)
				}
				all[worker]++
				ended := time.Now()
				if ended.After(from) && !ended.After(until) {
					mine = append(mine, ended.Sub(began))
				}
				began = ended
			}
			return nil
		})
	}
	if err := errors.Join(group.Wait(), context.Cause(ctx)); err != nil {
		return Sample{}, err
	}
	s := NewSample(slices.Concat(took...), l.Measure)
	for _, n := range all {
		s.All += n
	}
	return s, nil
}
