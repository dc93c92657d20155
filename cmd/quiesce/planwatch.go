package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/quiescehq/quiesce/api"
)

// planWatched is how a plan is followed.
type planWatched struct {
	within       time.Duration
	check        string // a command of the shell, or empty
	checkEvery   time.Duration
	checkTimeout time.Duration
	goOn         bool // resume the plan when it was observed and the checks passed
}

func (f *planWatched) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.DurationVar(&f.within, "within", 0, "how long to watch (default to the end)")
	flags.StringVar(&f.check, "check", "", "run this command of the shell while the canary is observed; when it fails, so does the plan")
	flags.DurationVar(&f.checkEvery, "check-every", 30*time.Second, "time between two checks")
	flags.DurationVar(&f.checkTimeout, "check-timeout", 30*time.Second, "a check that takes longer has failed")
}

func (f *planWatched) parse() error {
	if f.checkEvery < time.Second || f.checkTimeout < time.Second {
		return usage("--check-every and --check-timeout are a second or more")
	}
	if f.within < 0 {
		return usage("--within must be a time to come")
	}
	return nil
}

func (c *cli) planWatch() *cobra.Command {
	f := &planWatched{goOn: true}
	cmd := &cobra.Command{
		Use:   "watch ID",
		Short: "Follow a plan to its end",
		Long: `Follow a plan to its end. The exit code tells it: 0 succeeded, 77 failed, 78 cancelled, 75 not over yet (Ctrl-C or --within), and it goes on.

With --check, take over the checking from a program that is gone: see quiesce plan new. The plan must have been made with --check or with
--pause-after-canary, and is resumed when its canary was observed and the checks passed.`,
		Args: takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := planPath(args[0])
			if err != nil {
				return err
			}
			if err := f.parse(); err != nil {
				return err
			}
			return f.followPath(cmd.Context(), c, path, args[0])
		},
	}
	f.flags(cmd)
	return cmd
}

func (f *planWatched) follow(ctx context.Context, c *cli, id uint64) error {
	text := fmt.Sprint(id)
	path, err := planPath(text)
	if err != nil {
		return err
	}
	return f.followPath(ctx, c, path, text)
}

// followPath shows the plan, with the checks beside it, until it has ended.
func (f *planWatched) followPath(parent context.Context, c *cli, path, id string) error {
	ctx, stop := signal.NotifyContext(parent, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if f.within > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.within)
		defer cancel()
	}
	view := newPlanView(c)
	var joined sync.WaitGroup
	defer joined.Wait()
	checking, stopChecking := context.WithCancel(ctx)
	defer stopChecking()
	checks := newPlanChecks(f, c, path, id, view)
	if f.check != "" {
		joined.Go(func() { checks.run(checking) })
	}
	say := func(text string) { view.say(text, "") }
	err := follow(ctx, c, path, say, func(p api.Plan) (bool, error) {
		checks.hear(p)
		if err := view.show(p); err != nil {
			return true, err
		}
		return planVerdict(p)
	})
	return f.detached(err, id)
}

// planVerdict tells whether a plan is over, and the exit code of how.
func planVerdict(p api.Plan) (bool, error) {
	switch p.State {
	case api.PlanSucceeded:
		return true, nil
	case api.PlanFailed:
		return true, &exitError{exitFailed, fmt.Errorf("plan %d failed: %s; quiesce plan show %d tells what became of each instance", p.ID, orDash(p.Why), p.ID)}
	case api.PlanCancelled:
		return true, &exitError{exitUndone, fmt.Errorf("plan %d was cancelled: %s", p.ID, orDash(p.Why))}
	}
	return false, nil
}

// detached says what becomes of a plan that nobody watches any more.
func (f *planWatched) detached(err error, id string) error {
	if !errors.Is(err, errUnfollowed) {
		return err
	}
	text := fmt.Sprintf("plan %s goes on without this program", id)
	if f.check != "" {
		text = fmt.Sprintf("plan %s goes on without this program, but not further than its canary", id)
	}
	return &exitError{exitNotInTime, fmt.Errorf("%s: quiesce plan watch %s follows it, quiesce plan cancel %s ends it", text, id, id)}
}
