package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// What can be measured by itself.
const (
	partClean   = "clean"
	partPlanted = "planted"
	partAlarms  = "alarms"
	partReads   = "reads"
	partMemory  = "memory"
)

var parts = []string{partClean, partPlanted, partAlarms, partReads, partMemory}

const (
	roundsMax = 50
	rowsMax   = 20_000_000
	rateMax   = 20_000
	plantMin  = 12 // three of each class
)

type options struct {
	json     bool
	short    bool
	only     []string
	rows     int
	rounds   int
	plant    int
	passes   int
	writes   int
	hot      int
	reads    int
	throttle int
	small    int
	large    int
	root     string
	binary   string
	dir      string
	profiles string
}

func (o options) has(part string) bool { return slices.Contains(o.only, part) }

func parse(args []string, out io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("reconcile", flag.ContinueOnError)
	flags.SetOutput(out)
	only := flags.String("only", strings.Join(parts, ","), "what to measure")
	flags.BoolVar(&o.json, "json", false, "print the JSON object only")
	flags.BoolVar(&o.short, "short", false, "small sizes, to try the command in less than a minute")
	flags.IntVar(&o.rows, "rows", 1_000_000, "rows of about 200 bytes")
	flags.IntVar(&o.rounds, "rounds", 5, "how often a pass and the loop beside it run")
	flags.IntVar(&o.plant, "plant", 1_000, "differences that are planted")
	flags.IntVar(&o.passes, "passes", 20, "passes under writes")
	flags.IntVar(&o.writes, "writes", 2_000, "writes a second meanwhile")
	flags.IntVar(&o.hot, "hot-rows", 100_000, "rows of the table that is written")
	flags.IntVar(&o.reads, "reads", 500, "reads a second of the application beside a throttled pass")
	flags.IntVar(&o.throttle, "throttle", 20_000, "rows a second of that pass")
	flags.IntVar(&o.small, "small", 10_000, "rows of the smallest table whose passes' memory is compared")
	flags.IntVar(&o.large, "large", 10_000_000, "rows of the largest")
	flags.StringVar(&o.root, "root", "..", "folder of the sources that the node is built from")
	flags.StringVar(&o.binary, "node", "", "a quiesce-node that is built already")
	flags.StringVar(&o.dir, "dir", "", "where the temporary folder is made; on a disk (default: the system's)")
	flags.StringVar(&o.profiles, "profiles", "", "folder that gets profiles of the leader during a clean pass and a search for what was planted")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.only = strings.Split(*only, ",")
	if o.short {
		o.rows, o.rounds, o.plant, o.passes, o.writes, o.hot, o.reads, o.small, o.large = 20_000, 2, 40, 2, 200, 5_000, 100, 1_000, 20_000
	}
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
	case o.rows < 1_000 || o.rows > rowsMax || o.hot < 100 || o.hot > rowsMax || o.small < 100 || o.large < o.small || o.large > rowsMax:
		return fmt.Errorf("-rows, -hot-rows, -small, -large: at most %d, and not too few", rowsMax)
	case o.rounds < 1 || o.rounds > roundsMax || o.passes < 1 || o.passes > roundsMax:
		return fmt.Errorf("-rounds and -passes: between 1 and %d", roundsMax)
	case o.plant < plantMin || o.plant > o.rows/4:
		return fmt.Errorf("-plant: at least %d, and at most a quarter of the rows", plantMin)
	case o.writes < 1 || o.writes > rateMax || o.reads < 1 || o.reads > rateMax || o.throttle < 100:
		return fmt.Errorf("-writes and -reads: between 1 and %d a second; -throttle: at least 100", rateMax)
	case o.binary != "" && o.profiles != "":
		return errors.New("-profiles needs a node that is built for it: leave out -node")
	}
	return nil
}
