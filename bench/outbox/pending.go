package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/quiescehq/quiesce/bench/process"
	"github.com/quiescehq/quiesce/bench/system"
	"github.com/quiescehq/quiesce/mapping"
)

const (
	pendingMapping = "kept"
	snapshotMax    = 2 * time.Minute // raft looks whether one is due every 30 to 60 s
	appliedMax     = 2 * time.Minute
	snapshotPoll   = time.Millisecond

	// Calls of so many events make enough entries of a million events for a snapshot, over so few connections that few are joined.
	snapshotCalls       = 40
	snapshotConnections = 2
	writing             = ".tmp" // of a snapshot's folder
)

var errNoSnapshot = errors.New("no node took a snapshot")

// pendings leaves many events pending while Redis is away, and looks what they cost: memory, a snapshot, a restart, and the time until they are delivered once Redis is back.
func (b *bench) pendings(ctx context.Context, w *world) error {
	if err := w.fill(ctx, b.pending); err != nil {
		return err
	}
	if err := w.declare(ctx, pendingMapping, itemsSpec(pendingMapping, mapping.JSON, mapping.WriteThrough)); err != nil {
		return err
	}
	live, resident, err := b.memory(ctx, w)
	if err != nil {
		return err
	}
	if err := w.KillRedis(ctx); err != nil {
		return err
	}
	took := make(chan time.Duration, 1)
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	go func() { took <- watchSnapshot(watching, w.dir) }() // ends with watching
	if err := b.fillOutbox(ctx, w); err != nil {
		return err
	}
	name := b.sized()
	liveFull, residentFull, err := b.memory(ctx, w)
	if err != nil {
		return err
	}
	perEvent := (liveFull - live) / float64(b.pending)
	if liveFull > live {
		b.figures["bytes_per_pending"] = perEvent
	}
	b.figures["resident_bytes_per_pending"] = (residentFull - resident) / float64(b.pending)
	b.text("%d pending events\t%.0f bytes each in the leader's heap, %.0f of its resident memory", b.pending, perEvent, (residentFull-resident)/float64(b.pending))
	if b.snapshots() {
		select {
		case d := <-took:
			b.figures["snapshot"+name+"_s"] = d.Seconds()
			b.text("their snapshot\t%.2f s", d.Seconds())
		case <-time.After(snapshotMax):
			return errNoSnapshot
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	restart, err := b.restart(ctx, w)
	if err != nil {
		return fmt.Errorf("restart: %w", err)
	}
	b.figures["restart"+name+"_s"] = restart.Seconds()
	b.text("restart of a node after kill -9, until it has applied all\t%.2f s", restart.Seconds())
	return b.recover(ctx, w, name)
}

// sized is how the figures tell how many events they are of.
func (b *bench) sized() string {
	if b.pending == million {
		return "_1m"
	}
	return fmt.Sprintf("_%d", b.pending)
}

func (b *bench) fillOutbox(ctx context.Context, w *world) error {
	perCall, connections := eventsPerCall, snapshotConnections
	if b.snapshots() {
		perCall = max(1, min(snapshotCalls, b.pending/(snapshotEntries+snapshotEntries/2)))
	}
	began := time.Now()
	if err := w.preload(ctx, pendingMapping, b.pending, perCall, connections); err != nil {
		return err
	}
	b.say("  %d events of %d a call took %s", b.pending, perCall, time.Since(began).Round(time.Millisecond))
	stats, err := w.stats(ctx)
	if err == nil && stats.Pending != b.pending {
		err = fmt.Errorf("%w: %d, and %d were accepted", errPending, stats.Pending, b.pending)
	}
	return err
}

// memory reads the leader's after it has collected its garbage: what lives in its heap, and what of it is resident. The heap is read by the goal that the collector set itself
// then, which is what lived and a known share more.
func (b *bench) memory(ctx context.Context, w *world) (live, resident float64, err error) {
	leader, err := w.q.AwaitLeader(ctx)
	if err != nil {
		return 0, 0, err
	}
	runs, err := w.q.Metric(ctx, leader, "go_gc_duration_seconds_count")
	if err != nil {
		return 0, 0, err
	}
	if b.binary == "" {
		if err := syscall.Kill(w.q.PID(leader), syscall.SIGUSR2); err != nil {
			return 0, 0, err
		}
		ctx, cancel := context.WithTimeout(ctx, appliedMax)
		defer cancel()
		for {
			now, err := w.q.Metric(ctx, leader, "go_gc_duration_seconds_count")
			if err != nil {
				return 0, 0, err
			}
			if now > runs {
				break
			}
			if err := wait(ctx, pollEvery); err != nil {
				return 0, 0, err
			}
		}
	}
	goal, goalErr := w.q.Metric(ctx, leader, "go_memstats_next_gc_bytes")
	percent, percentErr := w.q.Metric(ctx, leader, "go_gc_gogc_percent")
	pages, err := process.Resident(w.q.PID(leader))
	return goal / (1 + percent/100), float64(pages), errors.Join(goalErr, percentErr, err)
}

// watchSnapshot waits for the first snapshot of any node, and answers how long its folder was being written. It answers 0 when ctx ends.
func watchSnapshot(ctx context.Context, dir string) time.Duration {
	began := map[string]time.Time{}
	for ctx.Err() == nil {
		now := map[string]bool{}
		for node := range system.Members {
			entries, err := snapshotsOf(dir, node)
			if err != nil {
				continue
			}
			for _, e := range entries {
				path := fmt.Sprintf("%d/%s", node, strings.TrimSuffix(e.Name(), writing))
				if !strings.HasSuffix(e.Name(), writing) {
					if at, ok := began[path]; ok {
						return time.Since(at)
					}
					continue
				}
				now[path] = true
				if _, ok := began[path]; !ok {
					began[path] = time.Now()
				}
			}
		}
		if wait(ctx, snapshotPoll) != nil {
			break
		}
	}
	return 0
}

// hasSnapshot waits until the node has a snapshot to begin from.
func hasSnapshot(ctx context.Context, dir string, node int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, snapshotMax, errNoSnapshot)
	defer cancel()
	for {
		entries, err := snapshotsOf(dir, node)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !strings.HasSuffix(e.Name(), writing) {
				return nil
			}
		}
		if err := wait(ctx, pollEvery); err != nil {
			return err
		}
	}
}

