package chaos_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/cluster_test/chaos"
	"github.com/quiescehq/quiesce/cluster_test/harness"
)

// What the long run is told, so that this package's tests do nothing when all tests run: the short run is among those of the cluster.
const (
	durationVariable = "QUIESCE_CHAOS_DURATION"
	seedVariable     = "QUIESCE_CHAOS_SEED"
)

// last is the report of the long run, for the last line of the output.
var last *chaos.Report

func TestMain(m *testing.M) {
	code := harness.Main(m)
	if os.Getenv(durationVariable) != "" {
		if last == nil {
			last = &chaos.Report{}
		}
		if code != 0 {
			last.Failed = max(last.Failed, 1)
		}
		fmt.Printf("%d passed, %d failed\n", last.Passed, last.Failed)
	}
	os.Exit(code)
}

func TestChaos_LongRun(t *testing.T) {
	text := os.Getenv(durationVariable)
	if text == "" {
		t.Skip("make chaos-locks runs it")
	}
	duration, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64N(1 << 32)
	if text := os.Getenv(seedVariable); text != "" {
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Printf("seed %d, for %s: make chaos-locks DURATION=%s SEED=%d\n", seed, duration, duration, seed)
	report := chaos.Run(t, chaos.Options{Seed: seed, For: duration, Dir: filepath.Join(os.TempDir(), "quiesce-chaos", fmt.Sprint(seed))})
	last = &report
	fmt.Println(report.Text)
}
