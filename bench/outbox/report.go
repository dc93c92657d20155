package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/quiescehq/quiesce/bench/figure"
)

var goals = []figure.Goal{
	{Figure: "accept_ratio_bare_1", Limit: 0.6}, {Figure: "accept_ratio_bare_100", Limit: 0.6}, {Figure: "accept_ratio_bare_1000", Limit: 0.6},
	{Figure: "accept_per_s_1000", Limit: 200_000},
	{Figure: "delivery_ratio_bare_json", Limit: 0.7}, {Figure: "delivery_ratio_bare_hash", Limit: 0.7},
	{Figure: "lag_p99_ms_tier1", Limit: 25, AtMost: true}, {Figure: "lag_p99_ms_tier2", Limit: 25, AtMost: true},
	{Figure: "lag_p99_ms_tier3", Limit: 60, AtMost: true}, {Figure: "lag_p99_ms_tier4", Limit: 60, AtMost: true},
	{Figure: "lag_p99_ms_tier3_nudge", Limit: 25, AtMost: true}, {Figure: "lag_p99_ms_tier4_nudge", Limit: 25, AtMost: true},
	{Figure: "restart_1m_s", Limit: 5, AtMost: true},
}

func (b *bench) report(out io.Writer) error {
	if !b.json {
		fmt.Fprintf(out, "%s Nodes, clients, MySQL and Redis share this machine.\n\n", b.place)
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
