package drain

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quiescehq/quiesce/mysql"
)

// Policy says which transactions the leader may end by itself. An operator may end any.
type Policy string

const (
	KillNever Policy = "never"
	KillOwned Policy = "owned" // of connections that an instance reported which is lost, forced, or past the deadline of its transactions
	KillAll   Policy = "all"   // these, and any over the threshold, but only of the users on the list
)

const (
	killsAtOnceMax = 100  // of one reading; the next goes on
	linesAtOnceMax = 20   // of the log, for one reading
	lookedUpMax    = 2000 // transactions of one reading that are looked at closely, the oldest first
	shownMax       = 200  // transactions in a Status

	killAgainAfter = 30 * time.Second // when a connection was ended and its transaction neither ends nor rolls back
	grantsEvery    = time.Minute      // between two looks at what the account may do
)

// ErrConfig means that a Config cannot be used.
var ErrConfig = errors.New("drain: configuration not usable")

// Watch is how the transactions of one source are watched.
type Watch struct {
	Threshold time.Duration // from this age on a transaction is long
	Every     time.Duration // between two readings
	Kill      Policy
	KillUsers []string // with KillAll: whose transactions may be ended. With KillOwned: the same, when it is not empty
}

// DefaultWatch is what a source gets for which nothing else is said.
func DefaultWatch() Watch {
	return Watch{Threshold: time.Minute, Every: time.Second, Kill: KillOwned}
}

// Validate refuses what cannot work. The error wraps [ErrConfig].
func (w Watch) Validate() error {
	switch {
	case w.Threshold < time.Second || w.Threshold > 24*time.Hour:
		return fmt.Errorf("%w: threshold %v, 1s to 24h allowed", ErrConfig, w.Threshold)
	case w.Every < mysql.TransactionReadsEvery || w.Every > time.Minute:
		return fmt.Errorf("%w: read every %v, %v to 1m allowed: faster readers see a cache that they keep from being filled", ErrConfig, w.Every, mysql.TransactionReadsEvery)
	case !slices.Contains([]Policy{KillNever, KillOwned, KillAll}, w.Kill):
		return fmt.Errorf("%w: kill policy %q, one of never, owned, all", ErrConfig, w.Kill)
	case w.Kill == KillAll && len(w.KillUsers) == 0:
		return fmt.Errorf("%w: kill policy all needs the list of users whose transactions may be ended", ErrConfig)
	case len(w.KillUsers) > 100 || slices.Contains(w.KillUsers, ""):
		return fmt.Errorf("%w: up to 100 users, none empty", ErrConfig)
	}
	return nil
}

// Config holds the task's limits. See [Default].
type Config struct {
	// OutageMax is the longest time that the cluster is taken to have been without a leader. Cluster time stands still meanwhile, so what an
	// earlier leader wrote down may be older than it looks by so much.
	OutageMax time.Duration

	// PoolsSettle is how long a server must have been up before a report of connections is believed to be about its present life: a pool
	// notices late that a server restarted, and reports for a while what is no more.
	PoolsSettle time.Duration

	RollbackMax    time.Duration // an adoption waits so long for transactions to be undone
	UnreachableMax time.Duration // and so long for a source that does not answer
	CleanupsMax    int           // cleanups at work at once; the others wait in the order of their making
	CleanupRetry   time.Duration // a target that does not answer for so long fails a cleanup
	ProposeTimeout time.Duration // one log entry; after it the outcome is unknown
	RetryMin       time.Duration // first wait after a failure; it doubles
	RetryMax       time.Duration
}

// Default gives the limits for production.
func Default() Config {
	return Config{OutageMax: time.Hour, PoolsSettle: 10 * time.Second, RollbackMax: 10 * time.Minute, UnreachableMax: time.Hour, CleanupsMax: 4, CleanupRetry: 5 * time.Minute,
		ProposeTimeout: 10 * time.Second, RetryMin: 250 * time.Millisecond, RetryMax: 10 * time.Second}
}

// Validate refuses limits that cannot work together. The error wraps [ErrConfig].
func (c Config) Validate() error {
	switch {
	case c.OutageMax < 0 || c.OutageMax > 30*24*time.Hour:
		return fmt.Errorf("%w: outage of %v, 0 to 720h allowed", ErrConfig, c.OutageMax)
	case c.PoolsSettle < 0 || c.PoolsSettle > time.Hour:
		return fmt.Errorf("%w: pools settle for %v, 0 to 1h allowed", ErrConfig, c.PoolsSettle)
	case c.RollbackMax <= 0 || c.UnreachableMax <= 0 || c.CleanupRetry <= 0 || c.ProposeTimeout <= 0:
		return fmt.Errorf("%w: waits of %v, %v, %v and %v must be positive", ErrConfig, c.RollbackMax, c.UnreachableMax, c.CleanupRetry, c.ProposeTimeout)
	case c.CleanupsMax < 1 || c.CleanupsMax > 64:
		return fmt.Errorf("%w: %d cleanups at once, 1 to 64 allowed", ErrConfig, c.CleanupsMax)
	case c.RetryMin <= 0 || c.RetryMax < c.RetryMin:
		return fmt.Errorf("%w: retry after %v up to %v", ErrConfig, c.RetryMin, c.RetryMax)
	}
	return nil
}

// backoff is the wait after so many failures in a row.
func (c Config) backoff(failures int) time.Duration {
	wait := c.RetryMin
	for range failures - 1 {
		if wait >= c.RetryMax/2 {
			return c.RetryMax
		}
		wait *= 2
	}
	return min(wait, c.RetryMax)
}
