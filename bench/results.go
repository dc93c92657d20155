package main

import (
	"fmt"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/bench/figure"
	"github.com/quiescehq/quiesce/bench/load"
)

// results are the samples of all rounds.
type results struct {
	samples map[string][]load.Sample // by case and workers
	live    int                      // sessions that were kept, 0 if that was not measured
	cores   float64                  // of the leader, meanwhile
}

func newResults() results { return results{samples: map[string][]load.Sample{}} }

func resultKey(name string, workers int) string { return fmt.Sprintf("%s/%d", name, workers) }

func (r results) add(name string, workers int, s load.Sample) {
	key := resultKey(name, workers)
	r.samples[key] = append(r.samples[key], s)
}

func (r results) of(name string, workers int) []load.Sample {
	return r.samples[resultKey(name, workers)]
}

// etcd is the result of etcd with the number of connections that gave it the most steps a second, by the median of the rounds.
func (r results) etcd(prefix string, workers int) (best []load.Sample, connections int) {
	rate := -1.0
	for _, n := range etcdConnections {
		samples := r.of(prefix+etcdWith(n), workers)
		if median := load.Median(load.Of(samples, load.Rate)); len(samples) > 0 && median > rate {
			best, connections, rate = samples, n, median
		}
	}
	return best, connections
}

// figures are all results under their names for programs; what was not measured is absent.
func (r results) figures(o options) figure.Figures {
	out := figure.Figures{}
	for _, workers := range o.workers {
		etcd, connections := r.etcd("", workers)
		put(out, "etcd", workers, etcd)
		if connections > 0 {
			out[fmt.Sprintf("etcd_connections_%d", workers)] = float64(connections)
		}
		put(out, partRedis, workers, r.of(partRedis, workers))
		for _, side := range []string{partSDK, partHTTP} {
			put(out, side, workers, r.of(side, workers))
			putRatios(out, side, workers, r.of(side, workers), etcd)
		}
	}
	if ratio, ok := out["sdk_cycles_ratio_etcd_1"]; ok {
		out["cycles_ratio_etcd_1"] = ratio
	}
	r.contended(o, out)
	if calls := r.of(partKeepalive, api.KeepaliveIDsMax); len(calls) > 0 {
		out["keepalive_1000_ms"] = load.Median(load.Of(calls, load.P50Ms))
		out["keepalive_1000_p99_ms"] = load.Median(load.Of(calls, load.P99Ms))
	}
	if others := r.others(); len(others) > 0 {
		out["others_cores"] = load.Median(others)
	}
	if r.live > 0 {
		out["live_sessions"], out["live_sessions_cores"] = float64(r.live), r.cores
	}
	return out
}

// others is what the rest of the machine used during each case.
func (r results) others() []float64 {
	var out []float64
	for _, samples := range r.samples {
		for _, s := range samples {
			if s.Servers > 0 {
				out = append(out, s.Others)
			}
		}
	}
	return out
}

func (r results) contended(o options, out map[string]float64) {
	for _, c := range []struct {
		name, prefix string
		workers      int
		etcd         []load.Sample
	}{
		{partHandOff, "handoff", o.contend, first(r.etcd(partHandOff+"-", o.contend))},
		{partWaiters, "waiters", o.waiters, r.of(partWaiters+"-etcd", o.waiters)},
	} {
		ours := r.of(c.name, c.workers)
		putNamed(out, c.prefix+"_rate", c.prefix, c.workers, ours)
		putNamed(out, c.prefix+"_etcd_rate", c.prefix+"_etcd", c.workers, c.etcd)
		if len(ours) > 0 && len(c.etcd) > 0 {
			out[fmt.Sprintf("%s_ratio_etcd_%d", c.prefix, c.workers)] = load.Ratios(ours, c.etcd, load.Rate).Median
		}
	}
}

func first(samples []load.Sample, _ int) []load.Sample { return samples }

func put(out map[string]float64, side string, workers int, samples []load.Sample) {
	putNamed(out, side+"_cycles", side, workers, samples)
}

func putNamed(out map[string]float64, rate, prefix string, workers int, samples []load.Sample) {
	if len(samples) == 0 {
		return
	}
	out[fmt.Sprintf("%s_%d", rate, workers)] = load.Median(load.Of(samples, load.Rate))
	out[fmt.Sprintf("%s_p50_ms_%d", prefix, workers)] = load.Median(load.Of(samples, load.P50Ms))
	out[fmt.Sprintf("%s_p99_ms_%d", prefix, workers)] = load.Median(load.Of(samples, load.P99Ms))
	if servers := load.Median(load.Of(samples, load.ServersUs)); servers > 0 {
		out[fmt.Sprintf("%s_cpu_us_servers_%d", prefix, workers)] = servers
		out[fmt.Sprintf("%s_cpu_us_client_%d", prefix, workers)] = load.Median(load.Of(samples, load.ClientUs))
	}
}

func putRatios(out map[string]float64, side string, workers int, ours, etcd []load.Sample) {
	if len(ours) == 0 || len(etcd) == 0 {
		return
	}
	out[fmt.Sprintf("%s_cycles_ratio_etcd_%d", side, workers)] = load.Ratios(ours, etcd, load.Rate).Median
	out[fmt.Sprintf("%s_p99_ratio_etcd_%d", side, workers)] = load.Ratios(ours, etcd, load.P99Ms).Median
}
