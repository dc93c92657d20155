package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/quiescehq/quiesce/api"
)

// planDraft is a plan that is about to be made.
type planDraft struct {
	cli           *cli
	ask           api.NewPlan
	canary, wave  string
	observe       time.Duration
	deadline      time.Duration
	watch         bool
	watched       planWatched
	pauseByPerson bool
}

const planNewLong = `Make a plan that restarts or shuts down services in the order of their dependencies. The cluster carries it out by itself: it goes on when
this program ends.

For each service: the canary first, then the observation, then waves, or as many at a time as the budget has room for. The plan fails, and
asks nobody further, when --halt-after instances were lost, forced, or had no successor.

--check runs a command from time to time while the canary is observed. When it fails, the plan is cancelled as failed. When the observation
is over and the command has succeeded, the plan goes on. It is the plan that waits for this program: when this program is gone, the plan
stays paused after the canary, for somebody to resume or cancel it.`

func (c *cli) planNew() *cobra.Command {
	d := &planDraft{cli: c}
	cmd := &cobra.Command{
		Use:   "new --service NAME",
		Short: "Make a plan, and start and watch it",
		Long:  planNewLong,
		Example: `  quiesce plan new --service orders --service stock --dry-run      # the order, the rounds, the worst time
  quiesce plan new --service orders --canary 5% --observe 20m --check './errors-are-low' --reason "release 42"
  quiesce plan new --intent shutdown --service orders --allow-zero --start --watch`,
		Args: takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := d.parse(); err != nil {
				return err
			}
			return d.make(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&d.ask.Intent, "intent", api.PlanRestart, "restart or shutdown")
	flags.StringSliceVar(&d.ask.Services, "service", nil, "what to restart or shut down; may be given more than once")
	flags.StringVar(&d.canary, "canary", "", "so many instances of each service first: a number or a percentage, such as 5%")
	flags.StringVar(&d.wave, "wave", "", "so many at a time, and the next when all are through (default as many as the budget allows)")
	flags.DurationVar(&d.observe, "observe", 0, "watch so long after the canary before going on")
	flags.BoolVar(&d.pauseByPerson, "pause-after-canary", false, "after the observation, wait for quiesce plan resume")
	flags.Uint32Var(&d.ask.HaltAfter, "halt-after", 0, "fail when so many instances of a service did not come through (default 1)")
	flags.DurationVar(&d.deadline, "deadline", 0, "fail when it is not over so long after its start")
	flags.BoolVar(&d.ask.AllowZero, "allow-zero", false, "a shutdown leaves nobody: it must be said")
	flags.StringVar(&d.ask.Reason, "reason", "", "why, for those who look")
	flags.BoolVar(&d.ask.Start, "start", false, "at once, instead of leaving a draft")
	flags.BoolVar(&d.ask.DryRun, "dry-run", false, "show the schedule and what it may take; make nothing")
	flags.BoolVar(&d.watch, "watch", false, "follow it to its end; starts it")
	d.watched.flags(cmd)
	return cmd
}

// parse turns what was typed into what is asked.
func (d *planDraft) parse() error {
	var err error
	if len(d.ask.Services) == 0 {
		return usage("which services? quiesce plan new --service NAME")
	}
	if d.canary != "" {
		if d.ask.Canary, d.ask.CanaryPercent, err = share("canary", d.canary); err != nil {
			return err
		}
	}
	if d.wave != "" {
		if d.ask.Wave, d.ask.WavePercent, err = share("wave", d.wave); err != nil {
			return err
		}
	}
	d.ask.ObserveMs, d.ask.DeadlineMs = millis(d.observe), millis(d.deadline)
	d.ask.PauseAfter = d.pauseByPerson
	if checked := d.watched.check != ""; checked {
		if d.canary == "" || d.observe <= 0 {
			return usage("--check looks at a canary: say how many with --canary, and for how long with --observe")
		}
		d.watched.goOn = !d.pauseByPerson
		d.ask.PauseAfter, d.watch = true, true
	}
	d.ask.Start = d.ask.Start || d.watch
	if d.ask.DryRun {
		d.ask.Start = false
	}
	return d.watched.parse()
}

func (d *planDraft) make(ctx context.Context) error {
	var made api.PlanStatus
	if err := d.cli.post(ctx, "/v1/plans", d.ask, &made); err != nil {
		return err
	}
	if d.ask.DryRun {
		return d.cli.show(made.Plan, func(w io.Writer) { writePlan(w, *made.Plan) })
	}
	if d.watch {
		return d.watched.follow(ctx, d.cli, made.ID)
	}
	var p api.Plan
	if err := d.cli.call(ctx, http.MethodGet, fmt.Sprint("/v1/plans/", made.ID), nil, &p); err != nil {
		return err
	}
	return d.cli.show(p, func(w io.Writer) {
		writePlan(w, p)
		if d.ask.Start {
			fmt.Fprintf(w, "\nquiesce plan watch %d follows it, quiesce plan cancel %d ends it\n", p.ID, p.ID)
		} else {
			fmt.Fprintf(w, "\nit is a draft; quiesce plan start %d starts it\n", p.ID)
		}
	})
}
