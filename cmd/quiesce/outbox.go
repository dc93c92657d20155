package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quiescehq/quiesce/api"
)

func (c *cli) outboxCommand() *cobra.Command {
	return group("outbox", "Events on their way from MySQL to Redis", c.outboxStats(), c.outboxLs(), c.outboxPrepared(), c.outboxShow(), c.outboxPause(), c.outboxResume(), c.outboxDead())
}

func (c *cli) outboxStats() *cobra.Command {
	return &cobra.Command{
		Use:   "stats",
		Short: "Show how far deliveries are, what holds them up, and the relays of outbox tables",
		Args:  takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var stats api.OutboxStats
			if err := c.call(cmd.Context(), http.MethodGet, "/v1/outbox/stats", nil, &stats); err != nil {
				return err
			}
			return c.show(stats, func(w io.Writer) { writeStats(w, stats) })
		},
	}
}

func writeStats(w io.Writer, s api.OutboxStats) {
	fmt.Fprintf(w, "%d pending, %d prepared, %d dead; the oldest waits %s\n", s.Pending, s.Prepared, s.Dead, orDash(span(s.LagMs)))
	for _, p := range s.Pauses {
		fmt.Fprintf(w, "paused for %s: %s%s\n", span(p.SinceMs), scopeName(p.OutboxScope), because(p.Reason))
	}
	if len(s.Mappings) > 0 {
		fmt.Fprintln(w)
		t := &table{head: []string{"MAPPING", "PENDING", "LAG", "DEAD", "DELIVERED", "SUPERSEDED", "FAILED", "REMARKS"}}
		for _, m := range s.Mappings {
			t.add(m.Mapping, fmt.Sprint(m.Pending), span(m.LagMs), deadText(m), number(m.Delivered), number(m.Superseded), number(m.Failed), mappingRemarks(m))
		}
		t.write(w)
	}
	if len(s.Breakers) > 0 {
		fmt.Fprintln(w)
		t := &table{head: []string{"BREAKER", "STATE"}}
		for _, b := range s.Breakers {
			t.add(b.Name, strings.ReplaceAll(b.State, "_", " "))
		}
		t.write(w)
	}
	if len(s.Relays) > 0 {
		fmt.Fprintln(w)
		t := &table{head: []string{"RELAY OF", "STATE", "RELAYED", "REFUSED", "OLDEST ROW", "DETAIL"}}
		for _, r := range s.Relays {
			t.add(r.Source, r.State, number(r.Relayed), number(r.Refused), span(r.OldestMs), r.Detail)
		}
		t.write(w)
	}
}

func deadText(m api.MappingOutbox) string {
	if m.Dead == 0 {
		return "0"
	}
	var parts []string
	for class, n := range m.DeadBy {
		parts = append(parts, fmt.Sprintf("%s %d", class, n))
	}
	slices.Sort(parts)
	return fmt.Sprintf("%d (%s)", m.Dead, strings.Join(parts, ", "))
}

func mappingRemarks(m api.MappingOutbox) string {
	var remarks []string
	if m.Blocked != "" {
		remarks = append(remarks, "held up: "+m.Blocked)
	}
	if m.Doubt != nil {
		doubt := fmt.Sprintf("in doubt for %s: %s", span(m.Doubt.SinceMs), m.Doubt.Cause)
		switch {
		case m.Doubt.Behind != 0:
			doubt += fmt.Sprintf("; pass %d has to end before another can begin", m.Doubt.Behind)
		case m.Doubt.Held:
			doubt += fmt.Sprintf("; pass %d is to end it, and waits for an approval", m.Doubt.Pass)
		case m.Doubt.Pass != 0:
			doubt += fmt.Sprintf("; pass %d is to end it", m.Doubt.Pass)
		}
		remarks = append(remarks, doubt)
	}
	return strings.Join(remarks, "; ")
}

func scopeName(s api.OutboxScope) string {
	switch {
	case s.All:
		return "all"
	case s.Mapping != "":
		return "mapping " + s.Mapping
	case s.Target != "":
		return "target " + s.Target
	}
	return "relay of source " + s.Source
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ", because " + plain(reason)
}

