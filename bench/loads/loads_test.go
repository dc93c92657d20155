package loads_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quiescehq/quiesce/bench/load"
	"github.com/quiescehq/quiesce/bench/loads"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fair is one lock that serves in the order of asking, each grant some time after the release. Broken, it lets everybody in.
type fair struct {
	gap    time.Duration
	broken bool

	mu      sync.Mutex
	held    bool
	waiting []chan struct{}
}

func (f *fair) Lock(ctx context.Context, _ int, _ string) (loads.Unlock, error) {
	f.mu.Lock()
	if !f.held || f.broken {
		f.held = true
		f.mu.Unlock()
		return f.unlock, nil
	}
	granted := make(chan struct{})
	f.waiting = append(f.waiting, granted)
	f.mu.Unlock()
	select {
	case <-granted:
		return f.unlock, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (f *fair) unlock(ctx context.Context) error {
	select {
	case <-time.After(f.gap):
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.waiting) == 0 {
		f.held = false
		return nil
	}
	close(f.waiting[0])
	f.waiting = f.waiting[1:]
	return nil
}

func (f *fair) queued(context.Context, string) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.waiting), nil
}

func (*fair) Close(context.Context) error { return nil }

func TestHandOff_SeesALockThatExcludesNobody(t *testing.T) {
	t.Parallel()
	loop := load.Loop{Workers: 8, Measure: 200 * time.Millisecond}
	if s, err := load.Run(t.Context(), loop, loads.HandOff(&fair{})); err != nil || s.Steps == 0 {
		t.Errorf("a lock that excludes: %d hand-offs, %v", s.Steps, err)
	}
	loop.Measure = 30 * time.Second // ends with the first meeting
	if s, err := load.Run(t.Context(), loop, loads.HandOff(&fair{broken: true})); !errors.Is(err, loads.ErrShared) {
		t.Errorf("a lock that lets everybody in: %d hand-offs, %v", s.Steps, err)
	}
}

func TestCrowd_MeasuresFromTheReleaseToTheNextGrant(t *testing.T) {
	t.Parallel()
	f := &fair{gap: 2 * time.Millisecond}
	crowd := loads.Crowd{Waiters: 20, AtMost: time.Minute, Queued: f.queued}
	s, err := crowd.Run(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	if s.Steps != 20 || s.P50 < f.gap || s.P50 > 100*f.gap {
		t.Errorf("%d hand-offs, half of them within %v, of 20 with %v each", s.Steps, s.P50, f.gap)
	}
	if most := float64(time.Second / f.gap); s.Rate > most || s.Rate < most/100 {
		t.Errorf("%v a second with %v each", s.Rate, f.gap)
	}
}

func TestCrowd_LetsGoOfThoseWhoStillWaitWhenTimeIsUp(t *testing.T) {
	t.Parallel()
	f := &fair{gap: 20 * time.Millisecond}
	crowd := loads.Crowd{Waiters: 500, AtMost: 100 * time.Millisecond, Queued: f.queued}
	s, err := crowd.Run(t.Context(), f)
	if err != nil || s.Steps == 0 || s.Steps > 400 {
		t.Errorf("%d hand-offs, %v", s.Steps, err)
	}
}
