package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/quiescehq/quiesce/api"
)

func (c *cli) reconcileWatch() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "watch ID",
		Short: "Follow a pass to its end, or until it asks for an approval",
		Args:  takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.asJSON(asJSON)
			return c.watchPass(cmd.Context(), args[0])
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "the same as -o json: what was found, at the end")
	return cmd
}

// watchPass follows a pass, shows what it found, and makes the exit code of it.
func (c *cli) watchPass(parent context.Context, id string) error {
	path, err := passPath(id)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(parent, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	view := newPassView(c)
	err = follow(ctx, c, path, view.say, func(p api.Pass) (bool, error) { return !underWay(p), view.show(p) })
	if errors.Is(err, errUnfollowed) {
		return &exitError{exitNotInTime, fmt.Errorf("pass %s goes on without this program: quiesce reconcile watch %[1]s follows it, quiesce reconcile cancel %[1]s ends it", id)}
	}
	if err != nil {
		return err
	}
	report, err := c.reportOf(parent, id)
	if err != nil {
		return err
	}
	return c.concludePass(report)
}

// underWay tells whether a pass moves by itself, or will when somebody who paused it says so.
func underWay(p api.Pass) bool { return p.State == api.PassRunning || p.State == api.PassPaused }

// concludePass shows what a pass came to, and makes the exit code of it.
func (c *cli) concludePass(r passReport) error {
	err := c.show(r, func(w io.Writer) {
		fmt.Fprintln(w)
		writePass(w, r.Pass)
		writeFound(w, r, differencesShown)
	})
	if err != nil {
		return err
	}
	return passVerdict(r.Pass)
}

// passVerdict is the exit code of how a pass ended, with what to do next.
func passVerdict(p api.Pass) error {
	found := foundIn(p)
	switch {
	case p.State == api.PassHeld:
		return &exitError{exitDivergent, fmt.Errorf("pass %d is held: %s; quiesce reconcile approve %[1]d lets it go on, quiesce reconcile cancel %[1]d ends it", p.ID, p.Reason)}
	case p.State == api.PassFailed:
		return &exitError{exitFailed, fmt.Errorf("%s failed: %s", passName(p), p.Reason)}
	case p.State == api.PassCancelled:
		return &exitError{exitUndone, fmt.Errorf("%s was cancelled", passName(p))}
	case found == 0:
		return nil
	case p.ID == 0:
		return &exitError{exitDivergent, fmt.Errorf("%s differences", thousands(found))}
	case p.Mode == api.PassDryRun:
		return &exitError{exitDivergent, fmt.Errorf("%s differences; quiesce reconcile run %s --repair writes them anew", thousands(found), p.Mapping)}
	}
	return &exitError{exitDivergent, fmt.Errorf("%s differences were found and are being repaired; another pass tells whether any are left", thousands(found))}
}

func passName(p api.Pass) string {
	if p.ID == 0 {
		return "the comparison"
	}
	return fmt.Sprintf("pass %d", p.ID)
}