func (c *cli) outboxLs() *cobra.Command {
	var mapping string
	var all bool
	cmd := &cobra.Command{
		Use:   "ls [--mapping NAME]",
		Short: "List pending events",
		Args:  takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			events := api.Events{Events: []api.Event{}}
			more, err := c.pages(cmd.Context(), "/v1/outbox/events", ofMapping(mapping), all, func(get func(any) error) (api.Page, error) {
				var page api.Events
				err := get(&page)
				events.Page, events.Events = page.Page, append(events.Events, page.Events...)
				return page.Page, err
			})
			if err != nil {
				return err
			}
			defer c.hint(more)
			return c.show(events, func(w io.Writer) { eventTable(events.Events).write(w) })
		},
	}
	cmd.Flags().StringVar(&mapping, "mapping", "", "of this mapping only")
	cmd.Flags().BoolVar(&all, "all", false, "all of them, not only the first page")
	return cmd
}

func ofMapping(mapping string) url.Values {
	query := url.Values{}
	if mapping != "" {
		query.Set("mapping", mapping)
	}
	return query
}

func eventTable(events []api.Event) *table {
	t := &table{head: []string{"MAPPING", "KEY", "STATE", "AGE", "TRIES", "NEXT IN", "LAST FAILURE"}}
	for _, e := range events {
		state := e.State
		if e.Blocked != "" {
			state += ", " + e.Blocked
		}
		t.add(e.Mapping, keyText(e.PK), state, span(e.AgeMs), fmt.Sprint(e.Attempts), span(e.NextInMs), failureText(e.Failure, e.Detail))
	}
	return t
}

func failureText(class, detail string) string {
	if detail == "" {
		return class
	}
	return class + ": " + detail
}

// keyText is how a key is given to commands and shown by them: its parts, separated by commas.
func keyText(pk []string) string { return strings.Join(pk, ",") }

func (c *cli) outboxPrepared() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "prepared",
		Short: "List the events that wait for their transactions",
		Args:  takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			list := api.PreparedList{Prepared: []api.PreparedEvents{}}
			more, err := c.pages(cmd.Context(), "/v1/outbox/prepared", url.Values{}, all, func(get func(any) error) (api.Page, error) {
				var page api.PreparedList
				err := get(&page)
				list.Page, list.Prepared = page.Page, append(list.Prepared, page.Prepared...)
				return page.Page, err
			})
			if err != nil {
				return err
			}
			defer c.hint(more)
			return c.show(list, func(w io.Writer) {
				t := &table{head: []string{"PREPARED", "SOURCE", "EVENTS", "AGE", "FENCE LOOKED AT IN", "LOOKS", "INSTANCE"}}
				for _, p := range list.Prepared {
					t.add(p.ID, p.Source, fmt.Sprint(p.Events), span(p.AgeMs), span(p.ProbeIn), fmt.Sprint(p.Probes), p.Instance)
				}
				t.write(w)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all of them, not only the first page")
	return cmd
}

// outboxShow tells everything about one row: it is key check without a look at the stores.
func (c *cli) outboxShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show MAPPING KEY",
		Short: "Show the event or the dead letter of a row, and what became of its last deliveries",
		Args:  takes(cobra.ExactArgs(2)),
		RunE:  func(cmd *cobra.Command, args []string) error { return c.showTimeline(cmd, args[0], args[1]) },
	}
}

// scopeFlags say what a pause is about. The cluster wants exactly one of them.
func scopeFlags(cmd *cobra.Command, s *api.OutboxScope) {
	flags := cmd.Flags()
	flags.BoolVar(&s.All, "all", false, "all deliveries and relays")
	flags.StringVar(&s.Mapping, "mapping", "", "deliveries of this mapping")
	flags.StringVar(&s.Target, "target", "", "deliveries to this target")
	flags.StringVar(&s.Source, "source", "", "the relay of this source: its rows wait in MySQL")
}

func (c *cli) outboxPause() *cobra.Command {
	var ask api.PauseOutbox
	cmd := &cobra.Command{
		Use:   "pause --mapping NAME | --target NAME | --source NAME | --all",
		Short: "Deliver nothing for a while; events are taken all the same",
		Args:  takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.post(cmd.Context(), "/v1/outbox/pause", ask, nil); err != nil {
				return err
			}
			return c.done("%s is paused", scopeName(ask.OutboxScope))
		},
	}
	scopeFlags(cmd, &ask.OutboxScope)
	cmd.Flags().StringVar(&ask.Reason, "reason", "", "why, for those who look")
	return cmd
}

