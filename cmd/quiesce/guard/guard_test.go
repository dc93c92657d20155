//go:build linux

package guard

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"
)

func TestGuard_OutcomeIsThatOfTheCommand(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]Outcome{
		"exit 0":                     {},
		"exit 7":                     {Code: 7},
		"kill -9 $$":                 {Signal: 9},
		`test "$WHO" = me && exit 3`: {Code: 3},
		"kill -0 -$$":                {},        // it leads a process group of its own
		"test -e /proc/$$/fd/3":      {Code: 1}, // the orders stay with the guard
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
	if late := Now() - s.Until; late < 0 || late > Instant(slack) {
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
	s.Grace, s.Until = 4*time.Second, In(5500*time.Millisecond)
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
	s := shell(t, "sleep 4", "")
	s.Grace, s.Until = 100*time.Millisecond, In(3*time.Second)
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

// A server ends its workers in its own order: they hear nothing while it runs, and are ended when it has left them behind.
func TestGuard_StopReachesTheCommandAloneThenWhatItLeft(t *testing.T) {
	t.Parallel()
	s := shell(t, `cd "$1"; sh -c 'trap "echo early >early; exit" TERM; echo $$ >worker; while :; do sleep 0.05; done' &
trap 'sleep 0.5; test -e early && exit 1; rm -f early; exit 7' TERM; while ! test -s worker; do sleep 0.05; done; echo $$ >self; while :; do sleep 0.05; done`, t.TempDir())
	c := begin(t, s)
	dir := s.Argv[4]
	pidIn(t, dir, "self")
	c.Stop(syscall.SIGTERM, far)
	if got := outcome(t, c); got.Code != 7 {
		t.Errorf("%+v", got)
	}
	awaitGone(t, 0, pidIn(t, dir, "worker"))
}

func TestGuard_StopIsEnforcedWhoeverIsGone(t *testing.T) {
	t.Parallel()
	s, dir := familySpec(t)
	c := begin(t, s)
	pids := familyOf(t, dir)
	began := time.Now()
	c.Stop(syscall.SIGTERM, 700*time.Millisecond)
	if got := outcome(t, c); got.Signal != int(syscall.SIGKILL) || !got.Cut {
		t.Errorf("%+v", got)
	}
	if took := time.Since(began); took < 600*time.Millisecond {
		t.Errorf("killed after %s", took)
	}
	awaitGone(t, 0, pids...)
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
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			s, dir := hearerSpec(t, sig)
			c := begin(t, s)
			pidIn(t, dir, "self")
			c.Signal(sig)
			if got := outcome(t, c); got != (Outcome{Code: codeHeard}) {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestGuard_SignalIgnoredAtItsStartStaysIgnoredInTheCommand(t *testing.T) {
	t.Parallel()
	for name, sig := range map[string]syscall.Signal{"HUP": syscall.SIGHUP, "INT": syscall.SIGINT} {
		s := shell(t, "kill -"+name+" $$; exit 6", "")
		c := beginAs(t, []string{"sh", "-c", `trap '' ` + name + `; exec "$0" guard`, os.Args[0]}, s)
		c.Signal(sig)
		if got := outcome(t, c); got != (Outcome{Code: 6}) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestGuard_CommandThatHoldsALockIsNotStopped(t *testing.T) {
	t.Parallel()
	// It has its child before it is signalled: a shell that is stopped inside vfork is not seen to stop, for its child does not get to exec.
	s := shell(t, `cd "$1"; sleep 1 & echo $$ >self; wait; exit 6`, t.TempDir())
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
