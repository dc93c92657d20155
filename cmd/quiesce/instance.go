package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quiescehq/quiesce/api"
)

func (c *cli) instancesCommand() *cobra.Command {
	var all bool
	var service, state string
	cmd := &cobra.Command{
		Use:   "instances",
		Short: "List instances and how far their drains are",
		Args:  takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			if service != "" {
				query.Set("service", service)
			}
			if state != "" {
				query.Set("state", state)
			}
			instances, more, err := c.listInstances(cmd.Context(), query, all)
			if err != nil {
				return err
			}
			defer c.hint(more)
			return c.show(instances, func(w io.Writer) { instanceTable(instances.Instances).write(w) })
		},
	}
	cmd.Flags().StringVar(&service, "service", "", "only of this service")
	cmd.Flags().StringVar(&state, "state", "", "only those that are ready, queued, draining, ...")
	cmd.Flags().BoolVar(&all, "all", false, "all of them, not only the first page")
	return cmd
}

func (c *cli) listInstances(ctx context.Context, query url.Values, all bool) (api.Instances, bool, error) {
	instances := api.Instances{Instances: []api.Instance{}}
	more, err := c.pages(ctx, "/v1/instances", query, all, func(get func(any) error) (api.Page, error) {
		var page api.Instances
		err := get(&page)
		instances.Page, instances.Instances = page.Page, append(instances.Instances, page.Instances...)
		return page.Page, err
	})
	return instances, more, err
}

func instanceTable(instances []api.Instance) *table {
	t := &table{head: []string{"INSTANCE", "ID", "STATE", "PHASE", "ADDRESS", "REASON", "REMARKS"}}
	for _, i := range instances {
		t.add(i.Service+"/"+i.Name, i.ID, i.State, i.Phase, i.Address, i.Reason, strings.Join(remarks(i), ", "))
	}
	return t
}

func remarks(i api.Instance) []string {
	var out []string
	if i.State == api.StateReady && !i.Settled {
		out = append(out, "not settled")
	}
	if i.Overdraft {
		out = append(out, "overdraft")
	}
	if i.Plan > 0 {
		out = append(out, fmt.Sprintf("plan %d", i.Plan))
	}
	if i.HoldsForMs > 0 {
		out = append(out, "its place is kept for "+span(i.HoldsForMs))
	}
	if i.Leftovers > 0 {
		out = append(out, fmt.Sprintf("%d keys left over", i.Leftovers))
	}
	return out
}

func (c *cli) instanceCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "instance ID|SERVICE/NAME",
		Short: "Show an instance: its history, its drain, why it waits, what was done with what it left behind",
		Args:  takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := c.findInstance(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var i api.Instance
			if err := c.call(cmd.Context(), http.MethodGet, instancePath(id), nil, &i); err != nil {
				return err
			}
			return c.show(i, func(w io.Writer) { writeInstance(w, i) })
		},
	}
}

func instancePath(id string) string { return "/v1/instances/" + url.PathEscape(id) }

// findInstance gives the id of what a person calls an instance: an id, or service/name, of which the last incarnation counts.
func (c *cli) findInstance(ctx context.Context, text string) (string, error) {
	service, name, isName := strings.Cut(text, "/")
	if !isName {
		return text, nil
	}
	instances, _, err := c.listInstances(ctx, url.Values{"service": {service}}, true)
	if err != nil {
		return "", err
	}
	id, incarnation := "", uint64(0)
	for _, i := range instances.Instances {
		if i.Name == name && i.Incarnation >= incarnation {
			id, incarnation = i.ID, i.Incarnation
		}
	}
	if id == "" {
		return "", fmt.Errorf("there is no instance %s; quiesce instances --service %s lists those that there are", text, service)
	}
	return id, nil
}

func writeInstance(w io.Writer, i api.Instance) {
	about := &table{}
	about.add("instance", fmt.Sprintf("%s/%s, incarnation %d", i.Service, i.Name, i.Incarnation))
	about.add("id", i.ID)
	about.add("state", strings.Join(append([]string{i.State}, remarks(i)...), ", "))
	if i.Phase != "" {
		about.add("phase", i.Phase)
	}
	if i.Intent != "" {
		about.add("drain", strings.TrimSuffix(fmt.Sprintf("to %s: %s", i.Intent, i.Reason), ": "))
	}
	about.add("address", i.Address)
	about.add("labels", labelsOf(i.Labels))
	about.add("grace", strings.TrimSuffix(span(i.GraceMs)+" "+i.Platform, " ")+phasesOf(i.Phases))
	about.add("session", i.Session)
	addQueue(about, i.InstanceStatus)
	if len(i.Counters) > 0 {
		about.add("counters", countersOf(i.Counters))
	}
	if i.LocksFreed > 0 {
		about.add("locks freed", number(i.LocksFreed))
	}
	about.write(w)
	if len(i.Blockers) > 0 {
		fmt.Fprintln(w)
		blockerTable(i.Blockers).write(w)
	}
	if len(i.History) > 0 {
		fmt.Fprintln(w)
		historyTable(i.History).write(w)
	}
	if len(i.Adoption) > 0 {
		fmt.Fprintln(w)
		adoptionTable(i.Adoption).write(w)
	}
}

// addQueue says why there is no grant yet, or what the drain's deadline is.
func addQueue(t *table, s api.InstanceStatus) {
	if s.State == api.StateQueued {
		t.add("position", fmt.Sprintf("%d: waits for %s", s.Position, waitsFor(s)))
		t.add("grant", grantIn(s))
	}
	if s.DrainDeadlineInMs > 0 {
		t.add("deadline", "in "+span(s.DrainDeadlineInMs))
	}
}

func waitsFor(s api.InstanceStatus) string {
	switch s.Waiting {
	case "budget":
		return "room in the budget"
	case "frozen":
		return "the service to be unfrozen"
	}
	return "its grant"
}

func grantIn(s api.InstanceStatus) string {
	text := "any moment"
	if s.EarliestGrantInMs > 0 {
		text = "not before " + span(s.EarliestGrantInMs)
	}
	if s.LatestGrantInMs > 0 {
		text += ", at the latest in " + span(s.LatestGrantInMs)
	}
	return text
}

func blockerTable(blockers []api.Blocker) *table {
	t := &table{head: []string{"WAITS FOR", "ID", "STATE", "WHY"}}
	for _, b := range blockers {
		t.add(b.Name, b.ID, b.State, b.Why)
	}
	return t
}

func historyTable(history []api.Moment) *table {
	t := &table{head: []string{"AGO", "STATE", "PHASE"}}
	for _, m := range history {
		t.add(span(m.AgeMs), m.State, m.Phase)
	}
	return t
}

func adoptionTable(steps []api.AdoptionStep) *table {
	t := &table{head: []string{"AGO", "ADOPTION", "WHAT WAS DONE"}}
	for _, s := range steps {
		t.add(span(s.AgeMs), s.Step, s.Detail)
	}
	return t
}

func countersOf(counters map[string]uint64) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counters)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, counters[name]))
	}
	return strings.Join(parts, ", ")
}

func labelsOf(labels map[string]string) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, key+"="+labels[key])
	}
	return strings.Join(parts, " ")
}

func phasesOf(phases []api.PhaseTime) string {
	var parts []string
	for _, p := range phases {
		if p.LimitMs > 0 {
			parts = append(parts, p.Phase+" "+span(p.LimitMs))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return ": " + strings.Join(parts, ", ")
}
