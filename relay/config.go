package relay

import (
	"errors"
	"fmt"
	"time"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mysql"
)

// ErrConfig means that a Config cannot be used.
var ErrConfig = errors.New("relay: configuration not usable")

// rowsCeiling: a row may name two keys.
const rowsCeiling = min(mysql.OutboxRowsMax, fsm.EventsBatchMax/2)

// Config holds the task's limits and rhythm. Start from [Default].
type Config struct {
	RowsMax int // of one reading, which becomes one log entry

	PollMin time.Duration // between two readings while rows come
	PollMax time.Duration // and when none have come for a while

	FullWait       time.Duration // before the next try while the outbox is full
	ProposeTimeout time.Duration // one log entry; after it the outcome is unknown
	RetryMin       time.Duration // first wait after a failure; it doubles
	RetryMax       time.Duration

	ProbesAtOnce int           // fences that are looked at together; each open one takes two seconds
	OpenMin      time.Duration // until the next look at a fence that was open; it doubles
	OpenMax      time.Duration

	PurgeEvery     time.Duration // between two times that the fences are gone over
	CommittedAfter time.Duration // age of a committed fence that may go once its prepared events are over
	TransactionMax time.Duration // no transaction is open for longer: a fence that a probe took may go then
}

// Default gives the configuration that the project is tested with.
func Default() Config {
	return Config{RowsMax: rowsCeiling, PollMin: 5 * time.Millisecond, PollMax: 50 * time.Millisecond,
		FullWait: 500 * time.Millisecond, ProposeTimeout: 10 * time.Second, RetryMin: 100 * time.Millisecond, RetryMax: 10 * time.Second,
		ProbesAtOnce: 8, OpenMin: time.Second, OpenMax: 30 * time.Second,
		PurgeEvery: 30 * time.Second, CommittedAfter: time.Minute, TransactionMax: 24 * time.Hour}
}

// Validate refuses limits that cannot work together. The error wraps [ErrConfig].
func (c Config) Validate() error {
	switch {
	case c.RowsMax < 1 || c.RowsMax > rowsCeiling:
		return fmt.Errorf("%w: %d rows at a time, 1 to %d allowed", ErrConfig, c.RowsMax, rowsCeiling)
	case c.PollMin < time.Millisecond || c.PollMax < c.PollMin || c.PollMax > time.Minute:
		return fmt.Errorf("%w: read every %v to %v, 1ms to 1m allowed", ErrConfig, c.PollMin, c.PollMax)
	case c.FullWait <= 0 || c.ProposeTimeout <= 0:
		return fmt.Errorf("%w: waits of %v and %v must be positive", ErrConfig, c.FullWait, c.ProposeTimeout)
	case c.RetryMin <= 0 || c.RetryMax < c.RetryMin:
		return fmt.Errorf("%w: retry after %v up to %v", ErrConfig, c.RetryMin, c.RetryMax)
	case c.ProbesAtOnce < 1 || c.ProbesAtOnce > 64:
		return fmt.Errorf("%w: %d probes at once, 1 to 64 allowed", ErrConfig, c.ProbesAtOnce)
	case c.OpenMin < time.Millisecond || c.OpenMax < c.OpenMin || c.OpenMax.Milliseconds() > fsm.WaitMaxMs:
		return fmt.Errorf("%w: open fences are looked at again after %v up to %v", ErrConfig, c.OpenMin, c.OpenMax)
	case c.PurgeEvery <= 0 || c.CommittedAfter <= 0:
		return fmt.Errorf("%w: purge every %v of what is older than %v", ErrConfig, c.PurgeEvery, c.CommittedAfter)
	case c.TransactionMax < time.Minute || c.TransactionMax > 30*24*time.Hour:
		return fmt.Errorf("%w: transactions of up to %v, 1m to 720h allowed", ErrConfig, c.TransactionMax)
	}
	return nil
}

// doubling is first, doubled for each time after the first one, up to last.
func doubling(first, last time.Duration, times int) time.Duration {
	wait := first
	for range times - 1 {
		if wait >= last/2 {
			return last
		}
		wait *= 2
	}
	return min(wait, last)
}
