package rolling

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"go.uber.org/goleak"

	"github.com/quiescehq/quiesce/cluster_test/harness"
)

// roundsVariable is what the long run is told, so that it does not run with all tests: the short run is among those of the cluster.
const roundsVariable = "QUIESCE_ROLLING_ROUNDS"

const rate = 250 // requests a second

// last is the report of the long run, for the last line of the output.
var last Report

func TestMain(m *testing.M) {
	code := harness.Main(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if os.Getenv(roundsVariable) != "" {
		last.OK = last.OK && code == 0
		fmt.Println(last.Line())
	}
	os.Exit(code)
}

func TestRolling_LongRun(t *testing.T) {
	text := os.Getenv(roundsVariable)
	if text == "" {
		t.Skip("make rolling runs it")
	}
	rounds, err := strconv.Atoi(text)
	if err != nil || rounds < 1 {
		t.Fatalf("%s=%q is no number of rounds", roundsVariable, text)
	}
	last.Rounds = rounds
	last = Run(t, Options{Rounds: rounds, Rate: rate})
}
