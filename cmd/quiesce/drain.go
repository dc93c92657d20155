package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/quiescehq/quiesce/api"
)

// Until when drain --wait waits.
const (
	waitGranted = "granted" // the instance has begun to stop
	waitLeft    = "left"    // it has stopped
)

// drainRun is one drain that an operator asks for.
type drainRun struct {
	cli    *cli
	ask    api.DrainInstance
	wait   string
	within time.Duration
}

func (c *cli) drainCommand() *cobra.Command {
	r := &drainRun{cli: c}
	cmd := &cobra.Command{
		Use:   "drain ID|SERVICE/NAME",
		Short: "Stop an instance when its service's budget has room",
		Long: `Ask an instance to stop. It goes on serving until the budget of its service has room, and then drains by itself: what it has begun it ends.

--wait follows it until it has left, and its exit code tells how: 0 it left in order, 76 it was forced or lost, 78 somebody undid the drain,
75 it was not over --within the time, and goes on. --wait=granted ends when the drain begins: from then on the instance may be deleted or
signalled, its drain goes on. Ctrl-C ends the waiting, not the drain; quiesce undo takes a drain back.`,
		Example: `  quiesce drain orders/web-1 --reason "kernel update" --wait --within 10m
  quiesce drain orders/web-1 --wait=granted && kubectl delete pod web-1   # the ticket before the deletion`,
		Args: takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if r.wait != "" && r.wait != waitGranted && r.wait != waitLeft {
				return usage("--wait is for %s or %s, not %q; mind the sign: --wait=%s", waitLeft, waitGranted, r.wait, waitGranted)
			}
			if r.within < 0 || r.within > 0 && r.wait == "" {
				return usage("--within is a time to come, and goes with --wait")
			}
			id, err := c.findInstance(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return r.run(cmd.Context(), id)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&r.ask.Intent, "intent", api.IntentRestart, "restart: its place is kept for its successor; remove: it goes for good")
	flags.StringVar(&r.ask.Reason, "reason", "", "why, for those who look")
	flags.StringVar(&r.wait, "wait", "", "follow it until it has left, or with --wait=granted until it begins to stop")
	flags.Lookup("wait").NoOptDefVal = waitLeft
	flags.DurationVar(&r.within, "within", 0, "how long to wait (default as long as it takes)")
	return cmd
}

func (r *drainRun) run(ctx context.Context, id string) error {
	var status api.InstanceStatus
	if err := r.cli.post(ctx, instancePath(id)+"/drain", r.ask, &status); err != nil {
		return err
	}
	if r.wait == "" {
		return r.cli.show(status, func(w io.Writer) { writeStatus(w, id, status) })
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if r.within > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.within)
		defer cancel()
	}
	f := &drainFollow{run: r, id: id}
	err := follow(ctx, r.cli, instancePath(id), r.cli.say, f.see)
	switch {
	case !errors.Is(err, errUnfollowed):
		return err
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &exitError{exitNotInTime, fmt.Errorf("%s is not over within %s: it is %s and goes on; quiesce undo %s takes it back", id, r.within, f.last, id)}
	}
	return &exitError{exitNotInTime, fmt.Errorf("the drain of %s goes on; quiesce undo %s takes it back", id, id)}
}

// writeStatus says how an instance stands after what was asked.
func writeStatus(w io.Writer, id string, s api.InstanceStatus) {
	fmt.Fprintln(w, plain(fmt.Sprintf("%s is %s", id, strings.Join(stands(s), ", "))))
}

// stands is a state with what there is to say of it.
func stands(s api.InstanceStatus) []string {
	parts := []string{s.State}
	if s.Overdraft {
		parts = append(parts, "overdraft")
	}
	if s.State == api.StateQueued {
		parts = append(parts, fmt.Sprintf("position %d, waits for %s", s.Position, waitsFor(s)))
		parts = append(parts, blockersOf(s.Blockers)...)
		if s.EarliestGrantInMs > 0 {
			parts = append(parts, "no grant before "+span(s.EarliestGrantInMs))
		}
	}
	return parts
}

// blockersShown is for one line; quiesce instance shows all.
const blockersShown = 3

func blockersOf(blockers []api.Blocker) []string {
	var parts []string
	for i, b := range blockers {
		if i == blockersShown {
			return append(parts, fmt.Sprintf("and %d more", len(blockers)-i))
		}
		parts = append(parts, fmt.Sprintf("%s is %s", b.Name, b.Why))
	}
	return parts
}

// drainFollow reads a drain until it is over.
type drainFollow struct {
	run  *drainRun
	id   string
	last string // what was said last
}

func (f *drainFollow) see(i api.Instance) (bool, error) {
	line := i.Service + "/" + i.Name + " is " + drainLine(i)
	if line != f.last {
		f.last = line
		if err := f.run.cli.showLine(i, time.Now().Format(time.TimeOnly)+"  "+line); err != nil {
			return true, err
		}
	}
	return f.verdict(i)
}

func drainLine(i api.Instance) string {
	parts := stands(i.InstanceStatus)
	if i.Phase != "" {
		parts[0] += " in " + i.Phase
	}
	if len(i.Counters) > 0 && i.State == api.StateDraining {
		parts = append(parts, countersOf(i.Counters))
	}
	return strings.Join(parts, ", ")
}

// verdict tells whether it is over, and the exit code of how.
func (f *drainFollow) verdict(i api.Instance) (bool, error) {
	switch i.State {
	case api.StateLeft:
		return true, nil
	case api.StateForced, api.StateLost:
		return true, &exitError{exitLost, fmt.Errorf("%s was %s; quiesce instance %s shows what was done with what it left behind", f.id, i.State, f.id)}
	case api.StateReady, api.StatePaused, api.StateRegistered:
		return true, &exitError{exitUndone, fmt.Errorf("the drain of %s was undone: it is %s", f.id, i.State)}
	case api.StateDraining, api.StateDrained:
		return f.run.wait == waitGranted, nil
	}
	return false, nil
}

func (c *cli) undoCommand() *cobra.Command {
	return c.wishCommand("undo", "Take a drain back: possible until the instance gives its locks back", nil)
}

func (c *cli) pauseCommand() *cobra.Command {
	var force bool
	cmd := c.wishCommand("pause", "Take an instance out of service for a while, if the budget has room", &force)
	cmd.Flags().BoolVar(&force, "force", false, "even if the budget has no room; it counts as an overdraft")
	return cmd
}

func (c *cli) resumeCommand() *cobra.Command {
	return c.wishCommand("resume", "Put a paused instance into service again", nil)
}

// wishCommand makes one of the short commands to an instance.
func (c *cli) wishCommand(verb, short string, force *bool) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   verb + " ID|SERVICE/NAME",
		Short: short,
		Args:  takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := c.findInstance(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			ask := api.InstanceWish{Reason: reason, Force: force != nil && *force}
			var status api.InstanceStatus
			if err := c.post(cmd.Context(), instancePath(id)+"/"+verb, ask, &status); err != nil {
				return err
			}
			return c.show(status, func(w io.Writer) { writeStatus(w, id, status) })
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who look")
	return cmd
}
