package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/quiescehq/quiesce/bench/figure"
	"github.com/quiescehq/quiesce/bench/stores"
	"github.com/quiescehq/quiesce/bench/system"
)

// bench is one run.
type bench struct {
	options
	dir      string
	node     string // the binary that all parts use
	stores   *stores.Pair
	progress io.Writer
	place    figure.Place
	figures  figure.Figures
	lines    []string // for people, cells separated by tabs
}

func (b *bench) say(format string, a ...any) { fmt.Fprintf(b.progress, format+"\n", a...) }

// text notes a row for people.
func (b *bench) text(format string, a ...any) {
	line := fmt.Sprintf(format, a...)
	b.lines = append(b.lines, line)
	b.say("  %s", strings.ReplaceAll(line, "\t", ": "))
}

// all measures each part, on a cluster of its own. A part that fails has no figure, and the others have theirs.
func (b *bench) all(ctx context.Context) (err error) {
	b.node = b.binary
	if b.binary == "" {
		b.say("building the node")
		if b.node, err = system.BuildNode(ctx, b.root, b.dir, b.profiles != ""); err != nil {
			return err
		}
	}
	b.say("starting MySQL and Redis")
	if b.stores, err = stores.Start(ctx, b.root, filepath.Join(b.dir, "stores")); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.stores.Close()) }()
	var errs []error
	for _, part := range []struct {
		name string
		run  func(context.Context, *world) error
	}{
		{partClean, b.clean}, {partPlanted, b.planted}, {partReads, b.readsBeside}, {partAlarms, b.alarms}, {partMemory, b.memory},
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

func (b *bench) inWorld(ctx context.Context, name string, part func(context.Context, *world) error) (err error) {
	w, err := b.newWorld(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	return part(ctx, w)
}

var goals = []figure.Goal{
	{Figure: "pass_ratio_bare_json", Limit: 0.6}, {Figure: "pass_ratio_bare_hash", Limit: 0.8},
	{Figure: "invented", Limit: 0, AtMost: true}, {Figure: "false_alarms_under_load", Limit: 0, AtMost: true},
	{Figure: "rss_ratio_10m_to_10k", Limit: 2, AtMost: true},
}

func (b *bench) report(out io.Writer) error {
	if !b.json {
		fmt.Fprintf(out, "%s Nodes, clients, MySQL and Redis share this machine.\n\n", b.place)
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, line := range b.lines {
			fmt.Fprintln(w, line)
		}
		b.figures.Compare(w, goals)
		fmt.Fprintln(w)
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return b.figures.Print(out)
}
