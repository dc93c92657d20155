package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/quiescehq/quiesce/bench/figure"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// toy is every part in seconds.
var toy = []string{"-runs", "1", "-calm", "1s", "-load", "4", "-plan-instances", "12", "-max-unavailable", "3", "-work", "10ms", "-instances", "30", "-services", "2",
	"-ttl", "2s", "-keep", "1s", "-at-once", "2", "-keys", "1200", "-other-keys", "300", "-rounds", "2"}

func TestShutdown_EveryPartRunsAndIsReported(t *testing.T) {
	profiles := filepath.Join(t.TempDir(), "profiles")
	args := append(toy, "-root", filepath.Join("..", ".."), "-dir", t.TempDir(), "-profiles", profiles)
	_, noRedis := exec.LookPath("redis-server")
	if noRedis != nil {
		args = append(args, "-only", strings.Join(parts[:len(parts)-1], ","))
	}
	o, err := parse(args, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var out, progress bytes.Buffer
	if err := measure(t.Context(), o, &out, &progress); err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var figures figure.Figures
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &figures); err != nil {
		t.Fatalf("the last line is no JSON object: %v\n%s", err, out.String())
	}
	judge(t, figures, noRedis == nil)
	for _, name := range []string{"grants-leader", "keepalives-parked-leader", "keepalives-parked-client"} {
		if file, err := os.Stat(filepath.Join(profiles, name+".pprof")); err != nil || file.Size() == 0 {
			t.Errorf("profile %s: %v", name, err)
		}
	}
}

// judge wants every figure, and no value that cannot be: how good they are is no matter of a test on a busy machine.
func judge(t *testing.T, figures figure.Figures, redis bool) {
	t.Helper()
	want := []string{"planned_gap_ms_p50", "planned_gap_ms_max", "kill_gap_ms_p50", "kill_gap_ms_max", "calm_gap_ms_max", "calm_cycles_rate",
		"grant_p99_ms_12", "grant_first_max_ms_12", "plan_seconds_12", "plan_log_entries_12", "keepalives_per_s_node", "keepalives_per_s_node_parked",
		"keepalives_per_s_node_unparked", "keepalive_log_entries_per_lease_failover", "keepalive_goroutines_leader_parked"}
	if redis {
		want = append(want, "bulk_delete_ratio", "bulk_delete_ms", "single_delete_ms")
	}
	for _, name := range want {
		if value, ok := figures[name]; !ok || value <= 0 {
			t.Errorf("%s is %v, there: %v", name, value, ok)
		}
	}
	for _, name := range []string{"elections", "keepalive_log_entries"} {
		if _, ok := figures[name]; !ok {
			t.Errorf("%s is missing", name)
		}
	}
	// A killed leader is missed for the election timeout at least; one that hands over is not.
	if figures["kill_gap_ms_p50"] < 200 {
		t.Errorf("nobody noticed that the leader was killed: %v ms", figures["kill_gap_ms_p50"])
	}
	// Three keepalives a TTL, of 30 instances at three nodes: 15 a second for each.
	for _, mode := range []string{"parked", "unparked"} {
		if rate := figures["keepalives_per_s_node_"+mode]; rate > 16 {
			t.Errorf("%s: %v keepalives a second at each node, and 15 are due", mode, rate)
		}
	}
	if renewed := figures["keepalive_renewals_per_lease_failover"]; renewed < 1 {
		t.Errorf("%v renewals a lease were logged by the new leader, and each must be once", renewed)
	}
	if perRestart := figures["plan_log_entries_per_restart"]; perRestart > 8 {
		t.Errorf("%v log entries for a restart of five commands", perRestart)
	}
}

func TestOptions_WhatCannotWorkIsRefused(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"-only nothing", "-runs 0", "-rounds 0", "-calm 0s", "-calm 9m", "-every 1us", "-plan-instances 1", "-plan-instances 1001",
		"-max-unavailable 500", "-max-unavailable 0", "-instances 0", "-instances 12001", "-services 0", "-ttl 1ms", "-keep 0s", "-keys 0", "-load -1", "-at-once 0", "-work 1m", "more",
		"-node a -profiles b"} {
		if _, err := parse(strings.Fields(args), io.Discard); err == nil {
			t.Errorf("%s was accepted", args)
		}
	}
	if _, err := parse(nil, io.Discard); err != nil {
		t.Error(err)
	}
}
