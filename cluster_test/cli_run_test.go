package cluster_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
)

// cli runs the command line against a cluster.
type cli struct {
	cluster *harness.Cluster
	path    string
}

func newCLI(t *testing.T, c *harness.Cluster) *cli {
	t.Helper()
	q := &cli{cluster: c, path: filepath.Join(t.TempDir(), "quiesce")}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", q.path, module+"cmd/quiesce").CombinedOutput(); err != nil {
		t.Fatalf("build the command line: %v\n%s", err, out)
	}
	return q
}

// cliRun is one run of it.
type cliRun struct {
	*exec.Cmd
	out, err output
	done     chan struct{}
}

// output is a file, so that no goroutine has to copy what is printed, and a process that outlives the program holds up nobody.
type output string

func (o output) String() string {
	text, _ := os.ReadFile(string(o))
	return string(text)
}

func (q *cli) start(t *testing.T, args ...string) *cliRun {
	t.Helper()
	dir := t.TempDir()
	r := &cliRun{Cmd: exec.Command(q.path, args...), out: output(filepath.Join(dir, "out")), err: output(filepath.Join(dir, "err")), done: make(chan struct{})}
	r.Env = append(os.Environ(), "QUIESCE_ADDRS="+strings.Join(q.cluster.Addrs(), ","))
	out, err := os.Create(string(r.out))
	if err != nil {
		t.Fatal(err)
	}
	complaints, err := os.Create(string(r.err))
	if err != nil {
		t.Fatal(err)
	}
	r.Stdout, r.Stderr = out, complaints
	err = r.Start()
	_, _ = out.Close(), complaints.Close() // the process has its own
	if err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the process, which the cleanup ends
		defer close(r.done)
		_ = r.Cmd.Wait() // the state tells
	}()
	t.Cleanup(func() {
		_ = r.Process.Kill()
		<-r.done
	})
	return r
}

func (r *cliRun) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// wantCode waits for the end and returns what it printed.
func (r *cliRun) wantCode(t *testing.T, code int) string {
	t.Helper()
	select {
	case <-r.done:
	case <-time.After(cliWithin):
		t.Fatalf("%v has not ended: %s%s", r.Args[1:], r.out.String(), r.err.String())
	}
	if got := r.ProcessState.ExitCode(); got != code {
		t.Errorf("%v: code %d, not %d: %s%s", r.Args[1:], got, code, r.out.String(), r.err.String())
	}
	return r.out.String()
}

// must runs it to the end.
func (q *cli) must(t *testing.T, code int, args ...string) string {
	t.Helper()
	return q.start(t, args...).wantCode(t, code)
}

// hold runs a command under a lock until it gets a signal that its trap heeds.
func (q *cli) hold(t *testing.T, name, trap string, flags ...string) (*cliRun, string) {
	t.Helper()
	return q.holdScript(t, name, trap+`; echo $$ >"$1/self"; while :; do sleep 0.05; done`, flags...)
}

func (q *cli) holdScript(t *testing.T, name, script string, flags ...string) (*cliRun, string) {
	t.Helper()
	dir := t.TempDir()
	if !slices.Contains(flags, "--ttl") {
		flags = append(flags, "--ttl", cliTTL.String())
	}
	run := q.start(t, append(append([]string{"lock", "run", name}, flags...), "--", "sh", "-c", script, "sh", dir)...)
	pidOf(t, dir, "self")
	return run, dir
}

func (q *cli) lock(t *testing.T, name string) api.Lock {
	t.Helper()
	var lock api.Lock
	if err := json.Unmarshal([]byte(q.must(t, 0, "lock", "show", name, "-o", "json")), &lock); err != nil {
		t.Fatal(err)
	}
	return lock
}

func (q *cli) awaitWaiting(t *testing.T, name string, n int) {
	t.Helper()
	harness.Eventually(t, cliWithin, fmt.Sprintf("%d to wait for %s", n, name), func() error {
		if got := q.lock(t, name).Waiting; got != n {
			return fmt.Errorf("%d wait", got)
		}
		return nil
	})
}

func (q *cli) awaitFree(t *testing.T, name string) {
	t.Helper()
	if held := q.lock(t, name).HoldersTotal; held != 0 {
		t.Errorf("%s is held after the command has ended", name)
	}
}

func tokenIn(t *testing.T, out, name string) uint64 {
	t.Helper()
	token, err := strconv.ParseUint(strings.TrimSpace(strings.TrimPrefix(out, name+" ")), 10, 64)
	if err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	return token
}

func family(t *testing.T, dir string) []int {
	t.Helper()
	return []int{pidOf(t, dir, "self"), pidOf(t, dir, "child"), pidOf(t, dir, "far")}
}

func pidOf(t *testing.T, dir, name string) int {
	t.Helper()
	var pid int
	harness.Eventually(t, cliWithin, "the process "+name, func() error {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err
	})
	return pid
}

// awaitEnd waits until none of the processes runs. One that has ended and not been reaped does not.
func awaitEnd(t *testing.T, within time.Duration, pids ...int) {
	t.Helper()
	harness.Eventually(t, within, "the processes to end", func() error {
		for _, pid := range pids {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err != nil {
				continue
			}
			if state := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])[0]; string(state) != "Z" && string(state) != "X" {
				return fmt.Errorf("process %d is in state %s", pid, state)
			}
		}
		return nil
	})
}
