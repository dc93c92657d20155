package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/quiescehq/quiesce/bench/figure"
)

const (
	exitFailed = 1
	exitUsage  = 64
)

func main() {
	// After the first signal a second one ends the process at once, and with it, by the kernel, its children.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "reconcile: %v\n", err)
		return exitUsage
	}
	if err := measure(ctx, o, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "reconcile: %v\n", err)
		return exitFailed
	}
	return 0
}

// measure runs all and prints the result: the table for people first, the figures for programs on the last line.
func measure(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	dir, err := os.MkdirTemp(o.dir, "quiesce-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{options: o, dir: dir, progress: stderr, figures: figure.Figures{}, place: figure.PlaceOf(dir)}
	if o.json {
		b.progress = io.Discard
	}
	failed := b.all(ctx)
	return errors.Join(failed, b.report(stdout))
}
