package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 64

	// demoTimeout ends a run that hangs in spite of the bounds of its steps.
	demoTimeout = 10 * time.Minute
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

type options struct {
	script string // of the cluster
	dir    string // of the cluster, absolute
	json   bool
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "demo: %v\n", err)
		return exitUsage
	}
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	r := newReport(stderr)
	d := &demo{options: o, report: r}
	err = d.play(ctx)
	if !r.ok() && ctx.Err() == nil {
		d.evidence(stderr)
	}
	if err != nil {
		r.say("stopped: %v", err)
	}
	if err := r.print(stdout, o.json); err != nil {
		fmt.Fprintf(stderr, "demo: %v\n", err)
		return exitFailed
	}
	if !r.ok() {
		return exitFailed
	}
	return exitOK
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.script, "script", "", "scripts/cluster.sh, absolute")
	flags.StringVar(&o.dir, "dir", "", "the cluster's folder, absolute")
	flags.BoolVar(&o.json, "json", false, "one JSON object on stdout instead of a table")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.script == "" || o.dir == "" || flags.NArg() > 0 {
		return o, fmt.Errorf("needs --script and --dir and takes no arguments; run it through scripts/cluster.sh demo")
	}
	return o, nil
}
