package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/quiescehq/quiesce/mapping"
)

const (
	atLeast      = 10 * time.Second // of passes over each table, so that the collector is in its usual rhythm
	bytesPerRow  = 420              // of Redis, key included, as measured
	diskPerRow   = 900              // of MySQL with its logs, with room to spare
	resetPeakRSS = "5"              // what clear_refs takes for it
)

var errNoRoom = errors.New("there is no room for the table")

// memory compares the peak memory of the leader during passes over tables of very different sizes. Its state is in it.
func (b *bench) memory(ctx context.Context, w *world) error {
	middle := max(b.small, b.large/100)
	peaks := map[int]float64{}
	for _, rows := range []int{b.small, middle, b.large} {
		if err := room(b.dir, rows); err != nil {
			b.text("memory over %d rows\tnot measured: %v", rows, err)
			return nil
		}
		peak, err := b.peak(ctx, w, rows)
		if err != nil {
			return err
		}
		peaks[rows] = peak
		b.text("peak memory of the leader, passes over %d rows\t%.0f MiB", rows, peak/(1<<20))
	}
	b.figures["rss_mib_small"], b.figures["rss_mib_middle"], b.figures["rss_mib_large"] = peaks[b.small]/(1<<20), peaks[middle]/(1<<20), peaks[b.large]/(1<<20)
	name := "rss_ratio_large_to_small"
	if b.small == 10_000 && b.large == 10_000_000 {
		name = "rss_ratio_10m_to_10k"
	}
	b.figures[name] = peaks[b.large] / peaks[b.small]
	return nil
}

func (b *bench) peak(ctx context.Context, w *world, rows int) (float64, error) {
	name := fmt.Sprintf("sized-%d", rows)
	if err := w.Cache.FlushAll(ctx).Err(); err != nil {
		return 0, err
	}
	if err := w.fillTable(ctx, rows); err != nil {
		return 0, err
	}
	if err := w.fillCache(ctx, name, mapping.JSON); err != nil {
		return 0, err
	}
	if err := w.declare(ctx, name, mapping.JSON); err != nil {
		return 0, err
	}
	leader, err := w.q.AwaitLeader(ctx)
	if err != nil {
		return 0, err
	}
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", w.q.PID(leader)), []byte(resetPeakRSS), 0); err != nil {
		return 0, err
	}
	for began := time.Now(); ; {
		if _, err := w.cleanPass(ctx, name, rows); err != nil {
			return 0, err
		}
		if b.short || time.Since(began) > atLeast {
			break
		}
	}
	now, err := w.q.AwaitLeader(ctx)
	if err == nil && now != leader {
		err = fmt.Errorf("%w: the leader changed", errPass)
	}
	if err != nil {
		return 0, err
	}
	return peakOf(w.q.PID(leader))
}

func peakOf(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			var kib float64
			_, err := fmt.Sscan(value, &kib)
			return kib * 1024, err
		}
	}
	return 0, fmt.Errorf("%w: no peak in the status of process %d", errPass, pid)
}

// room looks at the disk of the folder and at the memory before a large table is made.
func room(dir string, rows int) error {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(dir, &disk); err != nil {
		return err
	}
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return err
	}
	var available float64
	for line := range strings.SplitSeq(string(text), "\n") {
		if value, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			if _, err := fmt.Sscan(value, &available); err != nil {
				return err
			}
		}
	}
	needRAM, needDisk := 1.5*float64(rows)*bytesPerRow, float64(rows)*diskPerRow
	if haveDisk := float64(disk.Bavail) * float64(disk.Bsize); available*1024 < needRAM || haveDisk < needDisk {
		return fmt.Errorf("%w: %d rows need %.1f GiB of memory and %.1f of disk, and %.1f and %.1f are free", errNoRoom, rows, needRAM/(1<<30), needDisk/(1<<30), available/(1<<20), haveDisk/(1<<30))
	}
	return nil
}
