package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/quiescehq/quiesce/bench/figure"
	"github.com/quiescehq/quiesce/bench/load"
)

// report prints what was measured.
type report struct {
	results results
	place   figure.Place
	options options
}

func (r report) print(out io.Writer) error {
	figures := r.results.figures(r.options)
	if !r.options.json {
		if err := r.tables(out, figures); err != nil {
			return err
		}
	}
	return figures.Print(out)
}

func (r report) tables(out io.Writer, figures figure.Figures) error {
	fmt.Fprintf(out, "%s\n%d rounds of %s a case; medians. Clients, three members of each system and Redis share this machine;\nwhat else ran on it used %.1f cores (median of all cases). CPU is for one acquire and release.\n",
		r.place, r.options.rounds, r.options.measure, figures["others_cores"])
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	r.cycleTable(w)
	r.contendedTable(w)
	figures.Compare(w, goals)
	fmt.Fprintln(w)
	return w.Flush()
}

const columns = "\t/s\tp50 ms\tp99 ms\t/s against etcd\tp99 against etcd\tCPU us, servers\tclient\t\n"

func (r report) cycleTable(w io.Writer) {
	for _, workers := range r.options.workers {
		etcd, connections := r.results.etcd("", workers)
		fmt.Fprintf(w, "\nacquire+release, %d workers"+columns, workers)
		r.row(w, "Quiesce, client", r.results.of(partSDK, workers), etcd)
		r.row(w, "Quiesce, HTTP", r.results.of(partHTTP, workers), etcd)
		r.row(w, fmt.Sprintf("etcd, %d connections", connections), etcd, nil)
		r.row(w, "Redis, one node", r.results.of(partRedis, workers), nil)
	}
}

func (r report) contendedTable(w io.Writer) {
	if ours := r.results.of(partHandOff, r.options.contend); len(ours) > 0 {
		etcd, connections := r.results.etcd(partHandOff+"-", r.options.contend)
		fmt.Fprintf(w, "\none lock, %d workers"+columns, r.options.contend)
		r.row(w, "Quiesce, client", ours, etcd)
		r.row(w, fmt.Sprintf("etcd, %d connections", connections), etcd, nil)
	}
	if ours := r.results.of(partWaiters, r.options.waiters); len(ours) > 0 {
		etcd := r.results.of(partWaiters+"-etcd", r.options.waiters)
		fmt.Fprintf(w, "\none lock, %d wait; release to grant"+columns, r.options.waiters)
		r.row(w, "Quiesce, client", ours, etcd)
		r.row(w, "etcd, 1 connections", etcd, nil)
	}
}

// row prints a side's medians and, beside them, its ratios with the lowest and highest of the rounds.
func (r report) row(w io.Writer, name string, samples, etcd []load.Sample) {
	if len(samples) == 0 {
		return
	}
	median := func(value func(load.Sample) float64) float64 { return load.Median(load.Of(samples, value)) }
	fmt.Fprintf(w, "%s\t%.0f\t%.2f\t%.2f\t", name, median(load.Rate), median(load.P50Ms), median(load.P99Ms))
	if len(etcd) > 0 {
		rate, p99 := load.Ratios(samples, etcd, load.Rate), load.Ratios(samples, etcd, load.P99Ms)
		fmt.Fprintf(w, "%.2f [%.2f..%.2f]\t%.2f [%.2f..%.2f]\t", rate.Median, rate.Low, rate.High, p99.Median, p99.Low, p99.High)
	} else {
		fmt.Fprint(w, "\t\t")
	}
	if servers := median(load.ServersUs); servers > 0 {
		fmt.Fprintf(w, "%.0f\t%.0f\t", servers, median(load.ClientUs))
	}
	fmt.Fprintln(w)
}

var goals = []figure.Goal{
	{Figure: "sdk_cycles_ratio_etcd_64", Limit: 6}, {Figure: "sdk_cycles_ratio_etcd_256", Limit: 6},
	{Figure: "sdk_p99_ratio_etcd_64", Limit: 0.4, AtMost: true}, {Figure: "sdk_p99_ratio_etcd_256", Limit: 0.4, AtMost: true},
	{Figure: "http_cycles_ratio_etcd_64", Limit: 2}, {Figure: "http_cycles_ratio_etcd_256", Limit: 2},
	{Figure: "http_p99_ratio_etcd_64", Limit: 0.5, AtMost: true}, {Figure: "http_p99_ratio_etcd_256", Limit: 0.5, AtMost: true},
	{Figure: "cycles_ratio_etcd_1", Limit: 1.1}, {Figure: "handoff_ratio_etcd_16", Limit: 5},
	{Figure: "keepalive_1000_ms", Limit: 2, AtMost: true}, {Figure: "live_sessions_cores", Limit: 1, AtMost: true},
}
