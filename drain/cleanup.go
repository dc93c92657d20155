package drain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/rediscache"
)

// cleaner keeps one goroutine for each running cleanup. Its fields belong to the goroutine of run.
type cleaner struct {
	task   *Task
	group  *errgroup.Group
	ended  chan uint64
	active map[uint64]context.CancelFunc
}

func newCleaner(t *Task, group *errgroup.Group) *cleaner {
	return &cleaner{task: t, group: group, ended: make(chan uint64), active: map[uint64]context.CancelFunc{}}
}

func (c *cleaner) run(ctx context.Context) error {
	wake, stop := c.task.Log.Watch("cleanups", "")
	defer stop()
	for {
		c.adjust(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		case id := <-c.ended:
			c.active[id]()
			delete(c.active, id)
		}
	}
}

// adjust ends what the state no longer calls running and starts what it does. A cleanup that is being ended keeps its place until it is over.
func (c *cleaner) adjust(ctx context.Context) {
	running := c.task.runningCleanups()
	for id, cancel := range c.active {
		if _, still := running[id]; !still {
			cancel()
		}
	}
	for _, id := range slices.Sorted(maps.Keys(running)) {
		if c.active[id] == nil && len(c.active) < c.task.config.CleanupsMax {
			c.start(ctx, running[id])
		}
	}
}

func (c *cleaner) start(ctx context.Context, record fsm.Cleanup) {
	own, cancel := context.WithCancel(ctx)
	c.active[record.ID] = cancel
	c.group.Go(func() error {
		defer cancel()
		newCleanup(c.task, record).run(own)
		select {
		case c.ended <- record.ID:
		case <-ctx.Done():
		}
		return nil
	})
}

func (t *Task) runningCleanups() map[uint64]fsm.Cleanup {
	running := map[uint64]fsm.Cleanup{}
	t.Log.View(func(s *fsm.State) {
		s.Cleanups(0, func(c fsm.Cleanup) bool {
			if c.State == fsm.CleanupRunning {
				running[c.ID] = c
			}
			return true
		})
	})
	return running
}

// errOver means that the state does not call the cleanup running any more.
var errOver = errors.New("the cleanup is over")

// errNoTarget means that this node cannot know how to reach the target.
var errNoTarget = errors.New("this node's configuration names no such target")

// cleanup is one removal under way.
type cleanup struct {
	task   *Task
	logger *slog.Logger
	at     fsm.Cleanup // the record as it would be logged now
	life   string      // of the target that the cursor is of; empty when an earlier leader got it
	began  time.Time   // of the failures in a row
	failed int
}

func newCleanup(t *Task, record fsm.Cleanup) *cleanup {
	return &cleanup{task: t, at: record, logger: t.Logger.With("cleanup", record.ID, "target", record.Target)}
}

// run goes on with the cleanup until it is over, or ctx ends.
func (c *cleanup) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := c.attempt(ctx)
		switch {
		case err == nil:
			c.logger.Info("cleanup done", "scanned", c.at.Scanned, "matched", c.at.Matched, "removed", c.at.Removed, "dry_run", c.at.DryRun)
			return
		case errors.Is(err, errOver) || ctx.Err() != nil:
			return
		case c.hopeless(err):
			if c.fail(ctx, err) {
				return
			}
		}
		c.wait(ctx, err)
	}
}

