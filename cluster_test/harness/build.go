package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// buildTimeout is for a machine that has compiled nothing yet.
const buildTimeout = 8 * time.Minute

const module = "github.com/quiescehq/quiesce/"

// built are the programs under test: each is built once for a test binary, by the first test that needs it. Main removes their folder.
var built struct {
	sync.Mutex
	dir      string
	err      error            // of making the folder
	programs map[string]error // those that were tried
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
	return Program(t, "cmd/node")
}

// Program does the same for any program of this module, which is named by its folder.
func Program(t testing.TB, folder string) string {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if built.programs == nil {
		built.programs = map[string]error{}
		built.dir, built.err = os.MkdirTemp("", "quiesce-node-")
	}
	if built.err != nil {
		t.Fatal(built.err)
	}
	binary := filepath.Join(built.dir, "quiesce-"+path.Base(folder))
	err, tried := built.programs[folder]
	if !tried {
		err = build(folder, binary)
		built.programs[folder] = err
	}
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// build takes more arguments of go build than every program has.
func build(folder, binary string, more ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	// -buildvcs: a checkout of another user, as in a container, must not keep the tests from running.
	arguments := append([]string{"build", "-buildvcs=false", "-o", binary}, more...)
	if raceEnabled {
		arguments = append(arguments, "-race")
	}
	command := exec.CommandContext(ctx, "go", append(arguments, module+folder)...)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", folder, err, out)
	}
	return nil
}
