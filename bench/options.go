package main

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What can be measured by itself.
const (
	partSDK       = "sdk"
	partHTTP      = "http"
	partRedis     = "redis"
	partHandOff   = "handoff"
	partWaiters   = "waiters"
	partKeepalive = "keepalive"
)

var parts = []string{partSDK, partHTTP, partRedis, partHandOff, partWaiters, partKeepalive}

const (
	roundsMax  = 20
	workersMax = 1_024
	caseMax    = time.Minute
)

type options struct {
	json     bool
	measure  time.Duration // of one case
	warm     time.Duration
	rounds   int
	only     []string
	workers  []int
	contend  int // workers of the hand-off
	waiters  int
	live     int // sessions
	keep     time.Duration
	root     string
	binary   string
	dir      string
	profiles string
}

func (o options) has(part string) bool { return slices.Contains(o.only, part) }

// hasEtcd tells whether anything is compared with etcd.
func (o options) hasEtcd() bool {
	return o.has(partSDK) || o.has(partHTTP) || o.has(partHandOff) || o.has(partWaiters)
}

func parse(args []string, out io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(out)
	only := flags.String("only", strings.Join(parts, ","), "what to measure")
	workers := flags.String("workers", "1,16,64,256", "numbers of workers")
	seconds := flags.Float64("seconds", 2, "length of each case; a quarter of it more to warm up")
	keep := flags.Float64("keep-seconds", 15, "how long the live sessions are kept while the leader's CPU is measured")
	flags.BoolVar(&o.json, "json", false, "print the JSON object only")
	flags.IntVar(&o.rounds, "rounds", 3, "how often each case is measured")
	flags.IntVar(&o.contend, "contend", 16, "workers that want one lock")
	flags.IntVar(&o.waiters, "waiters", 1_000, "waiters on one lock")
	flags.IntVar(&o.live, "sessions", 100_000, "live sessions")
	flags.StringVar(&o.root, "root", "..", "folder of the sources that the node is built from")
	flags.StringVar(&o.binary, "node", "", "a quiesce-node that is built already")
	flags.StringVar(&o.dir, "dir", "", "where the temporary folder is made; on a disk, or nothing is synced (default: the system's)")
	flags.StringVar(&o.profiles, "profiles", "", "folder that gets CPU profiles of leader, follower and client, for each Quiesce case of the last round")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.measure, o.keep = secondsOf(*seconds), secondsOf(*keep)
	o.warm = o.measure / 4
	o.only = strings.Split(*only, ",")
	for text := range strings.SplitSeq(*workers, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			return o, fmt.Errorf("-workers: %q is not a number", text)
		}
		o.workers = append(o.workers, n)
	}
	return o, o.validate(flags.Args())
}

func secondsOf(f float64) time.Duration { return time.Duration(f * float64(time.Second)) }

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
	case o.measure <= 0 || o.measure > caseMax || o.keep <= 0 || o.keep > caseMax:
		return fmt.Errorf("-seconds and -keep-seconds: more than 0 and at most %s", caseMax)
	case slices.Min(o.workers) < 1 || slices.Max(o.workers) > workersMax || o.contend < 1 || o.contend > workersMax:
		return fmt.Errorf("-workers and -contend: between 1 and %d", workersMax)
	case o.waiters < 1 || o.waiters > 10_000 || o.live < 1 || o.live > 100_000:
		return fmt.Errorf("-waiters: between 1 and 10000; -sessions: between 1 and 100000")
	case o.binary != "" && o.profiles != "":
		return fmt.Errorf("-profiles needs a node that is built for it: leave out -node")
	}
	return nil
}