func snapshotsOf(dir string, node int) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(filepath.Join(dir, fmt.Sprintf("n%d", node+1), "raft", "snapshots"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}

// restart kills a follower that has a snapshot and starts it again, until it is ready and has applied what the leader had.
func (b *bench) restart(ctx context.Context, w *world) (time.Duration, error) {
	leader, err := w.q.AwaitLeader(ctx)
	if err != nil {
		return 0, err
	}
	node := (leader + 1) % len(w.q.Addrs)
	if b.snapshots() {
		if err := hasSnapshot(ctx, w.dir, node); err != nil {
			return 0, err
		}
	}
	status, err := w.q.Status(ctx, leader)
	if err != nil {
		return 0, err
	}
	if err := w.q.Crash(node); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := w.q.Restart(ctx, node); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, appliedMax)
	defer cancel()
	for {
		now, err := w.q.Status(ctx, node)
		if err == nil && now.AppliedIndex >= status.AppliedIndex {
			return time.Since(began), nil
		}
		if over := wait(ctx, pollEvery); over != nil {
			return 0, errors.Join(over, err)
		}
	}
}

// recover brings Redis back and waits until nothing is pending.
func (b *bench) recover(ctx context.Context, w *world, name string) error {
	stop, err := b.profile(ctx, w, "recover")
	if err != nil {
		return err
	}
	if err := w.StartRedis(ctx); err != nil {
		return err
	}
	began := time.Now()
	err = w.drained(ctx)
	took := time.Since(began)
	if err := errors.Join(err, stop(ctx)); err != nil {
		return err
	}
	b.figures["drain"+name+"_s"] = took.Seconds()
	b.text("from Redis back to nothing pending\t%.1f s, %.0f events/s", took.Seconds(), float64(b.pending)/took.Seconds())
	return w.verify(ctx, pendingMapping, mapping.JSON, b.pending)
}