func (c *cli) outboxResume() *cobra.Command {
	var ask api.OutboxScope
	cmd := &cobra.Command{
		Use:   "resume --mapping NAME | --target NAME | --source NAME | --all",
		Short: "End a pause",
		Args:  takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.post(cmd.Context(), "/v1/outbox/resume", ask, nil); err != nil {
				return err
			}
			return c.done("%s goes on, unless another pause holds it", scopeName(ask))
		},
	}
	scopeFlags(cmd, &ask)
	return cmd
}

func (c *cli) outboxDead() *cobra.Command {
	return group("dead", "Dead letters: events that are not tried again by themselves", c.deadLs(), c.deadReplay(), c.deadDiscard())
}

func (c *cli) deadLs() *cobra.Command {
	var mapping string
	var all bool
	cmd := &cobra.Command{
		Use:   "ls [--mapping NAME]",
		Short: "List dead letters",
		Args:  takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dead := api.DeadLetters{Dead: []api.DeadLetter{}}
			more, err := c.pages(cmd.Context(), "/v1/outbox/dead", ofMapping(mapping), all, func(get func(any) error) (api.Page, error) {
				var page api.DeadLetters
				err := get(&page)
				dead.Page, dead.Dead = page.Page, append(dead.Dead, page.Dead...)
				return page.Page, err
			})
			if err != nil {
				return err
			}
			defer c.hint(more)
			return c.show(dead, func(w io.Writer) {
				t := &table{head: []string{"MAPPING", "KEY", "DEAD FOR", "TRIES", "FAILURE"}}
				for _, d := range dead.Dead {
					t.add(d.Mapping, keyText(d.PK), span(d.AgeMs), fmt.Sprint(d.Attempts), failureText(d.Failure, d.Detail))
				}
				t.write(w)
			})
		},
	}
	cmd.Flags().StringVar(&mapping, "mapping", "", "of this mapping only")
	cmd.Flags().BoolVar(&all, "all", false, "all of them, not only the first page")
	return cmd
}

func (c *cli) deadReplay() *cobra.Command {
	cmd, ask := c.deadAct("replay", "Make new events of dead letters", "replayed")
	cmd.Flags().Uint64Var(&ask.Rate, "rate", 0, "events a second that become due; 0: all at once")
	return cmd
}

func (c *cli) deadDiscard() *cobra.Command {
	cmd, _ := c.deadAct("discard", "Forget dead letters: their keys stay removed until somebody fills them", "discarded")
	return cmd
}

// deadAct is replay or discard: both choose by the same filter.
func (c *cli) deadAct(verb, short, done string) (*cobra.Command, *api.ReplayDead) {
	var ask api.ReplayDead
	var key string
	cmd := &cobra.Command{
		Use:   verb + " --mapping NAME [--key KEY] | --failure CLASS | --all",
		Short: short,
		Example: `  quiesce outbox dead ` + verb + ` --failure wrong_type --dry-run
  quiesce outbox dead ` + verb + ` --mapping orders --key 42`,
		Args: takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if key != "" {
				ask.Filter.PK = keyParts(key)
			}
			var got api.Replayed
			if err := c.post(cmd.Context(), "/v1/outbox/dead/"+verb, ask, &got); err != nil {
				return err
			}
			return c.show(got, func(w io.Writer) {
				if ask.DryRun {
					fmt.Fprintf(w, "%d dead letters would be %s\n", got.Matched, done)
				} else {
					fmt.Fprintf(w, "%d of %d dead letters %s\n", got.Changed, got.Matched, done)
				}
				if got.Sample != nil {
					fmt.Fprintf(w, "one of them: %s %s, %s\n", got.Sample.Mapping, plain(keyText(got.Sample.PK)), plain(failureText(got.Sample.Failure, got.Sample.Detail)))
				}
			})
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&ask.Filter.All, "all", false, "every dead letter")
	flags.StringVar(&ask.Filter.Mapping, "mapping", "", "of this mapping")
	flags.StringVar(&ask.Filter.Failure, "failure", "", "of this class of failure")
	flags.StringVar(&key, "key", "", "of this row; needs --mapping")
	flags.BoolVar(&ask.DryRun, "dry-run", false, "count them and change nothing")
	return cmd, &ask
}
