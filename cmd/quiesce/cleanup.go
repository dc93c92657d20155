package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quiescehq/quiesce/api"
)

func (c *cli) cleanupCommand() *cobra.Command {
	return group("cleanup", "Remove the cache keys of services that are gone", c.cleanupNew(), c.cleanupLs(), c.cleanupShow(), c.cleanupCancel())
}

func (c *cli) cleanupNew() *cobra.Command {
	var ask api.NewCleanup
	var delay time.Duration
	cmd := &cobra.Command{
		Use:   "new --target NAME --pattern 'PREFIX*'",
		Short: "Remove keys by pattern, once no live instance declares an overlapping one",
		Example: `  quiesce cleanup new --target cache --pattern 'orders:*' --dry-run   # counts them
  quiesce cleanup new --target cache --pattern 'orders:*' --reason "orders is gone"`,
		Args: takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if ask.Target == "" || len(ask.Patterns) == 0 {
				return usage("a cleanup needs --target and --pattern")
			}
			ask.DelayMs = millis(delay)
			var made api.CleanupID
			if err := c.post(cmd.Context(), "/v1/cleanups", ask, &made); err != nil {
				return err
			}
			return c.show(made, func(w io.Writer) {
				fmt.Fprintf(w, "cleanup %d; quiesce cleanup show %d tells how far it is\n", made.ID, made.ID)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&ask.Target, "target", "", "where the keys are")
	flags.StringArrayVar(&ask.Patterns, "pattern", nil, "which keys, as in Redis SCAN MATCH; may be given more than once")
	flags.DurationVar(&delay, "delay", 0, "begin so much later")
	flags.BoolVar(&ask.DryRun, "dry-run", false, "count the keys and remove none")
	flags.StringVar(&ask.Reason, "reason", "", "why, for those who look")
	return cmd
}

func (c *cli) cleanupLs() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List cleanups",
		Args:  takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cleanups := api.Cleanups{Cleanups: []api.Cleanup{}}
			more, err := c.pages(cmd.Context(), "/v1/cleanups", url.Values{}, all, func(get func(any) error) (api.Page, error) {
				var page api.Cleanups
				err := get(&page)
				cleanups.Page, cleanups.Cleanups = page.Page, append(cleanups.Cleanups, page.Cleanups...)
				return page.Page, err
			})
			if err != nil {
				return err
			}
			defer c.hint(more)
			return c.show(cleanups, func(w io.Writer) { cleanupTable(cleanups.Cleanups).write(w) })
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all of them, not only the first page")
	return cmd
}

func cleanupTable(cleanups []api.Cleanup) *table {
	t := &table{head: []string{"CLEANUP", "TARGET", "PATTERNS", "OF", "STATE", "SCANNED", "MATCHED", "REMOVED", "AGE", "WHY"}}
	for _, x := range cleanups {
		of := "operator"
		if x.Service != "" {
			of = x.Service
		}
		t.add(number(x.ID), x.Target, strings.Join(x.Patterns, " "), of, cleanupState(x), number(x.Scanned), number(x.Matched), number(x.Removed), span(x.AgeMs), x.Why)
	}
	return t
}

func cleanupState(x api.Cleanup) string {
	state := x.State
	if x.DryRun {
		state = "dry run, " + state
	}
	if x.State == api.CleanupWaiting && x.DueInMs > 0 {
		state += " " + span(x.DueInMs)
	}
	return state
}

func (c *cli) cleanupShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show one cleanup, with some of the keys",
		Args:  takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := numberedPath("/v1/cleanups/", args[0])
			if err != nil {
				return err
			}
			var x api.Cleanup
			if err := c.call(cmd.Context(), http.MethodGet, path, nil, &x); err != nil {
				return err
			}
			return c.show(x, func(w io.Writer) { writeCleanup(w, x) })
		},
	}
}

func writeCleanup(w io.Writer, x api.Cleanup) {
	cleanupTable([]api.Cleanup{x}).write(w)
	if x.Reason != "" {
		fmt.Fprintln(w, "\nreason:", plain(x.Reason))
	}
	if len(x.Samples) > 0 {
		fmt.Fprintln(w, "\nsome of the keys:")
	}
	for _, key := range x.Samples {
		fmt.Fprintln(w, " ", plain(key))
	}
}

func (c *cli) cleanupCancel() *cobra.Command {
	return &cobra.Command{
		Use:   "cancel ID",
		Short: "Stop a cleanup: what is removed stays so",
		Args:  takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := numberedPath("/v1/cleanups/", args[0])
			if err != nil {
				return err
			}
			if err := c.post(cmd.Context(), path+"/cancel", nil, nil); err != nil {
				return err
			}
			return c.done("cleanup %s is cancelled", args[0])
		},
	}
}

// numberedPath is the path of a thing that has a number.
func numberedPath(collection, id string) (string, error) {
	if n, err := strconv.ParseUint(id, 10, 64); err != nil || n == 0 || n > api.TokenMax {
		return "", usage("%q is not a number, as the list shows it", id)
	}
	return collection + id, nil
}
