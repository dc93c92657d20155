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

func (c *cli) servicesCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "services [NAME]",
		Short: "List services with what their budgets have room for, or show one",
		Args:  takes(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return c.showService(cmd.Context(), args[0])
			}
			services := api.Services{Services: []api.Service{}}
			more, err := c.pages(cmd.Context(), "/v1/services", url.Values{}, all, func(get func(any) error) (api.Page, error) {
				var page api.Services
				err := get(&page)
				services.Page, services.Services = page.Page, append(services.Services, page.Services...)
				return page.Page, err
			})
			if err != nil {
				return err
			}
			defer c.hint(more)
			return c.show(services, func(w io.Writer) { serviceTable(services.Services).write(w) })
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all of them, not only the first page")
	return cmd
}

func (c *cli) showService(ctx context.Context, name string) error {
	var s api.Service
	if err := c.call(ctx, http.MethodGet, servicePath(name), nil, &s); err != nil {
		return err
	}
	return c.show(s, func(w io.Writer) { writeService(w, s) })
}

func servicePath(name string) string { return "/v1/services/" + url.PathEscape(name) }

func serviceTable(services []api.Service) *table {
	t := &table{head: []string{"SERVICE", "BUDGET", "EXPECTED", "AVAILABLE", "ROOM", "QUEUED", "STATE"}}
	for _, s := range services {
		t.add(s.Name, budgetOf(s), number(s.Expected), number(s.Available), number(s.Room), number(s.Queued), strings.Join(switches(s), ", "))
	}
	return t
}

// budgetOf says the budget as the flags of service set do.
func budgetOf(s api.Service) string {
	switch {
	case s.MaxUnavailable > 0:
		return fmt.Sprintf("max unavailable %d", s.MaxUnavailable)
	case s.MaxUnavailablePercent > 0:
		return fmt.Sprintf("max unavailable %d%%", s.MaxUnavailablePercent)
	case s.MinAvailable > 0:
		return fmt.Sprintf("min available %d", s.MinAvailable)
	case s.MinAvailablePercent > 0:
		return fmt.Sprintf("min available %d%%", s.MinAvailablePercent)
	}
	return "max unavailable 1"
}

func switches(s api.Service) []string {
	var on []string
	if s.Freeze {
		on = append(on, "frozen")
	}
	if s.ReadOnly {
		on = append(on, "read-only")
	}
	return on
}

func writeService(w io.Writer, s api.Service) {
	t := &table{}
	t.add("service", fmt.Sprintf("%s, version %d", s.Name, s.Version))
	t.add("budget", budgetOf(s)+ofReplicas(s))
	t.add("now", fmt.Sprintf("%d available of %d expected, %d unavailable", s.Available, s.Expected, s.Unavailable))
	t.add("room", roomOf(s))
	t.add("queued", number(s.Queued))
	t.add("live", liveOf(s.Live))
	t.add("settles in", span(s.SettleMs))
	t.add("holds", fmt.Sprintf("%s for one that restarts, %s for one that was lost", span(s.RestartHoldMs), span(s.LostHoldMs)))
	t.add("depends on", strings.Join(s.DependsOn, ", "))
	t.add("switches", strings.Join(switches(s), ", "))
	if cleanup := s.Cleanup; cleanup != nil {
		t.add("cleanup", fmt.Sprintf("%s of %s, %s after the last instance", strings.Join(cleanup.Patterns, " "), cleanup.Target, span(cleanup.DelayMs)))
	}
	t.add("record", recordOf(s.Drains))
	t.write(w)
}

func ofReplicas(s api.Service) string {
	if s.Replicas == 0 {
		return ""
	}
	return fmt.Sprintf(" of %d replicas", s.Replicas)
}

func roomOf(s api.Service) string {
	if s.Freeze {
		return "none: it is frozen"
	}
	return fmt.Sprintf("for %d more", s.Room)
}

// liveOf lists the states in the order in which an instance goes through them.
func liveOf(live map[string]int) string {
	order := []string{api.StateRegistered, api.StateReady, api.StatePaused, api.StateQueued, api.StateDraining, api.StateDrained}
	var parts []string
	for _, state := range order {
		if n := live[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	return strings.Join(parts, ", ")
}

func recordOf(d api.DrainRecord) string {
	text := fmt.Sprintf("%d drains, %d overdrafts, %d forced, %d lost, %d undone", d.Grants, d.Overdrafts, d.Forced, d.Lost, d.Undone)
	if d.WorstMs > 0 {
		text += fmt.Sprintf("; of the last, half took %s or less, none more than %s", span(d.MedianMs), span(d.WorstMs))
	}
	if d.RestartMs > 0 {
		text += ", successors settled within " + span(d.RestartMs)
	}
	return text
}

func (c *cli) serviceCommand() *cobra.Command {
	return group("service", "Declare services and their budgets, freeze them, make them read-only",
		c.serviceSet(), c.serviceRemove(), c.serviceFreeze("freeze", "Grant no drain of a service, but overdrafts", true),
		c.serviceFreeze("unfreeze", "Grant drains of a service again", false), c.serviceReadOnly())
}

func (c *cli) serviceRemove() *cobra.Command {
	return &cobra.Command{
		Use:   "rm NAME",
		Short: "Forget a service that has no live instance",
		Args:  takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.call(cmd.Context(), http.MethodDelete, servicePath(args[0]), nil, nil); err != nil {
				return err
			}
			return c.done("service %s is forgotten", args[0])
		},
	}
}

func (c *cli) serviceFreeze(use, short string, on bool) *cobra.Command {
	return &cobra.Command{
		Use:   use + " NAME",
		Short: short,
		Args:  takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.changeService(cmd.Context(), args[0], false, func(s *api.PutService) { s.Freeze = &on })
		},
	}
}

func (c *cli) serviceReadOnly() *cobra.Command {
	return &cobra.Command{
		Use:   "read-only NAME on|off",
		Short: "Let the instances of a service refuse writes and serve reads",
		Args:  takes(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[1] != "on" && args[1] != "off" {
				return usage("read-only is on or off, not %q", args[1])
			}
			on := args[1] == "on"
			return c.changeService(cmd.Context(), args[0], false, func(s *api.PutService) { s.ReadOnly = &on })
		},
	}
}
