package cluster_test

import (
	"testing"

	"github.com/quiescehq/quiesce/cluster_test/rolling"
)

// The long form, for as many rounds as one likes, is make rolling.
func TestShutdown_RollingRestartOfEverythingIsUnnoticed(t *testing.T) {
	t.Log(rolling.Run(t, rolling.Options{Rounds: 2, Rate: 60}).Line())
}
