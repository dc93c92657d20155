package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/quiescehq/quiesce/api"
)

// act is what all acts of an operator have.
type act struct {
	reason string
	by     string
}

func (a *act) flags(cmd *cobra.Command, c *cli) {
	cmd.Flags().StringVar(&a.reason, "reason", "", "why: it goes into the audit, and holders are told")
	cmd.Flags().StringVar(&a.by, "by", c.operator(), "who does it, for the audit")
}

func (a *act) check(doing string) error {
	if a.reason == "" {
		return usage("%s needs a --reason: it goes into the audit", doing)
	}
	return nil
}

// operator is a guess at who sits here, for the audit; nobody checks it.
func (c *cli) operator() string {
	host, err := os.Hostname()
	if err != nil {
		return c.getenv("USER")
	}
	if user := c.getenv("USER"); user != "" {
		return user + "@" + host
	}
	return host
}

func (c *cli) lockRelease() *cobra.Command {
	var a act
	var force bool
	var token uint64
	cmd := &cobra.Command{
		Use:   "release NAME --force --reason TEXT",
		Short: "Take a lock from its holders at once",
		Long: `Take a lock from its holders at once: the next in line gets it in the same moment.

A holder that still runs does not stop by that. Only a resource that checks fencing tokens is safe from it. If the holder can be asked, use
"quiesce lock revoke", which gives it time.`,
		Args: takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !force {
				return usage("a lock is given back by its holder; --force takes it away while the holder may still be at work " +
					"(quiesce lock revoke asks for it first)")
			}
			if err := a.check("--force"); err != nil {
				return err
			}
			var taken api.Taken
			err := c.post(cmd.Context(), "/v1/locks/force-release",
				api.ForceReleaseLock{Name: args[0], Token: token, Reason: a.reason, By: a.by}, &taken)
			if err != nil {
				return err
			}
			return c.show(taken, func(w io.Writer) { writeTaken(w, taken, "taken from") })
		},
	}
	a.flags(cmd, c)
	cmd.Flags().BoolVar(&force, "force", false, "take it although the holder has not given it back")
	cmd.Flags().Uint64Var(&token, "token", 0, "only the grant with this token")
	return cmd
}

func (c *cli) lockRevoke() *cobra.Command {
	var a act
	var within time.Duration
	var token uint64
	cmd := &cobra.Command{
		Use:   "revoke NAME --reason TEXT",
		Short: "Ask the holders to give a lock back, and take it when the time is up",
		Args:  takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.check("a revocation"); err != nil {
				return err
			}
			if within < time.Millisecond {
				return usage("--within must be a time to come; quiesce lock release --force takes a lock at once")
			}
			var taken api.Taken
			err := c.post(cmd.Context(), "/v1/locks/revoke",
				api.RevokeLock{Name: args[0], Token: token, WithinMs: millis(within), Reason: a.reason, By: a.by}, &taken)
			if err != nil {
				return err
			}
			return c.show(taken, func(w io.Writer) { writeTaken(w, taken, "asked to give it back within "+within.String()+":") })
		},
	}
	a.flags(cmd, c)
	cmd.Flags().DurationVar(&within, "within", 30*time.Second, "how long the holders have")
	cmd.Flags().Uint64Var(&token, "token", 0, "only the grant with this token")
	return cmd
}

func writeTaken(w io.Writer, taken api.Taken, done string) {
	if len(taken.Grants) == 0 {
		fmt.Fprintln(w, "nobody holds it")
	}
	for _, g := range taken.Grants {
		fmt.Fprintf(w, "%s %s (token %d)\n", done, plain(who(g.Session, g.Owner)), g.Token)
	}
}

func (c *cli) lockHandOff() *cobra.Command {
	var ask api.HandOffLock
	cmd := &cobra.Command{
		Use:   "handoff NAME [--to SESSION]",
		Short: "Pass a lock from its holder to one who waits for it",
		Args:  takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			ask.Name = args[0]
			if ask.Session == "" {
				if err := c.onlyHolder(cmd.Context(), &ask); err != nil {
					return err
				}
			}
			var handed api.HandedOff
			if err := c.post(cmd.Context(), "/v1/locks/handoff", ask, &handed); err != nil {
				return err
			}
			return c.show(handed, func(w io.Writer) {
				fmt.Fprintf(w, "%s has it now (token %d, ticket %d)\n", handed.Session, handed.Token, handed.Ticket)
			})
		},
	}
	cmd.Flags().StringVar(&ask.Session, "session", "", "session of the holder, when there are several")
	cmd.Flags().StringVar(&ask.To, "to", "", "session of the waiter that gets it; the first in line by default")
	cmd.Flags().Uint64Var(&ask.Token, "token", 0, "token of the grant, when the session has several")
	return cmd
}

func (c *cli) onlyHolder(ctx context.Context, ask *api.HandOffLock) error {
	lock, err := c.findLock(ctx, ask.Name)
	switch {
	case err != nil:
		return err
	case lock.HoldersTotal == 0:
		return fmt.Errorf("nobody holds %q", ask.Name)
	case lock.HoldersTotal > 1:
		return usage("%q has %d holders: say with --session which one hands it off", ask.Name, lock.HoldersTotal)
	}
	ask.Session = lock.Holders[0].Session
	if ask.Token == 0 {
		ask.Token = lock.Holders[0].Token // so that only the grant that was seen is handed off
	}
	return nil
}

func (c *cli) lockCancel() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "cancel TICKET",
		Short: "End a wait for a lock",
		Args:  takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			ticket, err := strconv.ParseUint(args[0], 10, 53)
			if err != nil || ticket == 0 {
				return usage("%q is no ticket: quiesce lock show NAME shows those of the waiters", args[0])
			}
			if err := c.cancelWait(cmd.Context(), ticket, reason); err != nil {
				return err
			}
			return c.done("ticket %d is cancelled", ticket)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why: it goes into the audit")
	return cmd
}

func (c *cli) cancelWait(ctx context.Context, ticket uint64, reason string) error {
	return c.post(ctx, "/v1/locks/cancel", api.CancelWait{Ticket: ticket, Reason: reason}, nil)
}

func millis(d time.Duration) uint64 { return uint64(max(0, d.Milliseconds())) }
