package outbox

import (
	"errors"
	"fmt"
	"time"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mysql"
)

// ErrConfig means that a configuration cannot be used.
var ErrConfig = errors.New("outbox configuration")

const (
	batchesCeiling    = 64
	recentRowsCeiling = 1 << 22
)

// Config bounds the work and sets its rhythm. Start from [Default].
type Config struct {
	BatchRowsMax int // rows read by one statement
	BatchesMax   int // batches under way at a time, over all mappings
	ProbeRows    int // rows of the first batch after a breaker was open

	CallTimeout    time.Duration // one call to a source or target
	AttemptTimeout time.Duration // one batch from begin to the last outcome
	ProposeTimeout time.Duration // one log entry; after it the outcome is unknown

	AttemptsMax uint32        // failed attempts of a row before it is buried
	BackoffBase time.Duration // ceiling of the delay after the first failure; it doubles with each
	BackoffMax  time.Duration

	BreakerFailures uint32        // failures in a row that open a breaker
	BreakerOpen     time.Duration // pause before a probe

	RecentRowsMax int // settlements that Recent remembers
}

// Default gives the configuration that the project is tested with.
func Default() Config {
	return Config{
		BatchRowsMax: 500, BatchesMax: 4, ProbeRows: 10,
		CallTimeout: 3 * time.Second, AttemptTimeout: 10 * time.Second, ProposeTimeout: 10 * time.Second,
		AttemptsMax: 25, BackoffBase: 100 * time.Millisecond, BackoffMax: 30 * time.Second,
		BreakerFailures: 3, BreakerOpen: time.Second,
		RecentRowsMax: 65_536,
	}
}

// Validate reports every fault at once, each wrapping [ErrConfig].
func (c Config) Validate() error {
	var faults []error
	require := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf("%w: "+format, append([]any{ErrConfig}, args...)...))
		}
	}
	rowsMax := min(mysql.BatchRowsMax, fsm.EventsBatchMax)
	require(c.BatchRowsMax >= 1 && c.BatchRowsMax <= rowsMax, "batch rows %d, want 1 to %d", c.BatchRowsMax, rowsMax)
	require(c.BatchesMax >= 1 && c.BatchesMax <= batchesCeiling, "batches %d, want 1 to %d", c.BatchesMax, batchesCeiling)
	require(c.ProbeRows >= 1 && c.ProbeRows <= c.BatchRowsMax, "probe rows %d, want 1 to %d", c.ProbeRows, c.BatchRowsMax)
	require(c.CallTimeout > 0, "call timeout %v, want more than 0", c.CallTimeout)
	require(c.AttemptTimeout >= c.CallTimeout, "attempt timeout %v, want at least the call timeout %v", c.AttemptTimeout, c.CallTimeout)
	require(c.ProposeTimeout > 0, "propose timeout %v, want more than 0", c.ProposeTimeout)
	require(c.AttemptsMax >= 1, "attempts 0, want 1 or more")
	require(c.BackoffBase >= time.Millisecond, "backoff base %v, want 1ms or more", c.BackoffBase)
	require(c.BackoffMax >= c.BackoffBase && c.BackoffMax.Milliseconds() <= fsm.WaitMaxMs, "backoff cap %v, want %v to %v",
		c.BackoffMax, c.BackoffBase, fsm.WaitMaxMs*time.Millisecond)
	require(c.BreakerFailures >= 1, "breaker failures 0, want 1 or more")
	require(c.BreakerOpen >= time.Millisecond && c.BreakerOpen <= time.Hour, "breaker pause %v, want 1ms to 1h", c.BreakerOpen)
	require(c.RecentRowsMax >= max(c.BatchRowsMax, 1) && c.RecentRowsMax <= recentRowsCeiling, "recent rows %d, want %d to %d",
		c.RecentRowsMax, c.BatchRowsMax, recentRowsCeiling)
	return errors.Join(faults...)
}
