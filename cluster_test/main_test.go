package cluster_test

import (
	"os"
	"syscall"
	"testing"

	"github.com/quiescehq/quiesce/cluster_test/harness"
)

// TestMain runs the tests, or plays the holder of a lock that a test started as a process of its own.
func TestMain(m *testing.M) {
	if holding := os.Getenv(envHolder); holding != "" {
		os.Exit(playHolder(holding))
	}
	os.Exit(harness.Main(m))
}

const termSignal = syscall.SIGTERM
