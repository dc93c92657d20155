package reconcile

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/time/rate"

	"github.com/quiescehq/quiesce/fsm"
)

// throttledWindow is the reason of a pass whose schedule has it stand still at this time of the day.
const throttledWindow = "outside_window"

// brake decides when a pass stands still for the load of others: any factor does. Replication lag is none of them: a read cannot cause it, and a scan that waits for it keeps the server from
// cleaning up. It belongs to the goroutine that reads ahead.
type brake struct {
	looked time.Time
	reason string
}

// admit returns when the pass may go on. It looks at the load at most every ThrottleEvery.
func (p *pass) admit(ctx context.Context) error {
	for {
		if time.Since(p.brake.looked) >= p.config.ThrottleEvery {
			reason := p.overload(ctx)
			if reason != "" && p.brake.reason == "" {
				p.logger.Info("pass stands still", "throttled", reason)
			}
			p.brake = brake{looked: time.Now(), reason: reason}
			p.progress.throttle(reason)
		}
		if p.brake.reason == "" {
			return nil
		}
		if err := sleep(ctx, p.config.ThrottleEvery); err != nil {
			return err
		}
	}
}

// overload gives the first factor that is over its limit, with the figures. A place that does not answer is no load: reading it will fail and wait by itself.
func (p *pass) overload(ctx context.Context) string {
	backlog := 0
	p.log.View(func(s *fsm.State) { backlog = s.PendingCount() })
	if backlog > p.config.BacklogMax {
		return fmt.Sprintf("backlog %d > %d", backlog, p.config.BacklogMax)
	}
	if threads, err := p.source.ThreadsRunning(ctx); err == nil && threads > p.config.ThreadsRunningMax {
		return fmt.Sprintf("threads_running %d > %d", threads, p.config.ThreadsRunningMax)
	}
	if latency, err := p.target.Latency(ctx); err == nil && latency > p.config.TargetLatencyMax {
		return fmt.Sprintf("target_latency %v > %v", latency.Round(100*time.Microsecond), p.config.TargetLatencyMax)
	}
	return ""
}

// spend waits until so many rows, or keys, are within the pass's own rate, and its keys within what all passes of the leader may read.
func (p *pass) spend(ctx context.Context, rows, keys int) error {
	if err := p.spendFrom(ctx, p.pace, rows); err != nil {
		return err
	}
	return p.spendFrom(ctx, p.shared, keys)
}

func (p *pass) spendFrom(ctx context.Context, limiter *rate.Limiter, n int) error {
	for limiter != nil && n > 0 {
		part := min(n, limiter.Burst())
		if limiter.Tokens() < float64(part) {
			p.progress.throttle("rate " + strconv.FormatFloat(float64(limiter.Limit()), 'f', -1, 64) + "/s")
		}
		err := limiter.WaitN(ctx, part)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("wait for the rate: %w", err)
		}
		n -= part
	}
	p.progress.throttle(p.brake.reason)
	return nil
}

// newLimiter is nil for no limit. What was not used can be made up for within a tenth of a second.
func newLimiter(perSecond uint64) *rate.Limiter {
	if perSecond == 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), max(1, int(min(perSecond, perSecondMax))/10))
}

// perSecondMax bounds what a limiter counts at once; nothing here is so fast.
const perSecondMax = 1 << 30

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
