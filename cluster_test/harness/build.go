package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// buildTimeout is for a machine that has compiled nothing yet.
const buildTimeout = 8 * time.Minute

// built is the node's binary: one for a test binary, made by the first test that needs it. Main removes its folder.
var built struct {
	once sync.Once
	dir  string
	err  error
}

// Main runs the tests of a package that uses this one. Call it from TestMain.
func Main(m *testing.M) int {
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	return code
}

// Binary builds quiesce-node, with the race detector where the tests have it, and returns its path.
func Binary(t testing.TB) string {
	t.Helper()
	built.once.Do(build)
	if built.err != nil {
		t.Fatal(built.err)
	}
	return binaryPath()
}

func binaryPath() string { return filepath.Join(built.dir, "quiesce-node") }

func build() {
	if built.dir, built.err = os.MkdirTemp("", "quiesce-node-"); built.err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	// -buildvcs: a checkout of another user, as in a container, must not keep the tests from running.
	arguments := []string{"build", "-buildvcs=false", "-o", binaryPath()}
	if raceEnabled {
		arguments = append(arguments, "-race")
	}
	command := exec.CommandContext(ctx, "go", append(arguments, "github.com/quiescehq/quiesce/cmd/node")...)
	if out, err := command.CombinedOutput(); err != nil {
		built.err = fmt.Errorf("build the node: %w\n%s", err, out)
	}
}
