package syncchaos_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/cluster_test/syncchaos"
	"github.com/quiescehq/quiesce/cluster_test/syncchaos/writer"
)

// What the long run is told.
const (
	durationVariable = "QUIESCE_SYNCCHAOS_DURATION"
	seedVariable     = "QUIESCE_SYNCCHAOS_SEED"
	shortRun         = 35 * time.Second
)

// last is the report of the long run, for the last line of the output.
var last syncchaos.Report

func TestMain(m *testing.M) {
	if os.Getenv(syncchaos.EnvRole) != "" {
		os.Exit(writer.Main())
	}
	code := harness.Main(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if os.Getenv(durationVariable) != "" {
		last.OK = last.OK && code == 0
		fmt.Println(last.Line())
	}
	os.Exit(code)
}

// The long form, for as long as one likes, is make chaos-sync.
func TestSyncChaos_ShortRunLosesNothingAndInventsNothing(t *testing.T) {
	if os.Getenv(durationVariable) != "" {
		t.Skip("the long run does the same")
	}
	t.Parallel()
	run(t, rand.Uint64N(1<<32), shortRun)
}

func TestSyncChaos_LongRun(t *testing.T) {
	text := os.Getenv(durationVariable)
	if text == "" {
		t.Skip("make chaos-sync runs it")
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
	fmt.Printf("seed %d, for %s: make chaos-sync DURATION=%s SEED=%d\n", seed, duration, duration, seed)
	last.Seed = seed
	last = run(t, seed, duration)
}

func run(t *testing.T, seed uint64, duration time.Duration) syncchaos.Report {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return syncchaos.Run(t, syncchaos.Options{Seed: seed, For: duration, Writer: self,
		Keep: filepath.Join(os.TempDir(), "quiesce-syncchaos", fmt.Sprintf("%d-%d", seed, os.Getpid()))})
}
