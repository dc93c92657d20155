package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/quiescehq/quiesce/bench/figure"
	"github.com/quiescehq/quiesce/bench/load"
)

// row is a line of the table, cells separated by tabs.
type row string

// row notes a sample of durations for people.
func (b *bench) row(name string, s load.Sample) {
	b.text("%s\tp50 %.1f ms, p99 %.1f ms, max %.1f ms (of %d)", name, load.Ms(s.P50), load.Ms(s.P99), load.Ms(s.Max), s.Steps)
}

func (b *bench) text(format string, a ...any) {
	line := fmt.Sprintf(format, a...)
	b.rows = append(b.rows, row(line))
	b.say("  %s", strings.ReplaceAll(line, "\t", ": "))
}

var goals = []figure.Goal{
	{Figure: "planned_gap_ms_p50", Limit: 20, AtMost: true}, {Figure: "planned_gap_ms_max", Limit: 100, AtMost: true},
	{Figure: "kill_gap_ms_p50", Limit: 1_000, AtMost: true}, {Figure: "kill_gap_ms_max", Limit: 1_500, AtMost: true},
	{Figure: "elections", Limit: 0, AtMost: true}, {Figure: "keepalive_elections", Limit: 0, AtMost: true}, {Figure: "keepalive_log_entries", Limit: 0, AtMost: true},
	{Figure: "keepalive_log_entries_per_lease_failover", Limit: 1, AtMost: true},
}

func (b *bench) report(out io.Writer) error {
	if !b.json {
		fmt.Fprintf(out, "%s Nodes, clients and Redis share this machine.\n\n", b.place)
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, r := range b.rows {
			fmt.Fprintln(w, r)
		}
		b.figures.Compare(w, goals)
		fmt.Fprintln(w)
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return b.figures.Print(out)
}
