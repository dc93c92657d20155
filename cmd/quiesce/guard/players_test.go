//go:build linux

package guard

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// The test binary plays the guard, an asker that can be killed or stopped, and a command that hears a signal.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == "guard":
		os.Exit(Main())
	case len(os.Args) > 1 && os.Args[1] == "asker":
		os.Exit(playAsker(os.Args[2], os.Args[3:]))
	case len(os.Args) > 1 && os.Args[1] == "hearer":
		os.Exit(playHearer(os.Args[2], os.Args[3]))
	}
	_ = os.Setenv("GORACE", "atexit_sleep_ms=0") // else a guard with the race detector takes a second to end
	goleak.VerifyTestMain(m)
}

const (
	patience = 20 * time.Second
	far      = time.Hour
	slack    = 2 * time.Second // of a loaded machine

	codeHeard = 9
)

// family is a command with a child, and a child of that which has a session of its own. All of them refuse SIGTERM, and write their
// numbers into the folder.
const family = `cd "$1"; trap '' TERM
sh -c 'trap "" TERM; echo $$ >child; setsid sh -c "trap \"\" TERM; echo \$\$ >far; while :; do sleep 1; done" & while :; do sleep 1; done' &
echo $$ >self; while :; do sleep 1; done`

func shell(t *testing.T, script, argument string) Spec {
	t.Helper()
	path, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	return Spec{Path: path, Argv: []string{"sh", "-c", script, "sh", argument}, Env: append(os.Environ(), "WHO=me"), Grace: time.Second,
		Rest: EndRest, Until: In(far), TTY: NoTTY}
}

func familySpec(t *testing.T) (Spec, string) {
	t.Helper()
	dir := t.TempDir()
	return shell(t, family, dir), dir
}

func familyOf(t *testing.T, dir string) []int {
	t.Helper()
	return []int{pidIn(t, dir, "self"), pidIn(t, dir, "child"), pidIn(t, dir, "far")}
}

// hearerSpec is a command that ends when it hears the signal. No shell: one that was born with the signal ignored, as SIGHUP is under nohup,
// does not trap it, and these tests are to hold there too.
func hearerSpec(t *testing.T, sig syscall.Signal) (Spec, string) {
	t.Helper()
	dir := t.TempDir()
	s := shell(t, "", "")
	s.Path, s.Argv = os.Args[0], []string{os.Args[0], "hearer", strconv.Itoa(int(sig)), dir}
	return s, dir
}

func playHearer(number, dir string) int {
	sig, _ := strconv.Atoi(number)
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, syscall.Signal(sig))
	if err := os.WriteFile(filepath.Join(dir, "self"), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	<-heard
	return codeHeard
}

func begin(t *testing.T, s Spec) *Child {
	t.Helper()
	return beginAs(t, []string{os.Args[0], "guard"}, s)
}

func beginAs(t *testing.T, self []string, s Spec) *Child {
	t.Helper()
	c, err := Start(self, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.End(0)
		select {
		case <-c.Ended():
		case <-time.After(patience):
			t.Error("the guard does not end")
			c.Kill()
			_ = c.process.Process.Kill()
		}
	})
	return c
}

func outcome(t *testing.T, c *Child) Outcome {
	t.Helper()
	select {
	case <-c.Ended():
	case <-time.After(patience):
		t.Fatalf("the command has not ended\n%s", state(c))
	}
	got, err := c.Outcome()
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// state is what the kernel knows of the guard, the command and their children: who waits for what, and which signals reach it.
func state(c *Child) string {
	parents := fmt.Sprintf("%d,%d", c.process.Process.Pid, c.pid)
	text, err := exec.Command("ps", "-o", "pid,ppid,pgid,stat,wchan:20,pending,blocked,ignored,caught,etime,args", "-p", parents, "--ppid", parents).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s: %v", text, err)
	}
	return string(text)
}

// startAsker starts a process that asks for a family and then only waits.
func startAsker(t *testing.T, until time.Duration) (*exec.Cmd, []int) {
	t.Helper()
	dir := t.TempDir()
	asker := exec.Command(os.Args[0], "asker", strconv.FormatInt(int64(In(until)), 10), dir)
	out, err := asker.StdoutPipe()
	if err == nil {
		err = asker.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	t.Cleanup(func() {
		_ = asker.Process.Kill()
		for _, pid := range pids {
			if runs(pid) { // the test has failed
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		_, _ = io.Copy(io.Discard, out)
		_ = asker.Wait()
	})
	pids = familyOf(t, dir)
	return asker, pids
}

func playAsker(until string, arguments []string) int {
	at, _ := strconv.ParseInt(until, 10, 64)
	c, err := Start([]string{os.Args[0], "guard"}, Spec{Path: "/bin/sh", Argv: append([]string{"sh", "-c", family, "sh"}, arguments...),
		Env: os.Environ(), Grace: 300 * time.Millisecond, Rest: EndRest, Until: Instant(at), TTY: NoTTY})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	<-c.Ended()
	return 0
}

func pidIn(t *testing.T, dir, name string) int {
	t.Helper()
	var pid int
	eventually(t, patience, func() error {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err
	})
	return pid
}

// awaitGone fails unless all processes have ended by then. The killed ones are reaped by the guard, or by init.
func awaitGone(t *testing.T, within time.Duration, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		eventually(t, within, func() error {
			if runs(pid) {
				return fmt.Errorf("process %d runs", pid)
			}
			return nil
		})
	}
}

// runs is true for a process that is no zombie.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return syscall.Kill(pid, 0) == nil && !errors.Is(err, os.ErrNotExist)
	}
	rest := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	return len(rest) > 0 && rest[0] != "Z" && rest[0] != "X"
}

func eventually(t *testing.T, within time.Duration, ask func() error) {
	t.Helper()
	limit := time.Now().Add(within)
	every := time.NewTicker(10 * time.Millisecond)
	defer every.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("waited %s: %v", within, err)
		}
		<-every.C
	}
}
