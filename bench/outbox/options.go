package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// What can be measured by itself.
const (
	partAccept  = "accept"
	partDeliver = "deliver"
	partLag     = "lag"
	partInsert  = "insert"
	partPending = "pending"
)

var parts = []string{partAccept, partDeliver, partLag, partInsert, partPending}

const (
	roundsMax  = 50
	windowMax  = 5 * time.Minute
	eventsMax  = 1_000_000 // of the outbox
	rateMax    = 20_000
	callersMax = 1_024
	million    = 1_000_000
)

// snapshotEntries is how many log entries have to come before a node takes a snapshot by itself.
const snapshotEntries = 16_384

type options struct {
	json     bool
	short    bool
	only     []string
	rounds   int
	measured time.Duration
	callers  int
	events   int
	rate     int
	lag      time.Duration
	blocked  time.Duration
	pending  int
	root     string
	binary   string
	dir      string
	profiles string
}

func (o options) has(part string) bool { return slices.Contains(o.only, part) }

// snapshots tells whether the pending events are put into the log in so many entries that a snapshot follows.
func (o options) snapshots() bool { return o.pending > 4*snapshotEntries }

func parse(args []string, out io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("outbox", flag.ContinueOnError)
	flags.SetOutput(out)
	only := flags.String("only", strings.Join(parts, ","), "what to measure")
	flags.BoolVar(&o.json, "json", false, "print the JSON object only")
	flags.BoolVar(&o.short, "short", false, "everything in less than a minute; flags that are given beside it count")
	flags.IntVar(&o.rounds, "rounds", 3, "rounds of accept and deliver")
	flags.DurationVar(&o.measured, "measure", 2*time.Second, "length of each case of accept")
	flags.IntVar(&o.callers, "callers", 64, "callers with 1 event a call; a quarter of them with 100, an eighth with 1000")
	flags.IntVar(&o.events, "events", 300_000, "events that are preloaded and delivered")
	flags.IntVar(&o.rate, "rate", 1_000, "writes a second of lag and insert")
	flags.DurationVar(&o.lag, "lag", 6*time.Second, "length of each tier's lag")
	flags.DurationVar(&o.blocked, "blocked", 5*time.Second, "how long two nodes are stopped")
	flags.IntVar(&o.pending, "pending", million, "events that are left pending")
	flags.StringVar(&o.root, "root", "..", "folder of the sources that the node is built from")
	flags.StringVar(&o.binary, "node", "", "a quiesce-node that is built already")
	flags.StringVar(&o.dir, "dir", "", "where the temporary folder is made; on a disk, or nothing is synced (default: the system's)")
	flags.StringVar(&o.profiles, "profiles", "", "folder that gets CPU profiles of leader, follower and client")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if o.short {
		o.shorten(given)
	}
	o.only = strings.Split(*only, ",")
	return o, o.validate(flags.Args())
}

// shorten sets what is small enough for a test, but for what the caller chose.
func (o *options) shorten(given map[string]bool) {
	small := options{rounds: 1, measured: 300 * time.Millisecond, callers: 16, events: 6_000, rate: 200, lag: time.Second, blocked: 2 * time.Second, pending: 20_000}
	for name, set := range map[string]func(){
		"rounds": func() { o.rounds = small.rounds }, "measure": func() { o.measured = small.measured }, "callers": func() { o.callers = small.callers },
		"events": func() { o.events = small.events }, "rate": func() { o.rate = small.rate }, "lag": func() { o.lag = small.lag },
		"blocked": func() { o.blocked = small.blocked }, "pending": func() { o.pending = small.pending },
	} {
		if !given[name] {
			set()
		}
	}
}

func (o options) validate(rest []string) error {
	for _, part := range o.only {
		if !slices.Contains(parts, part) {
			return fmt.Errorf("-only %q: some of %s", part, strings.Join(parts, ","))
		}
	}
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q", rest[0])
	case o.rounds < 1 || o.rounds > roundsMax:
		return fmt.Errorf("-rounds: between 1 and %d", roundsMax)
	case o.measured <= 0 || o.measured > windowMax || o.lag <= 0 || o.lag > windowMax || o.blocked <= 0 || o.blocked > windowMax:
		return fmt.Errorf("-measure, -lag and -blocked: more than 0 and at most %s", windowMax)
	case o.callers < 8 || o.callers > callersMax:
		return fmt.Errorf("-callers: between 8 and %d", callersMax)
	case o.events < deliverRows || o.events > eventsMax || o.pending < eventsPerCall || o.pending > eventsMax:
		return fmt.Errorf("-events and -pending: between %d and %d", eventsPerCall, eventsMax)
	case o.rate < 1 || o.rate > rateMax:
		return fmt.Errorf("-rate: between 1 and %d", rateMax)
	case o.binary != "" && o.profiles != "":
		return errors.New("-profiles needs a node that is built for it: leave out -node")
	}
	return nil
}
