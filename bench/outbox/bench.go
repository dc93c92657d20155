package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/quiescehq/quiesce/bench/figure"
	"github.com/quiescehq/quiesce/bench/load"
	"github.com/quiescehq/quiesce/bench/process"
	"github.com/quiescehq/quiesce/bench/stores"
	"github.com/quiescehq/quiesce/bench/system"
)

// bench is one run.
type bench struct {
	options
	dir      string
	node     string // the binary that all parts use
	servers  *stores.Pair
	progress io.Writer
	place    figure.Place
	figures  figure.Figures
	rows     []string // for people, cells separated by tabs
}

func (b *bench) say(format string, a ...any) { fmt.Fprintf(b.progress, format+"\n", a...) }

// text notes a row for people.
func (b *bench) text(format string, a ...any) {
	line := fmt.Sprintf(format, a...)
	b.rows = append(b.rows, line)
	b.say("  %s", strings.ReplaceAll(line, "\t", ": "))
}

// all measures each part, on a cluster of its own. A part that fails has no figure, and the others have theirs.
func (b *bench) all(ctx context.Context) (err error) {
	if err := b.build(ctx); err != nil {
		return err
	}
	b.say("starting MySQL and Redis")
	if b.servers, err = stores.Start(ctx, b.root, filepath.Join(b.dir, "servers")); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.servers.Close()) }()
	var errs []error
	for _, part := range []struct {
		name string
		run  func(context.Context, *world) error
	}{
		{partAccept, b.accept}, {partDeliver, b.deliver}, {partLag, b.lags}, {partInsert, b.inserts}, {partPending, b.pendings},
	} {
		if !b.has(part.name) {
			continue
		}
		b.say("%s", part.name)
		if err := b.inWorld(ctx, part.name, part.run); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", part.name, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// build lays the profiler over the node, which also lets it be told to collect its garbage, before its memory is read.
func (b *bench) build(ctx context.Context) (err error) {
	b.node = b.binary
	if b.binary == "" {
		b.say("building the node")
		b.node, err = system.BuildNode(ctx, b.root, b.dir, true)
	}
	return err
}

// inWorld ends the cluster, whatever becomes of the part, and notes how busy the rest of the machine was.
func (b *bench) inWorld(ctx context.Context, name string, part func(context.Context, *world) error) (err error) {
	w, err := b.newWorld(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if name != partPending { // it replaces a process, whose time is gone then
		defer b.watchOthers(name, w)()
	}
	return part(ctx, w)
}

func (b *bench) watchOthers(name string, w *world) (stop func()) {
	pids := append(w.q.PIDs(), os.Getpid(), b.servers.MySQLPID(), b.servers.RedisPID())
	began := time.Now()
	own, ownErr := process.CPU(pids...)
	all, allErr := process.Busy()
	return func() {
		if w.beside != nil {
			pids = append(pids, w.beside.pids()...)
		}
		ownAfter, err := process.CPU(pids...)
		allAfter, errAll := process.Busy()
		if errors.Join(ownErr, allErr, err, errAll) == nil {
			others := (allAfter - all) - (ownAfter - own)
			b.figures["others_cores_"+name] = max(0, others.Seconds()) / time.Since(began).Seconds()
		}
	}
}

// profile takes profiles of a case, if they are wanted.
func (b *bench) profile(ctx context.Context, w *world, name string) (system.StopProfiles, error) {
	if b.profiles == "" {
		return func(context.Context) error { return nil }, nil
	}
	return w.q.Profiles(ctx, b.profiles, name)
}

// put notes the percentiles of durations.
func (b *bench) put(name string, s load.Sample) {
	b.figures[name+"_p50_ms"], b.figures[name+"_p99_ms"], b.figures[name+"_max_ms"] = load.Ms(s.P50), load.Ms(s.P99), load.Ms(s.Max)
}

// wait answers nil after a time, or why the run is over.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
