package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/bench/figure"
	"github.com/quiescehq/quiesce/bench/load"
	"github.com/quiescehq/quiesce/bench/process"
	"github.com/quiescehq/quiesce/bench/system"
)

// bench is one run.
type bench struct {
	options
	dir      string
	node     string // the binary that all parts use
	progress io.Writer
	place    figure.Place
	figures  figure.Figures
	rows     []row // for people
	dev      bool  // a development node instead of a cluster, to try the parts that stop none
}

func (b *bench) say(format string, a ...any) { fmt.Fprintf(b.progress, format+"\n", a...) }

// all measures each part, on a cluster of its own, and how busy the rest of the machine was meanwhile. A part that fails has no figure, and
// the others have theirs.
func (b *bench) all(ctx context.Context) error {
	if err := b.build(ctx); err != nil {
		return err
	}
	var errs []error
	for _, part := range []struct {
		name string
		run  func(context.Context, *system.Quiesce) error
	}{
		{partPlanned, b.planned}, {partKill, b.killed}, {partCalm, b.calmRun}, {partGrants, b.grants}, {partKeepalives, b.keepalives},
	} {
		if !b.has(part.name) {
			continue
		}
		b.say("%s", part.name)
		if err := b.withCluster(ctx, part.name, part.run); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", part.name, err))
		}
		if ctx.Err() != nil {
			return errors.Join(errs...)
		}
	}
	if b.has(partBulk) {
		b.say("%s", partBulk)
		if err := b.bulk(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", partBulk, err))
		}
	}
	return errors.Join(errs...)
}

func (b *bench) build(ctx context.Context) (err error) {
	b.node = b.binary
	if b.binary == "" && (len(b.only) > 1 || !b.has(partBulk)) {
		b.say("building the node")
		b.node, err = system.BuildNode(ctx, b.root, b.dir, b.profiles != "")
	}
	return err
}

// withCluster ends the cluster, whatever becomes of the part.
func (b *bench) withCluster(ctx context.Context, name string, part func(context.Context, *system.Quiesce) error) (err error) {
	dir := filepath.Join(b.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	c := system.QuiesceConfig{Binary: b.node, Dir: dir, Dev: b.dev}
	if b.profiles != "" {
		c.Profiles = dir
	}
	q, err := system.StartQuiesce(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	defer b.watchOthers(name, q)()
	return part(ctx, q)
}

// watchOthers notes how many cores everything else on the machine used, but for a part that replaces its processes: their time is gone.
func (b *bench) watchOthers(name string, q *system.Quiesce) (stop func()) {
	if name == partPlanned || name == partKill {
		return func() {}
	}
	pids := append(q.PIDs(), os.Getpid())
	began := time.Now()
	own, ownErr := process.CPU(pids...)
	all, allErr := process.Busy()
	return func() {
		ownAfter, err := process.CPU(pids...)
		allAfter, errAll := process.Busy()
		if errors.Join(ownErr, allErr, err, errAll) == nil {
			others := (allAfter - all) - (ownAfter - own)
			b.figures["others_cores_"+name] = max(0, others.Seconds()) / time.Since(began).Seconds()
		}
	}
}

// profile takes profiles of a case, if they are wanted.
func (b *bench) profile(ctx context.Context, q *system.Quiesce, name string) (system.StopProfiles, error) {
	if b.profiles == "" {
		return func(context.Context) error { return nil }, nil
	}
	return q.Profiles(ctx, b.profiles, name)
}

// progress is the leader, and how far the cluster is as it knows it: its applied index counts the entries of the log, its index what
// commands have changed.
func progress(ctx context.Context, q *system.Quiesce) (leader int, status api.Cluster, err error) {
	if leader, err = q.AwaitLeader(ctx); err == nil {
		status, err = q.Status(ctx, leader)
	}
	return leader, status, err
}

// put notes a sample of durations under the usual names.
func (b *bench) put(name string, s load.Sample) {
	b.figures[name+"_ms_p50"], b.figures[name+"_ms_p99"], b.figures[name+"_ms_max"] = load.Ms(s.P50), load.Ms(s.P99), load.Ms(s.Max)
}
