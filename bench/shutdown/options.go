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
	partPlanned    = "planned"
	partKill       = "kill"
	partCalm       = "calm"
	partGrants     = "grants"
	partKeepalives = "keepalives"
	partBulk       = "bulk"
)

var parts = []string{partPlanned, partKill, partCalm, partGrants, partKeepalives, partBulk}

const (
	runsMax      = 200
	calmMax      = 8 * time.Minute // less than the sessions of the writers live
	instancesMax = 12_000          // three descriptors of each, and a process may have 20,000 here
	planMax      = 1_000           // instances of a plan
	keysMax      = 1_000_000
)

type options struct {
	json      bool
	only      []string
	runs      int
	every     time.Duration
	calm      time.Duration
	load      int
	planned   int
	budget    int
	work      time.Duration
	instances int
	services  int
	ttl       time.Duration
	keep      time.Duration
	atOnce    int
	keys      int
	others    int
	rounds    int
	root      string
	binary    string
	dir       string
	profiles  string
}

func (o options) has(part string) bool { return slices.Contains(o.only, part) }

func parse(args []string, out io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("shutdown", flag.ContinueOnError)
	flags.SetOutput(out)
	only := flags.String("only", strings.Join(parts, ","), "what to measure")
	flags.BoolVar(&o.json, "json", false, "print the JSON object only")
	flags.IntVar(&o.runs, "runs", 20, "how many leaders are stopped, and how many are killed")
	flags.DurationVar(&o.every, "every", 5*time.Millisecond, "time between the writes of the client at each node")
	flags.DurationVar(&o.calm, "calm", 20*time.Second, "length of the loaded run without faults")
	flags.IntVar(&o.load, "load", 64, "workers that load the cluster in the calm run, beside a writing client at each node")
	flags.IntVar(&o.planned, "plan-instances", 500, "instances of the restart plan")
	flags.IntVar(&o.budget, "max-unavailable", 25, "how many of them may be out of service")
	flags.DurationVar(&o.work, "work", 200*time.Millisecond, "time that each of their drains takes beside its requests")
	flags.IntVar(&o.instances, "instances", 10_000, "instances that are kept alive")
	flags.IntVar(&o.services, "services", 20, "of so many services")
	flags.DurationVar(&o.ttl, "ttl", 10*time.Second, "of their leases")
	flags.DurationVar(&o.keep, "keep", 20*time.Second, "length of each way of keeping them")
	flags.IntVar(&o.atOnce, "at-once", 32, "keepalives on their way at each node when as many as possible are sent")
	flags.IntVar(&o.keys, "keys", 10_000, "cache keys that are removed")
	flags.IntVar(&o.others, "other-keys", 10_000, "cache keys beside them that stay")
	flags.IntVar(&o.rounds, "rounds", 7, "how often they are removed in each way")
	flags.StringVar(&o.root, "root", "..", "folder of the sources that the node is built from")
	flags.StringVar(&o.binary, "node", "", "a quiesce-node that is built already")
	flags.StringVar(&o.dir, "dir", "", "where the temporary folder is made; on a disk, or nothing is synced (default: the system's)")
	flags.StringVar(&o.profiles, "profiles", "", "folder that gets profiles of leader, follower and client for grants and keepalives")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.only = strings.Split(*only, ",")
	return o, o.validate(flags.Args())
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
	case o.runs < 1 || o.runs > runsMax || o.rounds < 1 || o.rounds > runsMax:
		return fmt.Errorf("-runs and -rounds: between 1 and %d", runsMax)
	case o.every < time.Millisecond || o.every > time.Second:
		return errors.New("-every: between a millisecond and a second")
	case o.calm <= 0 || o.calm > calmMax || o.keep <= 0 || o.keep > calmMax:
		return fmt.Errorf("-calm and -keep: more than 0 and at most %s", calmMax)
	case o.load < 0 || o.load > 1_024 || o.atOnce < 1 || o.atOnce > 1_024:
		return errors.New("-load: between 0 and 1024; -at-once: between 1 and 1024")
	case o.planned < 2 || o.planned > planMax || o.budget < 1 || o.budget >= o.planned:
		return fmt.Errorf("-plan-instances: between 2 and %d; -max-unavailable: at least 1, and fewer than those", planMax)
	case o.work < 0 || o.work > 10*time.Second:
		return errors.New("-work: at most 10s")
	case o.services < 1 || o.services > planMax:
		return fmt.Errorf("-services: between 1 and %d", planMax)
	case o.instances < 1 || o.instances > instancesMax || o.ttl < time.Second || o.ttl > time.Minute:
		return fmt.Errorf("-instances: between 1 and %d; -ttl: between 1s and 1m", instancesMax)
	case o.keys < 1 || o.keys > keysMax || o.others < 0 || o.others > keysMax:
		return fmt.Errorf("-keys and -other-keys: at most %d", keysMax)
	case o.binary != "" && o.profiles != "":
		return errors.New("-profiles needs a node that is built for it: leave out -node")
	}
	return nil
}
