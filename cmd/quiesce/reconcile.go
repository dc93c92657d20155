package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quiescehq/quiesce/api"
)

const (
	historyShown     = 20 // passes that ls shows without --all
	differencesShown = 10 // that the end of a pass shows
)

func (c *cli) reconcileCommand() *cobra.Command {
	return group("reconcile", "Compare tables with their cache, and repair what differs", c.reconcileRun(), c.reconcileWatch(), c.reconcileLs(), c.reconcileShow(), c.reconcileDifferences(),
		c.reconcileApprove(), c.reconcileWish("pause", "Have a pass stand still", "pass %s stands still until quiesce reconcile resume %[1]s"),
		c.reconcileWish("resume", "Go on with a paused pass", "pass %s goes on"), c.reconcileWish("cancel", "End a pass; what it enqueued is delivered", "pass %s is cancelled"),
		c.scheduleCommand(), c.reconcileOnce())
}

// passFlags are the options of a pass as flags.
type passFlags struct {
	mode              string
	repair            bool
	from, to          string
	sample            float64
	extras            bool
	fillMissing       bool
	limit, capPercent uint64
	confirm           time.Duration
	rate              uint64
}

func (f *passFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.mode, "mode", api.PassDryRun, "dry_run reports, invalidate removes the keys that differ, rewrite writes them anew")
	flags.BoolVar(&f.repair, "repair", false, "the same as --mode rewrite")
	f.addScope(cmd)
	flags.BoolVar(&f.fillMissing, "fill-missing", false, "with rewrite: write keys that are absent and may be, too")
	flags.Uint64Var(&f.limit, "cap", api.PassCapDefault, "repairs without another word; without it 1% of the rows if that is more")
	flags.Uint64Var(&f.capPercent, "cap-percent", api.PassCapPercentDefault, "the same as a percentage of the rows compared so far")
	flags.DurationVar(&f.confirm, "confirm", api.PassConfirmDefaultMs*time.Millisecond, "a difference must outlast this before it counts")
}

// addScope adds what is looked at, and how fast.
func (f *passFlags) addScope(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.from, "from", "", "first primary key that is looked at; parts separated by commas, or a JSON array")
	flags.StringVar(&f.to, "to", "", "first primary key that is not looked at any more")
	flags.Float64Var(&f.sample, "sample", 0, "share of the rows that are looked at, at random, such as 0.01")
	flags.BoolVar(&f.extras, "extras", false, "look for keys without a row, too; the mapping must own its prefix")
	flags.Uint64Var(&f.rate, "rate", 0, "rows a second at most; 0: as many as the load allows")
}

func (f *passFlags) options(cmd *cobra.Command) (api.PassOptions, error) {
	out := api.PassOptions{Mode: f.mode, Sample: f.sample, Extras: f.extras, FillMissing: f.fillMissing, Rate: f.rate, ConfirmDelayMs: uint64(f.confirm.Milliseconds())}
	if f.repair {
		if cmd.Flags().Changed("mode") && f.mode != api.PassRewrite {
			return out, usage("--repair is --mode rewrite: give one of them")
		}
		out.Mode = api.PassRewrite
	}
	if f.confirm < time.Millisecond {
		return out, usage("--confirm must be a millisecond or more")
	}
	if cmd.Flags().Changed("cap") {
		out.Cap = &f.limit
	}
	if cmd.Flags().Changed("cap-percent") {
		out.CapPercent = &f.capPercent
	}
	if f.from != "" || f.to != "" {
		out.Range = &api.PassRange{From: keyPartsIf(f.from), To: keyPartsIf(f.to)}
	}
	return out, nil
}

func keyPartsIf(key string) []json.RawMessage {
	if key == "" {
		return nil
	}
	return keyParts(key)
}

func (c *cli) reconcileRun() *cobra.Command {
	var f passFlags
	var noWait, asJSON bool
	cmd := &cobra.Command{
		Use:   "run MAPPING",
		Short: "Compare a mapping's table with its cache",
		Long: `Compare a mapping's table with its cache, row by row, while both are in use. Nothing is changed without --repair or --mode.

The exit code tells how it ended: 0 nothing differs, 65 something does, or the pass is held and waits for an approval, 77 it failed, 78 it was cancelled, 75 not over yet. The pass is
the cluster's: Ctrl-C ends the watching and not the pass.`,
		Example: `  quiesce reconcile run orders
  quiesce reconcile run orders --sample 0.01
  quiesce reconcile run orders --repair --cap 500
  quiesce reconcile run orders --mode rewrite --fill-missing`,
		Args: takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			options, err := f.options(cmd)
			if err != nil {
				return err
			}
			c.asJSON(asJSON)
			var started api.PassStarted
			if err := c.post(cmd.Context(), "/v1/passes", api.StartPass{Mapping: args[0], PassOptions: options}, &started); err != nil {
				return err
			}
			if noWait {
				return c.show(started, func(w io.Writer) {
					fmt.Fprintf(w, "pass %d has begun; quiesce reconcile watch %[1]d follows it\n", started.ID)
				})
			}
			return c.watchPass(cmd.Context(), fmt.Sprint(started.ID))
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "begin it and end")
	cmd.Flags().BoolVar(&asJSON, "json", false, "the same as -o json: what was found, at the end")
	return cmd
}

func (c *cli) asJSON(wanted bool) {
	if wanted {
		c.format = formatJSON
	}
}

func passPath(id string) (string, error) { return numberedPath("/v1/passes/", id) }

