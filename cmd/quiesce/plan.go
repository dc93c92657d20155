package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quiescehq/quiesce/api"
)

func (c *cli) planCommand() *cobra.Command {
	return group("plan", "Restart or shut down whole services, a few instances at a time",
		c.planNew(), c.planLs(), c.planShow(), c.planWatch(),
		c.planWish("start", "Start a draft", nil),
		c.planWish("pause", "Ask no further instance to stop; what drains already does so to its end", nil),
		c.planWish("resume", "Go on with a paused plan", nil),
		c.planCancel())
}

func (c *cli) planLs() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List plans",
		Args:  takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			plans := api.Plans{Plans: []api.Plan{}}
			more, err := c.pages(cmd.Context(), "/v1/plans", url.Values{}, all, func(get func(any) error) (api.Page, error) {
				var page api.Plans
				err := get(&page)
				plans.Page, plans.Plans = page.Page, append(plans.Plans, page.Plans...)
				return page.Page, err
			})
			if err != nil {
				return err
			}
			defer c.hint(more)
			return c.show(plans, func(w io.Writer) { planTable(plans.Plans).write(w) })
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all of them, not only the first page")
	return cmd
}

func planTable(plans []api.Plan) *table {
	t := &table{head: []string{"PLAN", "INTENT", "SERVICES", "STATE", "DONE", "FAILURES", "AGE", "WHY"}}
	for _, p := range plans {
		t.add(number(p.ID), p.Intent, strings.Join(p.Services, " "), planState(p), fmt.Sprintf("%d/%d", p.Done, p.Total), number(p.Failures), span(p.AgeMs), planWhy(p))
	}
	return t
}

// planState is the state, and what is under way.
func planState(p api.Plan) string {
	if p.Stage == "" || p.State != api.PlanRunning && p.State != api.PlanPaused {
		return p.State
	}
	return fmt.Sprintf("%s, %s of %s", p.State, p.Stage, stepOf(p).Service)
}

// stepOf is the step that is under way.
func stepOf(p api.Plan) api.PlanStep {
	if p.Step < 0 || p.Step >= len(p.Steps) {
		return api.PlanStep{}
	}
	return p.Steps[p.Step]
}

// planWhy prefers what happens to what was wished.
func planWhy(p api.Plan) string {
	if p.Why != "" {
		return p.Why
	}
	return p.Reason
}

func planPath(id string) (string, error) { return numberedPath("/v1/plans/", id) }

func (c *cli) planShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show a plan with its steps and instances",
		Args:  takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := planPath(args[0])
			if err != nil {
				return err
			}
			var p api.Plan
			if err := c.call(cmd.Context(), http.MethodGet, path, nil, &p); err != nil {
				return err
			}
			return c.show(p, func(w io.Writer) { writePlan(w, p) })
		},
	}
}

func writePlan(w io.Writer, p api.Plan) {
	about := &table{}
	if p.ID > 0 {
		about.add("plan", number(p.ID))
	}
	about.add("intent", p.Intent+" of "+strings.Join(p.Services, ", "))
	about.add("rules", strings.Join(rulesOfPlan(p.PlanRules), ", "))
	if p.Reason != "" {
		about.add("reason", p.Reason)
	}
	about.add("state", planState(p))
	if p.Why != "" {
		about.add("why", p.Why)
	}
	about.add("done", fmt.Sprintf("%d of %d, %d failed", p.Done, p.Total, p.Failures))
	if p.RunsForMs > 0 {
		about.add("running", "for "+span(p.RunsForMs))
	}
	if p.ObserveRemainingMs > 0 {
		about.add("observes", span(p.ObserveRemainingMs)+" more")
	}
	if p.DeadlineInMs > 0 {
		about.add("deadline", "in "+span(p.DeadlineInMs))
	}
	about.write(w)
	if p.Estimate != nil {
		fmt.Fprintln(w)
		writeEstimate(w, *p.Estimate)
	}
	for _, s := range p.Steps {
		fmt.Fprintln(w)
		writeStep(w, s)
	}
}

// rulesOfPlan says the rules as the flags of plan new do.
func rulesOfPlan(r api.PlanRules) []string {
	var rules []string
	add := func(wanted bool, format string, args ...any) {
		if wanted {
			rules = append(rules, fmt.Sprintf(format, args...))
		}
	}
	add(r.Canary > 0, "canary %d", r.Canary)
	add(r.CanaryPercent > 0, "canary %d%%", r.CanaryPercent)
	add(r.ObserveMs > 0, "observe %s", span(r.ObserveMs))
	add(r.PauseAfter, "pause after the canary")
	add(r.Wave > 0, "waves of %d", r.Wave)
	add(r.WavePercent > 0, "waves of %d%%", r.WavePercent)
	add(r.Wave == 0 && r.WavePercent == 0, "as many at a time as the budget allows")
	add(true, "halt after %d", max(1, r.HaltAfter))
	add(r.DeadlineMs > 0, "deadline %s", span(r.DeadlineMs))
	add(r.AllowZero, "may leave nobody")
	return rules
}

func writeStep(w io.Writer, s api.PlanStep) {
	text := fmt.Sprintf("%s is %s", s.Service, s.State)
	if s.Canary > 0 {
		text += fmt.Sprintf(", the first %d as canary", s.Canary)
	}
	fmt.Fprintln(w, plain(text))
	if len(s.Targets) == 0 {
		return
	}
	t := &table{head: []string{"  INSTANCE", "ID", "STATE", "SUCCESSOR", "WHY"}}
	for _, x := range s.Targets {
		t.add("  "+x.Name, x.ID, x.State, x.Successor, x.Why)
	}
	t.write(w)
}

func writeEstimate(w io.Writer, e api.Estimate) {
	t := &table{head: []string{"SERVICE", "INSTANCES", "AT A TIME", "ROUNDS", "DRAIN", "RESTART", "ON RECORD", "AT WORST"}}
	for _, s := range e.Services {
		t.add(s.Service, number(s.Instances), number(s.AtATime), number(s.Rounds), span(s.DrainMs), spanIf(s.RestartMs), number(s.OnRecord), span(s.WorstMs))
	}
	t.write(w)
	fmt.Fprintf(w, "at worst %s in all\n", span(e.WorstMs))
}

func (c *cli) planCancel() *cobra.Command {
	var failed bool
	cmd := c.planWish("cancel", "End a plan, and undo the drains that can be undone", &failed)
	cmd.Flags().BoolVar(&failed, "failed", false, "it ends as failed: a check says so")
	return cmd
}

// planWish makes one of the short commands to a plan.
func (c *cli) planWish(verb, short string, failed *bool) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   verb + " ID",
		Short: short,
		Args:  takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := planPath(args[0])
			if err != nil {
				return err
			}
			p, err := c.wishPlan(cmd.Context(), path, verb, api.PlanWish{Reason: reason, Failed: failed != nil && *failed})
			if err != nil {
				return err
			}
			return c.show(p, func(w io.Writer) { planTable([]api.Plan{p}).write(w) })
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who look")
	return cmd
}

// wishPlan says what a plan is to do, and answers how it stands then.
func (c *cli) wishPlan(ctx context.Context, path, verb string, wish api.PlanWish) (api.Plan, error) {
	var p api.Plan
	if err := c.post(ctx, path+"/"+verb, wish, nil); err != nil {
		return p, err
	}
	err := c.call(ctx, http.MethodGet, path, nil, &p)
	return p, err
}