func (c *cleanup) wait(ctx context.Context, err error) {
	if c.failed++; c.failed == 1 {
		c.began = time.Now()
		c.logger.Warn("cleanup waits, it is tried again", "error", err)
	}
	timer := time.NewTimer(c.task.config.backoff(c.failed))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// hopeless tells whether a failure of the target has lasted too long, or will not pass by itself.
func (c *cleanup) hopeless(err error) bool {
	return errors.Is(err, errTarget) && (errors.Is(err, rediscache.ErrDenied) || c.failed > 0 && time.Since(c.began) > c.task.config.CleanupRetry)
}

// errTarget wraps the failures of the target, as opposed to those of the log.
var errTarget = errors.New("target")

func (c *cleanup) fail(ctx context.Context, err error) bool {
	why := "the target failed"
	for _, class := range []error{errNoTarget, rediscache.ErrUnreachable, rediscache.ErrDenied, rediscache.ErrNotPrimary, rediscache.ErrSnooze} {
		if errors.Is(err, class) {
			why = class.Error()
		}
	}
	c.logger.Warn("cleanup failed", "error", err)
	return c.checkpoint(ctx, func(p *fsm.CheckpointCleanup) { p.Failed = why }) == nil
}

// attempt works until the end, or until something fails. What was removed since the last checkpoint is not counted then.
func (c *cleanup) attempt(ctx context.Context) error {
	target := c.task.Targets[c.at.Target]
	if target == nil {
		return fmt.Errorf("%w: %w", errTarget, errNoTarget)
	}
	sweep, err := target.BeginSweep(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errTarget, err)
	}
	defer sweep.Close()
	c.enter(sweep.Identity())
	for {
		// Logged before each batch: a leader that was deposed, or a registration, stops here.
		if err := c.checkpoint(ctx, func(p *fsm.CheckpointCleanup) { p.Done = c.at.Pattern == len(c.at.Patterns) }); err != nil {
			return err
		}
		if c.at.Pattern == len(c.at.Patterns) {
			return nil
		}
		if err := c.batch(ctx, sweep); err != nil {
			return fmt.Errorf("%w: %w", errTarget, err)
		}
		c.failed = 0
	}
}

// enter begins the pattern anew when the cursor is, or may be, of another life of the server, in which its keys lay in another order.
func (c *cleanup) enter(server rediscache.Identity) {
	same := c.life == server.Life
	if c.life == "" {
		same = server.Uptime > millis(c.task.Log.Now(), c.at.CreatedAt)+c.task.config.OutageMax
	}
	if !same {
		c.at.Cursor = 0
	}
	c.life = server.Life
}

func (c *cleanup) batch(ctx context.Context, sweep Sweep) error {
	part, err := sweep.Scan(ctx, c.at.Patterns[c.at.Pattern], c.at.Cursor)
	if err != nil {
		return err
	}
	if !c.at.DryRun {
		removed, err := sweep.Unlink(ctx, part.Keys)
		if err != nil {
			return err
		}
		c.at.Removed += removed
	}
	c.at.Scanned += part.Looked
	c.at.Matched += uint64(len(part.Keys))
	c.sample(part.Keys)
	if c.at.Cursor = part.Cursor; part.Cursor == 0 {
		c.at.Pattern++
	}
	return nil
}

func (c *cleanup) sample(keys []string) {
	samples := append([]string(nil), c.at.Samples...) // the last list is in the log
	for _, key := range keys[:min(len(keys), fsm.CleanupSamplesMax-min(len(samples), fsm.CleanupSamplesMax))] {
		samples = append(samples, strings.ToValidUTF8(key[:min(len(key), fsm.SampleBytesMax/len("\uFFFD"))], "\uFFFD"))
	}
	c.at.Samples = samples
}

func (c *cleanup) checkpoint(ctx context.Context, change func(*fsm.CheckpointCleanup)) error {
	p := fsm.CheckpointCleanup{ID: c.at.ID, Pattern: c.at.Pattern, Cursor: c.at.Cursor, Scanned: c.at.Scanned, Matched: c.at.Matched,
		Removed: c.at.Removed, Samples: c.at.Samples}
	change(&p)
	results, err := c.task.propose(ctx, p)
	switch {
	case err != nil:
		return fmt.Errorf("checkpoint: %w", err)
	case results[0].Code == fsm.CodeCleanupEnded || results[0].Code == fsm.CodeCleanupNotFound:
		return errOver
	case results[0].Refused():
		return fmt.Errorf("checkpoint refused: %s: %s", results[0].Code, results[0].Detail)
	}
	return nil
}
