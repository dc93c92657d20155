package reconcile

import (
	"errors"
	"fmt"
	"time"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mysql"
)

const (
	looksMax  = 3 // readings of a row that keeps changing before it is given up as hot
	rearmsMax = 2 // times that a confirmation starts anew because the row was touched meanwhile

	redisKeysMax  = 1_000   // keys of one read
	redisBytesMax = 4 << 20 // of the rows whose keys one read asks for: the answer is about as large

	partKeysMax = 1_000_000 // some 300 bytes each

	relayPoll = 20 * time.Millisecond // between two questions to a relay that is behind

	chunkRowsMin = 50 // a table that cannot give so many rows in time will not give fewer either
)

// ErrConfig means that a Config cannot be used.
var ErrConfig = errors.New("reconcile: configuration not usable")

// Config holds the task's limits. See [Default].
type Config struct {
	PassesMax         int           // passes at work at once; the others wait in the order of their beginning
	ChunkRowsStart    int           // rows of the first read of a pass
	ChunkRowsMax      int           // rows of one read
	ChunkTime         time.Duration // reads are sized to take this long
	CheckpointEvery   time.Duration // progress is logged this often, and at once when a checkpoint is full
	PartKeys          int           // keys of the target that are gathered before their rows are looked for
	OpenMax           int           // differences that await confirmation before the scan stands still
	ThreadsRunningMax int           // threads at work in MySQL beyond which passes stand still
	TargetLatencyMax  time.Duration // round trip to Redis beyond which they do
	BacklogMax        int           // pending events of all mappings beyond which they do
	KeysPerSecond     int           // that all passes of the leader read together; 0: as many as the load allows
	ThrottleEvery     time.Duration // the load is looked at this often
	SamplesPerSecond  int           // events whose key is looked at later, for the share of keys in agreement; 0: none
	RelayWait         time.Duration // a row that differs is hot when the relay of its outbox table needs longer to say that it has nothing about it
	RetryMin          time.Duration // first wait after a failure; it doubles
	RetryMax          time.Duration
}

// Default gives the limits for production.
func Default() Config {
	return Config{
		PassesMax:         2,
		ChunkRowsStart:    1_000,
		ChunkRowsMax:      mysql.ChunkRowsMax,
		ChunkTime:         300 * time.Millisecond,
		CheckpointEvery:   time.Second,
		PartKeys:          50_000,
		OpenMax:           20_000,
		ThreadsRunningMax: 25,
		TargetLatencyMax:  20 * time.Millisecond,
		BacklogMax:        50_000,
		ThrottleEvery:     500 * time.Millisecond,
		SamplesPerSecond:  20,
		RelayWait:         5 * time.Second,
		RetryMin:          100 * time.Millisecond,
		RetryMax:          10 * time.Second,
	}
}

// Validate refuses limits that cannot work together. The error wraps [ErrConfig].
func (c Config) Validate() error {
	switch {
	case c.PassesMax < 1 || c.PassesMax > fsm.PassesRunningMax:
		return fmt.Errorf("%w: %d passes at once, 1 to %d allowed", ErrConfig, c.PassesMax, fsm.PassesRunningMax)
	case c.ChunkRowsMax < 1 || c.ChunkRowsMax > mysql.ChunkRowsMax:
		return fmt.Errorf("%w: chunks of %d rows, 1 to %d allowed", ErrConfig, c.ChunkRowsMax, mysql.ChunkRowsMax)
	case c.ChunkRowsStart < 1 || c.ChunkRowsStart > c.ChunkRowsMax:
		return fmt.Errorf("%w: first chunk of %d rows, 1 to %d allowed", ErrConfig, c.ChunkRowsStart, c.ChunkRowsMax)
	case c.ChunkTime <= 0 || c.CheckpointEvery <= 0:
		return fmt.Errorf("%w: chunk time %v, checkpoint every %v: both must be positive", ErrConfig, c.ChunkTime, c.CheckpointEvery)
	case c.PartKeys < 1 || c.PartKeys > partKeysMax:
		return fmt.Errorf("%w: %d keys at a time, 1 to %d allowed", ErrConfig, c.PartKeys, partKeysMax)
	case c.OpenMax < 1:
		return fmt.Errorf("%w: %d open differences, at least 1 needed", ErrConfig, c.OpenMax)
	case c.ThreadsRunningMax < 1 || c.TargetLatencyMax <= 0 || c.BacklogMax < 1:
		return fmt.Errorf("%w: %d threads running, %v of latency and %d events of backlog, all must be positive", ErrConfig, c.ThreadsRunningMax, c.TargetLatencyMax, c.BacklogMax)
	case c.KeysPerSecond < 0 || c.KeysPerSecond > perSecondMax:
		return fmt.Errorf("%w: %d keys a second, 0 (no limit) to %d allowed", ErrConfig, c.KeysPerSecond, perSecondMax)
	case c.SamplesPerSecond < 0 || c.SamplesPerSecond > samplesMax:
		return fmt.Errorf("%w: %d samples a second, 0 to %d allowed", ErrConfig, c.SamplesPerSecond, samplesMax)
	case c.ThrottleEvery <= 0:
		return fmt.Errorf("%w: the load is looked at every %v, it must be positive", ErrConfig, c.ThrottleEvery)
	case c.RelayWait <= 0:
		return fmt.Errorf("%w: %v to wait for a relay, it must be positive", ErrConfig, c.RelayWait)
	case c.RetryMin <= 0 || c.RetryMax < c.RetryMin:
		return fmt.Errorf("%w: retry after %v up to %v", ErrConfig, c.RetryMin, c.RetryMax)
	}
	return nil
}
