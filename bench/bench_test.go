package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/bench/figure"
	"github.com/quiescehq/quiesce/bench/load"
	"github.com/quiescehq/quiesce/bench/system"
)

// TestMain makes the test binary a member of etcd too, as the program itself is one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == system.EtcdCommand {
		main()
	}
	os.Exit(m.Run())
}

// harness is a short run with a development node in the place of the cluster.
func harness(t *testing.T, args ...string) *bench {
	t.Helper()
	dir := t.TempDir()
	o, err := parse(append([]string{"-seconds", "0.2", "-keep-seconds", "0.5", "-rounds", "1", "-workers", "1,8", "-contend", "4", "-waiters", "20",
		"-sessions", "2000"}, args...), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{options: o, dir: dir, progress: io.Discard, results: newResults(), dev: true}
	t.Cleanup(func() {
		if err := b.close(); err != nil {
			t.Error(err)
		}
	})
	if err := b.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBench_EveryWorkloadRunsAndIsReported(t *testing.T) {
	profiles := filepath.Join(t.TempDir(), "profiles")
	b := harness(t, "-profiles", profiles)
	if err := b.all(t.Context()); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := (report{results: b.results, place: figure.PlaceOf(b.dir), options: b.options}).print(&out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var figures map[string]float64
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &figures); err != nil {
		t.Fatalf("the last line is no JSON object: %v\n%s", err, out.String())
	}
	want := []string{"sdk_cycles_ratio_etcd_8", "sdk_p99_ratio_etcd_8", "http_cycles_ratio_etcd_8", "http_p99_ratio_etcd_8", "cycles_ratio_etcd_1",
		"handoff_ratio_etcd_4", "waiters_ratio_etcd_20", "keepalive_1000_ms", "live_sessions_cores", "http_cpu_us_servers_8"}
	if b.redis != nil {
		want = append(want, "redis_cycles_8")
	}
	for _, name := range want {
		if value, ok := figures[name]; !ok || value < 0 || (value == 0 && name != "live_sessions_cores") {
			t.Errorf("%s is %v, there: %v", name, value, ok)
		}
	}
	for _, name := range []string{"sdk-8-leader", "http-8-client", "waiters-leader", "keepalive-live-leader"} {
		if file, err := os.Stat(filepath.Join(profiles, name+".pprof")); err != nil || file.Size() == 0 {
			t.Errorf("profile %s: %v", name, err)
		}
	}
}

func TestOptions_WhatCannotWorkIsRefused(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"-only nothing", "-rounds 0", "-workers 0", "-workers x", "-seconds 0", "-seconds 600", "-waiters 0", "-sessions 100001", "more",
		"-node a -profiles b"} {
		if _, err := parse(strings.Fields(args), io.Discard); err == nil {
			t.Errorf("%s was accepted", args)
		}
	}
	if _, err := parse(nil, io.Discard); err != nil {
		t.Error(err)
	}
}

func TestResults_EtcdIsTakenWithItsBestNumberOfConnections(t *testing.T) {
	t.Parallel()
	r := newResults()
	for _, rate := range []float64{10, 100, 11} { // one lucky round does not make it the best
		r.add(etcdWith(1), 4, load.Sample{Rate: rate, P99: time.Second})
	}
	for _, rate := range []float64{20, 21, 22} {
		r.add(etcdWith(8), 4, load.Sample{Rate: rate, P99: 2 * time.Second})
	}
	for range 3 {
		r.add(partSDK, 4, load.Sample{Rate: 42, P99: time.Second})
	}
	figures := r.figures(options{workers: []int{4}})
	for name, want := range map[string]float64{"etcd_connections_4": 8, "etcd_cycles_4": 21, "sdk_cycles_ratio_etcd_4": 2, "sdk_p99_ratio_etcd_4": 0.5} {
		if figures[name] != want {
			t.Errorf("%s is %v, want %v", name, figures[name], want)
		}
	}
	if _, measured := figures["http_cycles_ratio_etcd_4"]; measured {
		t.Error("a figure was reported of what was not measured")
	}
}
