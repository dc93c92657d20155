package cluster_test

import (
	"math/rand/v2"
	"testing"

	"github.com/quiescehq/quiesce/cluster_test/rolling"
)

// The long form, for as many rounds as one likes, is make rolling.
func TestShutdown_RollingRestartOfEverythingIsUnnoticed(t *testing.T) {
	t.Log(rolling.Run(t, rolling.Options{Rounds: 2, Rate: 100}).Line())
}

func TestShutdown_CrashesLoseNothingAndOverdrawNoBudget(t *testing.T) {
	t.Parallel()
	rolling.Crashes(t, 3, rand.Uint64N(1<<32))
}
