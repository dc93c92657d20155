package cluster_test

import (
	"os"
	"testing"

	"github.com/quiescehq/quiesce/cluster_test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
