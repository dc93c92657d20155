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

// The test binary plays the guard, and an asker that can be killed or stopped.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == "guard":
		os.Exit(Main())
	case len(os.Args) > 1 && os.Args[1] == "asker":
		os.Exit(playAsker(os.Args[2], os.Args[3:]))
	}
	_ = os.Setenv("GORACE", "atexit_sleep_ms=0") // else a guard with the race detector takes a second to end
	goleak.VerifyTestMain(m)
}

const (
	patience = 20 * time.Second
	far      = time.Hour
)

// family is a command with a child, and a child of that which has a session of its own. All of them refuse SIGTERM, and write their
// numbers into the folder.
const family = `cd "$1"; trap '' TERM
sh -c 'trap "" TERM; echo $$ >child; setsid sh -c "trap \"\" TERM; echo \$\$ >far; while :; do sleep 1; done" & while :; do sleep 1; done' &
echo $$ >self; while :; do sleep 1; done`

func TestGuard_OutcomeIsThatOfTheCommand(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]Outcome{
		"exit 0":                         {},
		"exit 7":                         {Code: 7},
		"kill -9 $$":                     {Signal: 9},
		`test "$WHO" = me && exit 3`:     {Code: 3},
		"test $(ps -o pgid= -p $$) = $$": {},
		"test -e /proc/$$/fd/3":          {Code: 1}, // the orders stay with the guard
	} {
		if got := outcome(t, begin(t, shell(t, script, ""))); got != want {
			t.Errorf("%s: %+v, not %+v", script, got, want)
		}
	}
}

func TestGuard_CommandThatCannotBeStartedIsTold(t *testing.T) {
	t.Parallel()
	for path, code := range map[string]int{"/no/such": CodeNotFound, "/etc": CodeCannotRun} {
		got := outcome(t, begin(t, Spec{Path: path, Argv: []string{path}, Until: In(far), TTY: NoTTY}))
		if got.Code != code || got.Fault == "" {
			t.Errorf("%s: %+v", path, got)
		}
	}
}

func TestGuard_CommandAndItsChildrenHaveEndedAtTheInstant(t *testing.T) {
	t.Parallel()
	s, dir := familySpec(t)
	s.Grace, s.Until = 300*time.Millisecond, In(2*time.Second)
	c := begin(t, s)
	pids := familyOf(t, dir)
	got := outcome(t, c)
	if late := Now() - s.Until; late < 0 || late > Instant(500*time.Millisecond) {
		t.Errorf("ended %s after the instant", time.Duration(late))
	}
	if !got.Cut || got.Signal != int(syscall.SIGKILL) {
		t.Errorf("%+v", got)
	}
	awaitGone(t, 0, pids...)
}

func TestGuard_CommandIsAskedAGraceBeforeTheInstant(t *testing.T) {
	t.Parallel()
	s := shell(t, "trap 'exit 5' TERM; while :; do sleep 0.05; done", "")
	s.Grace, s.Until = 700*time.Millisecond, In(time.Second)
	got := outcome(t, begin(t, s))
	if left := s.Until.until(); left <= 0 || left > s.Grace {
		t.Errorf("ended %s before the instant", left)
	}
	if !got.Cut || got.Code != 5 {
		t.Errorf("%+v", got)
	}
}

func TestGuard_ExtendedInstantLetsItRun(t *testing.T) {
	t.Parallel()
	s := shell(t, "sleep 1", "")
	s.Grace, s.Until = 100*time.Millisecond, In(600*time.Millisecond)
	c := begin(t, s)
	c.Extend(In(far))
	if got := outcome(t, c); got != (Outcome{}) {
		t.Errorf("%+v", got)
	}
}

func TestGuard_OrderEndsIt(t *testing.T) {
	t.Parallel()
	s, dir := familySpec(t)
	c := begin(t, s)
	pids := familyOf(t, dir)
	c.End(200 * time.Millisecond)
	c.Extend(In(far)) // does not call it off
	if got := outcome(t, c); !got.Cut {
		t.Errorf("%+v", got)
	}
	awaitGone(t, 0, pids...)
}

func TestGuard_OrderWithMoreTimeThanTheInstantGetsItByExtension(t *testing.T) {
	t.Parallel()
	s := shell(t, `cd "$1"; trap 'sleep 2; exit 8' TERM; echo $$ >self; while :; do sleep 0.05; done`, t.TempDir())
	s.Grace = 100 * time.Millisecond
	c := begin(t, s)
	pidIn(t, s.Argv[4], "self")
	c.Extend(In(time.Second))
	c.End(far)
	c.Extend(In(far))
	if got := outcome(t, c); got != (Outcome{Code: 8, Cut: true}) {
		t.Errorf("%+v", got)
	}
}

func TestGuard_EndOfTheAskerEndsTheCommandAndItsChildren(t *testing.T) {
	t.Parallel()
	asker, pids := startAsker(t, far)
	_ = asker.Process.Kill()
	awaitGone(t, patience, pids...)
}

func TestGuard_StoppedAskerDoesNotKeepTheCommand(t *testing.T) {
	t.Parallel()
	until := In(3 * time.Second)
	asker, pids := startAsker(t, 3*time.Second)
	_ = asker.Process.Signal(syscall.SIGSTOP)
	awaitGone(t, patience, pids...)
	if early := until.until(); early > 500*time.Millisecond {
		t.Errorf("ended %s before the instant", early)
	}
}

