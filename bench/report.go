package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"text/tabwriter"

	"github.com/quiescehq/quiesce/bench/load"
)

// report prints what was measured.
type report struct {
	results results
	place   place
	options options
}

func (r report) print(out io.Writer) error {
	figures := r.results.figures(r.options)
	if !r.options.json {
		if err := r.tables(out, figures); err != nil {
			return err
		}
	}
	for name, value := range figures {
		figures[name] = rounded(value)
	}
	line, err := json.Marshal(figures) // in the order of the names
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", line)
	return err
}

// rounded keeps four digits: the machine repeats fewer.
func rounded(v float64) float64 {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(v))))
	return math.Round(v*scale) / scale
}

func (r report) tables(out io.Writer, figures map[string]float64) error {
	fmt.Fprintf(out, "%s\n%d rounds of %s a case; medians. Clients, three members of each system and Redis share this machine;\nwhat else ran on it used %.1f cores (median of all cases). CPU is for one acquire and release.\n",
		r.place, r.options.rounds, r.options.measure, figures["others_cores"])
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	r.cycleTable(w)
	r.contendedTable(w)
	r.goalTable(w, figures)
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

// goal is what a figure is to reach.
type goal struct {
	figure string
	limit  float64
	atMost bool
}

var goals = []goal{
	{"sdk_cycles_ratio_etcd_64", 6, false}, {"sdk_cycles_ratio_etcd_256", 6, false},
	{"sdk_p99_ratio_etcd_64", 0.4, true}, {"sdk_p99_ratio_etcd_256", 0.4, true},
	{"http_cycles_ratio_etcd_64", 2, false}, {"http_cycles_ratio_etcd_256", 2, false},
	{"http_p99_ratio_etcd_64", 0.5, true}, {"http_p99_ratio_etcd_256", 0.5, true},
	{"cycles_ratio_etcd_1", 1.1, false}, {"handoff_ratio_etcd_16", 5, false},
	{"keepalive_1000_ms", 2, true}, {"live_sessions_cores", 1, true},
}

func (g goal) met(value float64) bool { return value == g.limit || (value < g.limit) == g.atMost }

func (r report) goalTable(w io.Writer, figures map[string]float64) {
	fmt.Fprint(w, "\ngoals\tmeasured\tgoal\t\t\n")
	for _, g := range goals {
		value, measured := figures[g.figure]
		if !measured {
			continue
		}
		sign, verdict := ">=", "met"
		if g.atMost {
			sign = "<="
		}
		if !g.met(value) {
			verdict = "NOT met"
		}
		fmt.Fprintf(w, "%s\t%.2f\t%s %.1f\t%s\t\n", g.figure, value, sign, g.limit, verdict)
	}
}
