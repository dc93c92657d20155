package cluster_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/quiescehq/quiesce/cluster_test/chaos"
)

// The long form, for as long as one likes, is make chaos-locks.
func TestChaos_ShortRunFindsOneOrderForEveryLockUnderEachFault(t *testing.T) {
	report := chaos.Run(t, chaos.Options{Seed: rand.Uint64N(1 << 32), Dir: filepath.Join(os.TempDir(), "quiesce-chaos")})
	t.Logf("%s; %d passed, %d failed", report.Text, report.Passed, report.Failed)
}