// reconcileWish makes one of the short commands to a pass.
func (c *cli) reconcileWish(verb, short, done string) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " ID",
		Short: short,
		Args:  takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := passPath(args[0])
			if err != nil {
				return err
			}
			if err := c.post(cmd.Context(), path+"/"+verb, nil, nil); err != nil {
				return err
			}
			return c.done(done, args[0])
		},
	}
}

func (c *cli) reconcileApprove() *cobra.Command {
	var limit uint64
	cmd := &cobra.Command{
		Use:   "approve ID [--limit N]",
		Short: "Let a held pass go on: repair more rows, or remove keys without a row",
		Args:  takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := passPath(args[0])
			if err != nil {
				return err
			}
			if err := c.post(cmd.Context(), path+"/approve", api.ApprovePass{Limit: limit}, nil); err != nil {
				return err
			}
			return c.done("pass %s goes on; quiesce reconcile watch %[1]s follows it", args[0])
		},
	}
	cmd.Flags().Uint64Var(&limit, "limit", 0, "repairs in all, or keys that may be removed; 0: as much again, or as many as were found")
	return cmd
}

func (c *cli) reconcileLs() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "ls [MAPPING]",
		Short: "List passes, and whether differences grow",
		Args:  takes(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{}
			if len(args) > 0 {
				query.Set("mapping", args[0])
			}
			list := api.Passes{Passes: []api.Pass{}}
			if _, err := c.pages(cmd.Context(), "/v1/passes", query, true, func(get func(any) error) (api.Page, error) {
				var page api.Passes
				err := get(&page)
				list.Page, list.Passes = page.Page, append(list.Passes, page.Passes...)
				return page.Page, err
			}); err != nil {
				return err
			}
			t := passTable(list.Passes)
			if hidden := len(list.Passes) - historyShown; hidden > 0 && !all {
				t.rows, list.Passes = t.rows[hidden:], list.Passes[hidden:]
				c.hint(true)
			}
			return c.show(list, func(w io.Writer) { t.write(w) })
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all of them, not only the last ones")
	return cmd
}

func passTable(passes []api.Pass) *table {
	t := &table{head: []string{"PASS", "MAPPING", "MODE", "OF", "STATE", "ROWS", "DIFFERENCES", "TREND", "HOT", "REPAIRED", "AGE", "WHY"}}
	before := map[string]api.Pass{}
	for _, p := range passes {
		scope := p.Mapping + " " + scopeOfPass(p)
		trend := ""
		if last, known := before[scope]; known && p.State == api.PassDone {
			trend = trendOf(foundIn(last), foundIn(p))
		}
		if p.State == api.PassDone {
			before[scope] = p
		}
		t.add(number(p.ID), p.Mapping, strings.ReplaceAll(p.Mode, "_", " "), scopeOfPass(p), p.State, number(p.Counts.Rows), number(foundIn(p)), trend, number(p.Counts.Hot), number(p.Counts.Repaired),
			span(p.AgeMs), p.Reason)
	}
	return t
}

// foundIn is everything that a pass found to differ. What it was asked to fill is no difference.
func foundIn(p api.Pass) uint64 {
	found := p.Counts.Differences - min(p.Filled, p.Counts.Differences)
	if p.Keys == nil {
		return found
	}
	return found + p.Keys.Extra
}

// trendOf compares passes over the same rows.
func trendOf(before, now uint64) string {
	switch {
	case now > before:
		return fmt.Sprintf("grew by %d", now-before)
	case now < before:
		return fmt.Sprintf("shrank by %d", before-now)
	}
	return "as before"
}

// scopeOfPass says what a pass looks at.
func scopeOfPass(p api.Pass) string {
	scope := "all rows"
	if r := p.Range; r != nil {
		scope = "rows"
		if len(r.From) > 0 {
			scope += " from " + rawKey(r.From)
		}
		if len(r.To) > 0 {
			scope += " to " + rawKey(r.To)
		}
	}
	if p.Sample > 0 {
		scope += fmt.Sprintf(", %v%% of them", 100*p.Sample)
	}
	if p.Extras {
		scope += ", all keys"
	}
	return scope
}

func rawKey(parts []json.RawMessage) string {
	texts := make([]string, len(parts))
	for i, part := range parts {
		if json.Unmarshal(part, &texts[i]) != nil {
			texts[i] = string(part)
		}
	}
	return keyText(texts)
}

// passReport is what a program gets of a pass.
type passReport struct {
	Pass        api.Pass         `json:"pass"`
	Differences []api.Difference `json:"differences"`
}

func (c *cli) reportOf(ctx context.Context, id string) (passReport, error) {
	var out passReport
	path, err := passPath(id)
	if err != nil {
		return out, err
	}
	if err := c.call(ctx, http.MethodGet, path, nil, &out.Pass); err != nil {
		return out, err
	}
	var found api.Differences
	err = c.call(ctx, http.MethodGet, path+"/differences", nil, &found)
	out.Differences = found.Differences
	return out, err
}

func (c *cli) reconcileShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show a pass: what it was asked, what it found, and the first differences",
		Args:  takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			report, err := c.reportOf(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.show(report, func(w io.Writer) {
				writePass(w, report.Pass)
				writeFound(w, report, differencesShown)
			})
		},
	}
}

func (c *cli) reconcileDifferences() *cobra.Command {
	return &cobra.Command{
		Use:   "differences ID",
		Short: "Show the differences that a pass keeps, both sides below each other",
		Args:  takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			report, err := c.reportOf(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.show(report.Differences, func(w io.Writer) { writeFound(w, report, len(report.Differences)) })
		},
	}
}
