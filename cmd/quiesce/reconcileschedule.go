package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quiescehq/quiesce/api"
)

func (c *cli) scheduleCommand() *cobra.Command {
	return group("schedule", "Passes that begin again and again", c.scheduleLs(), c.scheduleShow(), c.scheduleSet(), c.scheduleRm())
}

func schedulePath(mapping string) string {
	return "/v1/mappings/" + url.PathEscape(mapping) + "/schedule"
}

func (c *cli) scheduleLs() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List schedules",
		Args:  takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			list := api.Schedules{Schedules: []api.Schedule{}}
			more, err := c.pages(cmd.Context(), "/v1/schedules", url.Values{}, all, func(get func(any) error) (api.Page, error) {
				var page api.Schedules
				err := get(&page)
				list.Page, list.Schedules = page.Page, append(list.Schedules, page.Schedules...)
				return page.Page, err
			})
			if err != nil {
				return err
			}
			defer c.hint(more)
			return c.show(list, func(w io.Writer) {
				t := &table{head: []string{"MAPPING", "CRON", "ZONE", "WINDOW", "MODE", "NEXT", "LAST PASS", "SKIPPED"}}
				for _, s := range list.Schedules {
					next := "never"
					if len(s.Next) > 0 {
						next = s.Next[0]
					}
					t.add(s.Mapping, s.Cron, orUTC(s.Zone), windowText(s.Window), strings.ReplaceAll(s.Mode, "_", " "), next, numberIf(s.LastPass), number(s.Skipped))
				}
				t.write(w)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all of them, not only the first page")
	return cmd
}

func orUTC(zone string) string {
	if zone == "" {
		return "UTC"
	}
	return zone
}

func windowText(w *api.PassWindow) string {
	if w == nil {
		return "all day"
	}
	return w.From + "-" + w.To
}

func numberIf(n uint64) string {
	if n == 0 {
		return ""
	}
	return number(n)
}

func (c *cli) scheduleShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show MAPPING",
		Short: "Show a mapping's schedule and its next slots",
		Args:  takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var s api.Schedule
			if err := c.call(cmd.Context(), http.MethodGet, schedulePath(args[0]), nil, &s); err != nil {
				return err
			}
			return c.show(s, func(w io.Writer) { writeSchedule(w, s) })
		},
	}
}

func writeSchedule(w io.Writer, s api.Schedule) {
	about := &table{}
	about.add("mapping", s.Mapping)
	about.add("cron", s.Cron+" "+orUTC(s.Zone))
	about.add("window", windowText(s.Window))
	about.add("mode", strings.ReplaceAll(s.Mode, "_", " "))
	about.add("looks at", scopeOfPass(api.Pass{Range: s.Range, Sample: s.Sample, Extras: s.Extras}))
	if s.JitterMs > 0 {
		about.add("jitter", "up to "+span(s.JitterMs))
	}
	about.add("next", orDash(strings.Join(s.Next, ", ")))
	if s.LastSlot != "" {
		about.add("last slot", s.LastSlot)
	}
	if s.LastPass > 0 {
		about.add("last pass", number(s.LastPass))
	}
	about.add("skipped", fmt.Sprintf("%d, because the pass before was not over", s.Skipped))
	about.write(w)
}

func (c *cli) scheduleSet() *cobra.Command {
	var f passFlags
	var cron, zone, window string
	var jitter time.Duration
	cmd := &cobra.Command{
		Use:   "set MAPPING --cron '30 2 * * *'",
		Short: "Have a pass over a mapping begin again and again; what was set before is replaced",
		Example: `  quiesce reconcile schedule set orders --cron '30 2 * * *' --zone Europe/Berlin
  quiesce reconcile schedule set orders --cron @hourly --sample 0.01 --jitter 5m
  quiesce reconcile schedule set orders --cron '0 * * * *' --window 22:00-06:00 --repair`,
		Args: takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			options, err := f.options(cmd)
			if err != nil {
				return err
			}
			put := api.PutSchedule{Cron: cron, Zone: zone, JitterMs: uint64(max(jitter, 0).Milliseconds()), PassOptions: options}
			if window != "" {
				from, to, found := strings.Cut(window, "-")
				if !found {
					return usage("--window is two times of the day, such as 22:00-06:00")
				}
				put.Window = &api.PassWindow{From: from, To: to}
			}
			if cron == "" {
				return usage("set needs --cron, such as '30 2 * * *' or @daily")
			}
			if err := c.call(cmd.Context(), http.MethodPut, schedulePath(args[0]), put, nil); err != nil {
				return err
			}
			var s api.Schedule
			if err := c.call(cmd.Context(), http.MethodGet, schedulePath(args[0]), nil, &s); err != nil {
				return err
			}
			return c.show(s, func(w io.Writer) { writeSchedule(w, s) })
		},
	}
	f.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&cron, "cron", "", "five fields (minute hour day month weekday), or @hourly, @daily, @weekly, @monthly")
	flags.StringVar(&zone, "zone", "", "time zone of the expression and the window, such as Europe/Berlin (default UTC)")
	flags.StringVar(&window, "window", "", "when passes may begin and run, such as 22:00-06:00; one that is not over then stands still until the next window")
	flags.DurationVar(&jitter, "jitter", 0, "begin up to this late, so that mappings do not all begin at once")
	return cmd
}

func (c *cli) scheduleRm() *cobra.Command {
	return &cobra.Command{
		Use:   "rm MAPPING",
		Short: "End a schedule; a pass that it began goes on",
		Args:  takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.call(cmd.Context(), http.MethodDelete, schedulePath(args[0]), nil, nil); err != nil {
				return err
			}
			return c.done("%s has no schedule any more", args[0])
		},
	}
}
