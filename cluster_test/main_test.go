package cluster_test

import (
	"os"
	"syscall"
	"testing"

	"github.com/quiescehq/quiesce/cluster_test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

const termSignal = syscall.SIGTERM