func TestGuard_KilledGuardTakesTheCommandAndItsGroupAlong(t *testing.T) {
	t.Parallel()
	s, dir := familySpec(t)
	c := begin(t, s)
	pids := familyOf(t, dir)
	_ = c.process.Process.Kill()
	<-c.Ended()
	if _, err := c.Outcome(); !errors.Is(err, ErrGuard) {
		t.Errorf("%v", err)
	}
	awaitGone(t, patience, pids[:2]...)
	_ = syscall.Kill(-pids[2], syscall.SIGKILL) // it left the group, and nobody who could know is there any more
}

// Nobody is left but the kernel.
func TestGuard_KilledGuardTakesTheCommandAlongThoughTheAskerStandsStill(t *testing.T) {
	t.Parallel()
	asker, pids := startAsker(t, far)
	_ = asker.Process.Signal(syscall.SIGSTOP)
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pids[0]))
	if err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(parentIn(stat), syscall.SIGKILL)
	awaitGone(t, patience, pids[0])
	// The others stay, see Failure in doc.go; startAsker ends them.
}

func TestGuard_RestIsEndedBeforeTheOutcomeIsTold(t *testing.T) {
	t.Parallel()
	s := shell(t, `cd "$1"; setsid sleep 1000 & echo $! >rest; exit 4`, t.TempDir())
	s.Rest = EndRest
	got := outcome(t, begin(t, s))
	if got.Code != 4 || got.Cut || got.Rest != 1 {
		t.Errorf("%+v", got)
	}
	awaitGone(t, 0, pidIn(t, s.Argv[4], "rest"))
}

func TestGuard_RestIsAwaited(t *testing.T) {
	t.Parallel()
	s := shell(t, "sleep 1 & exit 4", "")
	s.Rest = AwaitRest
	began := time.Now()
	if got := outcome(t, begin(t, s)); got.Code != 4 || got.Rest == 0 || time.Since(began) < time.Second {
		t.Errorf("%+v after %s", got, time.Since(began))
	}
}

func TestGuard_RestIsLeft(t *testing.T) {
	t.Parallel()
	s := shell(t, `cd "$1"; sleep 1000 & echo $! >rest; exit 4`, t.TempDir())
	s.Rest = LeaveRest
	if got := outcome(t, begin(t, s)); got.Code != 4 {
		t.Errorf("%+v", got)
	}
	rest := pidIn(t, s.Argv[4], "rest")
	if syscall.Kill(rest, 0) != nil {
		t.Error("it was ended")
	}
	_ = syscall.Kill(rest, syscall.SIGKILL)
}

func TestGuard_SignalsArePassedOn(t *testing.T) {
	t.Parallel()
	for sig, name := range map[syscall.Signal]string{syscall.SIGTERM: "TERM", syscall.SIGHUP: "HUP", syscall.SIGUSR1: "USR1", syscall.SIGINT: "INT"} {
		if signal.Ignored(sig) {
			continue // by nohup, or in a job in the background: children inherit that, and a shell does not trap what it was born to ignore
		}
		s := shell(t, `cd "$1"; trap 'exit 9' `+name+`; echo $$ >self; while :; do sleep 0.05; done`, t.TempDir())
		c := begin(t, s)
		pidIn(t, s.Argv[4], "self")
		c.Signal(sig)
		if got := outcome(t, c); got != (Outcome{Code: 9}) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestGuard_CommandThatHoldsALockIsNotStopped(t *testing.T) {
	t.Parallel()
	s := shell(t, `cd "$1"; echo $$ >self; sleep 1; exit 6`, t.TempDir())
	c := begin(t, s)
	pidIn(t, s.Argv[4], "self")
	c.Signal(syscall.SIGTSTP)
	select {
	case s := <-c.Stopped():
		if s != syscall.SIGTSTP {
			t.Errorf("stopped by %s", s)
		}
	case <-time.After(patience):
		t.Fatal("not told")
	}
	if got := outcome(t, c); got.Code != 6 {
		t.Errorf("%+v", got)
	}
}

func TestGuard_StoppedCommandHeedsSignals(t *testing.T) {
	t.Parallel()
	s := shell(t, `cd "$1"; trap 'exit 9' TERM; echo $$ >self; while :; do sleep 0.05; done`, t.TempDir())
	c := begin(t, s)
	_ = syscall.Kill(pidIn(t, s.Argv[4], "self"), syscall.SIGTTIN)
	select {
	case <-c.Stopped():
	case <-time.After(patience):
		t.Fatal("not told")
	}
	c.Signal(syscall.SIGTERM)
	if got := outcome(t, c); got != (Outcome{Code: 9}) {
		t.Errorf("%+v", got)
	}
}

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

func begin(t *testing.T, s Spec) *Child {
	t.Helper()
	c, err := Start([]string{os.Args[0], "guard"}, s)
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
		t.Fatal("the command has not ended")
	}
	got, err := c.Outcome()
	if err != nil {
		t.Fatal(err)
	}
	return got
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
