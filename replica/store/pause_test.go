package store

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// pausedDir makes the test binary the process that is paused.
const pausedDir = "QUIESCE_TEST_PAUSED_DIR"

const pausedSyncTimeout = 2 * time.Second

// TestGuard_PausedProcessIsNoHungDisk stops a process in the middle of an append for longer than the limit.
func TestGuard_PausedProcessIsNoHungDisk(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv(pausedDir); dir != "" {
		appendForEver(t, dir)
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), pausedDir+"="+t.TempDir())
	output := value(child.StdoutPipe())(t)
	noError(t, child.Start())
	defer func() {
		noError(t, child.Process.Kill())
		_ = child.Wait()
	}()
	lines := bufio.NewScanner(output)
	next := func() {
		t.Helper()
		if !lines.Scan() || lines.Text() != "appended" {
			t.Fatalf("the process says %q", lines.Text())
		}
	}
	next()
	<-time.After(50 * time.Millisecond) // into the next append
	noError(t, child.Process.Signal(syscall.SIGSTOP))
	<-time.After(pausedSyncTimeout + pausedSyncTimeout/2)
	noError(t, child.Process.Signal(syscall.SIGCONT))
	for range 20 {
		next()
	}
}

// slowLogs takes long enough that a pause surely meets an append, and some time after the pause to finish it.
type slowLogs struct{ raft.LogStore }

func (s slowLogs) StoreLogs(logs []*raft.Log) error {
	for range 10 {
		<-time.After(10 * time.Millisecond)
	}
	return s.LogStore.StoreLogs(logs)
}

func appendForEver(t *testing.T, dir string) {
	cfg := testConfig(t, dir, BoltDB)
	cfg.SyncTimeout = pausedSyncTimeout
	cfg.OnFatal = func(err error) {
		fmt.Println(err)
		os.Exit(1)
	}
	cfg.WrapLogs = func(inner raft.LogStore) raft.LogStore { return slowLogs{inner} }
	s := openIn(t, cfg)
	for i := uint64(1); ; i++ {
		noError(t, s.Logs().StoreLogs(entries(i, i, 1)))
		fmt.Println("appended")
	}
}
