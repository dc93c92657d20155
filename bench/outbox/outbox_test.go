package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/quiescehq/quiesce/bench/figure"
	"github.com/quiescehq/quiesce/mapping"
)

// TestMain lets this binary be a member of the bare cluster, as the command does.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == bareCommand {
		os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	goleak.VerifyTestMain(m)
}

func TestOutbox_ShortRunReportsEveryFigure(t *testing.T) {
	profiles := filepath.Join(t.TempDir(), "profiles")
	o, err := parse([]string{"-short", "-root", filepath.Join("..", ".."), "-dir", t.TempDir(), "-profiles", profiles}, io.Discard)
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
	// How good they are is no matter of a test on a busy machine.
	for _, name := range []string{"accept_per_s_1", "accept_per_s_100", "accept_per_s_1000", "accept_ratio_bare", "accept_ratio_bare_1", "accept_ratio_bare_100", "accept_ratio_bare_1000",
		"accept_ratio_bare_joined_1", "delivery_ratio_bare_json", "delivery_ratio_bare_hash", "lag_p99_ms_tier1", "lag_p99_ms_tier2", "lag_p99_ms_tier3", "lag_p99_ms_tier3_nudge",
		"lag_p99_ms_tier4", "lag_p99_ms_tier4_nudge", "insert_p99_ms", "insert_p99_blocked_ms", "restart_20000_s", "drain_20000_s", "resident_bytes_per_pending"} {
		if value, ok := figures[name]; !ok || value <= 0 {
			t.Errorf("%s is %v, there: %v", name, value, ok)
		}
	}
	for _, name := range []string{"accept-1-leader", "deliver-json-follower", "lag-tier3-client"} {
		if file, err := os.Stat(filepath.Join(profiles, name+".pprof")); err != nil || file.Size() == 0 {
			t.Errorf("profile %s: %v", name, err)
		}
	}
}

// The bare pipeline would measure something else with a script of its own.
func TestReadScript_FindsTheProductsOwn(t *testing.T) {
	t.Parallel()
	script, err := readScript(filepath.Join("..", "..", scriptFile))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(script, "redis.call") || !strings.HasSuffix(strings.TrimSpace(script), "return outcomes") {
		t.Errorf("found %q", script)
	}
	other := filepath.Join(t.TempDir(), "script.go")
	if err := os.WriteFile(other, []byte("package x\n\nconst somethingElse = `return 1`\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if script, err := readScript(other); err == nil {
		t.Errorf("found %q where there is none", script)
	}
}

// Entries of the bare side weigh what ours do: an event costs its mapping and its key, and a little.
func TestEntryBytes_GrowWithTheEvents(t *testing.T) {
	t.Parallel()
	one, thousand := entryBytes(1), entryBytes(1_000)
	event := len(acceptMapping) + len(mapping.EncodeKey([]string{"100000"}))
	if each := (thousand - one) / 999; each < event || each > event+8 {
		t.Errorf("an event is %d bytes, and its mapping and key are %d", each, event)
	}
}

func TestOptions_WhatCannotWorkIsRefused(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"-only nothing", "-rounds 0", "-measure 0s", "-lag 6m", "-blocked 0s", "-callers 7", "-events 499", "-pending 1000001", "-rate 0", "more", "-node a -profiles b"} {
		if _, err := parse(strings.Fields(args), io.Discard); err == nil {
			t.Errorf("%s was accepted", args)
		}
	}
	o, err := parse(strings.Fields("-short -rounds 2"), io.Discard)
	if err != nil || o.rounds != 2 || o.events >= 300_000 {
		t.Errorf("a short run with rounds of its own: %+v, %v", o, err)
	}
}
