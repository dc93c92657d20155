package cluster_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
)

const (
	cliWithin    = 30 * time.Second
	codeInTime   = 75
	codeLost     = 76
	cliTTL       = 4 * time.Second
	beatScript   = `trap '' TERM; i=0; while [ $i -lt 3000 ]; do echo "$1 $(date +%s%N)" >>"$2"; sleep 0.02; i=$((i+1)); done`
	familyScript = `cd "$1"; trap '' TERM
sh -c 'trap "" TERM; echo $$ >child; setsid sh -c "trap \"\" TERM; echo \$\$ >far; sleep 300" & sleep 300' &
echo $$ >self; while :; do sleep 1; done`
)

func TestCLI_LockRunIsTheCommandUnderTheLock(t *testing.T) {
	q := newCLI(t, harness.Start(t, harness.Options{}))

	t.Run("exit code and token", func(t *testing.T) {
		first := q.must(t, 7, "lock", "run", "token", "--", "sh", "-c", `echo "$QUIESCE_LOCK_NAME $QUIESCE_LOCK_TOKEN"; exit 7`)
		second := q.must(t, 0, "lock", "run", "token", "--", "sh", "-c", `echo "$QUIESCE_LOCK_NAME $QUIESCE_LOCK_TOKEN"`)
		if a, b := tokenIn(t, first, "token"), tokenIn(t, second, "token"); b <= a {
			t.Errorf("token %d after %d", b, a)
		}
		q.must(t, 128+9, "lock", "run", "token", "--", "sh", "-c", "kill -9 $$")
		q.must(t, 127, "lock", "run", "token", "--", "no-such-command")
	})
	t.Run("signals are passed on", func(t *testing.T) {
		run, dir := q.hold(t, "signal", "trap 'exit 9' TERM")
		_ = run.Process.Signal(syscall.SIGTERM)
		run.wantCode(t, 9)
		awaitEnd(t, 0, pidOf(t, dir, "self"))
		q.awaitFree(t, "signal")
	})
	t.Run("the second waits", func(t *testing.T) {
		run, _ := q.hold(t, "turns", "trap 'exit 0' TERM")
		next := q.start(t, "lock", "run", "turns", "--wait", "1m", "--", "echo", "my turn")
		q.awaitWaiting(t, "turns", 1)
		if next.ended() {
			t.Error("the second did not wait")
		}
		_ = run.Process.Signal(syscall.SIGTERM)
		run.wantCode(t, 0)
		if out := next.wantCode(t, 0); out != "my turn\n" {
			t.Errorf("%q", out)
		}
	})
	t.Run("no longer than it may", func(t *testing.T) {
		run, _ := q.hold(t, "taken", "trap 'exit 0' TERM")
		q.must(t, codeInTime, "lock", "run", "taken", "--wait", "0", "--", "true")
		q.must(t, codeInTime, "lock", "run", "taken", "--wait", "1s", "--", "true")
		q.must(t, codeInTime, "lock", "run", "beside", "taken", "--wait", "0", "--", "true") // all or none
		q.must(t, 0, "lock", "run", "beside", "--wait", "0", "--", "true")
		waiting := q.start(t, "lock", "run", "taken", "--", "true")
		q.awaitWaiting(t, "taken", 1)
		_ = waiting.Process.Signal(syscall.SIGINT)
		waiting.wantCode(t, 128+2)
		q.awaitWaiting(t, "taken", 0)
		_ = run.Process.Signal(syscall.SIGTERM)
		run.wantCode(t, 0)
	})
	t.Run("shared and permits", func(t *testing.T) {
		reader, _ := q.hold(t, "read", "trap 'exit 0' TERM", "--shared")
		q.must(t, 0, "lock", "run", "read", "--shared", "--wait", "0", "--", "true")
		q.must(t, codeInTime, "lock", "run", "read", "--wait", "0", "--", "true")
		user, _ := q.hold(t, "sem", "trap 'exit 0' TERM", "--permits", "2", "--limit", "3")
		q.must(t, 0, "lock", "run", "sem", "--permits", "1", "--limit", "3", "--wait", "0", "--", "true")
		q.must(t, codeInTime, "lock", "run", "sem", "--permits", "2", "--limit", "3", "--wait", "0", "--", "true")
		q.must(t, 1, "lock", "run", "sem", "--permits", "1", "--limit", "4", "--wait", "0", "--", "true")
		for _, run := range []*cliRun{reader, user} {
			_ = run.Process.Signal(syscall.SIGTERM)
			run.wantCode(t, 0)
		}
	})
	t.Run("killed", func(t *testing.T) {
		run, dir := q.holdScript(t, "killed", familyScript)
		pids := family(t, dir)
		_ = run.Process.Kill()
		awaitEnd(t, cliWithin, pids...)
		q.must(t, 0, "lock", "run", "killed", "--", "true") // the lease ends by itself
	})
}

func TestCLI_OperatorsSeeAndChangeWhatHappens(t *testing.T) {
	q := newCLI(t, harness.Start(t, harness.Options{}))

	t.Run("status", func(t *testing.T) {
		out := q.must(t, 0, "status")
		for _, want := range []string{"may fail  1 voter\n", "n1", "n2", "n3", "leader", "voter"} {
			if !strings.Contains(out, want) {
				t.Errorf("no %q in\n%s", want, out)
			}
		}
	})
	t.Run("show and hand off", func(t *testing.T) {
		run, _ := q.hold(t, "shown", "trap 'exit 0' TERM", "--value", "here")
		first := q.start(t, "lock", "run", "shown", "--", "echo", "first")
		q.awaitWaiting(t, "shown", 1)
		second := q.start(t, "lock", "run", "shown", "--", "echo", "second")
		q.awaitWaiting(t, "shown", 2)
		lock := q.lock(t, "shown")
		out := q.must(t, 0, "lock", "show", "shown")
		for _, want := range []string{"holders  1\n", "waiting  2\n", "  here  ", "lock run shown: sh", "1. " + lock.Queue[0].Session, "2. " + lock.Queue[1].Session} {
			if !strings.Contains(out, want) {
				t.Errorf("no %q in\n%s", want, out)
			}
		}
		if out := q.must(t, 0, "lock", "ls", "sho"); strings.Count(out, "\n") != 2 || !strings.Contains(out, "exclusive") {
			t.Errorf("%s", out)
		}
		if out := q.must(t, 0, "session", "show", lock.Holders[0].Session); !strings.Contains(out, "lock run shown") {
			t.Errorf("%s", out)
		}
		q.must(t, 0, "lock", "handoff", "shown", "--to", lock.Queue[1].Session)
		second.wantCode(t, 0)
		first.wantCode(t, 0)
		run.wantCode(t, codeLost)
	})
	t.Run("force", func(t *testing.T) {
		run, dir := q.holdScript(t, "stuck", familyScript)
		pids := family(t, dir)
		q.must(t, 64, "lock", "release", "stuck")
		q.must(t, 0, "lock", "release", "stuck", "--force", "--reason", "it hangs")
		run.wantCode(t, codeLost)
		awaitEnd(t, 0, pids...)
		if out := q.must(t, 0, "audit"); !strings.Contains(out, "it hangs") {
			t.Errorf("%s", out)
		}
	})
	t.Run("revoke", func(t *testing.T) {
		run, _ := q.hold(t, "wanted", "trap 'sleep 0.3; exit 4' TERM")
		q.must(t, 0, "lock", "revoke", "wanted", "--within", "20s", "--reason", "deploy")
		run.wantCode(t, codeLost)
		if text := run.err.String(); !strings.Contains(text, "deploy") || !strings.Contains(text, "exit code 4") {
			t.Errorf("%s", text)
		}
		q.awaitFree(t, "wanted")
	})
	t.Run("circles", func(t *testing.T) { q.breakCircle(t) })
	t.Run("elections", func(t *testing.T) { q.watchElection(t) })
}

// breakCircle makes two holders wait for each other's lock.
func (q *cli) breakCircle(t *testing.T) {
	a, b := openSession(q.cluster, longSession), openSession(q.cluster, longSession)
	acquire(q.cluster, a, "circle/1")
	acquire(q.cluster, b, "circle/2")
	ticket(t, q.cluster, a, "circle/2")
	if out := q.must(t, 0, "lock", "deadlocks"); out != "no circles\n" {
		t.Errorf("%s", out)
	}
	last := ticket(t, q.cluster, b, "circle/1")
	out := q.must(t, 0, "lock", "deadlocks")
	for _, want := range []string{"circle 1\n", a, b, "circle/1", "circle/2", fmt.Sprintf("ticket %d", last)} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	q.must(t, 0, "lock", "deadlocks", "--break", "--reason", "circle")
	if out := q.must(t, 0, "lock", "deadlocks"); out != "no circles\n" {
		t.Errorf("%s", out)
	}
	q.awaitWaiting(t, "circle/1", 0)
	q.awaitWaiting(t, "circle/2", 1)
	if out := q.must(t, 0, "session", "close", a); !strings.Contains(out, "closed") {
		t.Errorf("%s", out)
	}
}

// watchElection reads along while leaders come and go.
func (q *cli) watchElection(t *testing.T) {
	watch := q.start(t, "election", "observe", "chief", "-o", "json")
	line := func(n int, check func(api.Election) bool) {
		t.Helper()
		harness.Eventually(t, cliWithin, fmt.Sprintf("line %d of the changes", n), func() error {
			lines := strings.SplitAfter(watch.out.String(), "\n")
			if len(lines) <= n {
				return fmt.Errorf("%d lines: %s", len(lines)-1, watch.err.String())
			}
			var e api.Election
			if err := json.Unmarshal([]byte(lines[n-1]), &e); err != nil {
				return err
			}
			if !check(e) {
				t.Fatalf("line %d is %s", n, lines[n-1])
			}
			return nil
		})
	}
	line(1, func(e api.Election) bool { return e.Leader == nil })
	session := openSession(q.cluster, longSession)
	var won api.Acquired
	q.cluster.Must(harness.Request{Method: http.MethodPost, Path: "/v1/elections/campaign",
		Body: api.Campaign{Session: session, Name: "chief", Value: "10.0.0.1"}}, &won)
	line(2, func(e api.Election) bool {
		return e.Leader != nil && e.Leader.Session == session && e.Leader.Value == "10.0.0.1" && e.Leader.Token == won.Grants[0].Token
	})
	if out := q.must(t, 0, "election", "show", "chief"); !strings.Contains(out, session) {
		t.Errorf("%s", out)
	}
	q.must(t, 0, "session", "close", session)
	line(3, func(e api.Election) bool { return e.Leader == nil })
	_ = watch.Process.Signal(syscall.SIGINT)
}

// The lease cannot be renewed: all nodes stand still. When the coordinator could give the lock to another at the earliest, nothing that the
// command started runs any more, though it refuses SIGTERM and hides in a session of its own.
func TestCLI_CommandAndItsChildrenEndBeforeTheLeaseCouldPassOn(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	q := newCLI(t, c)
	run, dir := q.holdScript(t, "loss", familyScript, "--ttl", cliTTL.String())
	pids := family(t, dir)
	asked, remaining := q.freshLease(t, "loss")
	for _, n := range c.Nodes {
		n.Pause()
	}
	if took := time.Since(asked); took > cliTTL/keepaliveParts {
		t.Skipf("the machine took %s to stop the nodes: a keepalive may have come between", took)
	}
	awaitEnd(t, cliWithin, pids...)
	passesOn := asked.Add(remaining)
	t.Logf("ended %s before the lease could pass on", time.Until(passesOn).Round(time.Millisecond))
	if !time.Now().Before(passesOn) {
		t.Errorf("ended %s after the lease could pass on", time.Since(passesOn))
	}
	if time.Until(passesOn) > remaining/2 {
		t.Errorf("ended already %s before it", time.Until(passesOn))
	}
	run.wantCode(t, codeLost)
	for _, n := range c.Nodes {
		n.Resume()
	}
	q.must(t, 0, "lock", "run", "loss", "--", "true")
}

// keepaliveParts is safely more than the part of a TTL that lies between two keepalives.
const keepaliveParts = 5

// freshLease waits for the moment after a keepalive, and tells how long the lease lasts from then.
func (q *cli) freshLease(t *testing.T, name string) (asked time.Time, remaining time.Duration) {
	t.Helper()
	harness.Eventually(t, cliWithin, "a fresh lease", func() error {
		asked = time.Now()
		lock := q.lock(t, name)
		if len(lock.Holders) != 1 {
			return errors.New("nobody holds it")
		}
		remaining = time.Duration(lock.Holders[0].LeaseRemainingMs) * time.Millisecond
		if remaining < cliTTL-cliTTL/20 {
			return fmt.Errorf("%s remain", remaining)
		}
		return nil
	})
	return asked, remaining
}

// The program stands still, as one does that is out of memory or under a debugger, while the cluster gives its lock to the next. The two
// commands write into one file.
func TestCLI_CommandOfAStoppedProgramDoesNotMeetTheNext(t *testing.T) {
	q := newCLI(t, harness.Start(t, harness.Options{}))
	beats := filepath.Join(t.TempDir(), "beats")
	first := q.start(t, "lock", "run", "beat", "--ttl", cliTTL.String(), "--", "sh", "-c", beatScript, "sh", "first", beats)
	awaitBeat(t, beats, "first")
	second := q.start(t, "lock", "run", "beat", "--ttl", cliTTL.String(), "--", "sh", "-c", beatScript, "sh", "second", beats)
	q.awaitWaiting(t, "beat", 1)
	_ = first.Process.Signal(syscall.SIGSTOP)
	awaitBeat(t, beats, "second")
	if overlap(t, beats) {
		t.Error("the command ran on when the next had the lock")
	}
	_ = first.Process.Signal(syscall.SIGCONT)
	first.wantCode(t, codeLost)
	if overlap(t, beats) {
		t.Error("the command ran again when the next had the lock")
	}
	_ = second.Process.Signal(syscall.SIGUSR1) // kills a shell that does not know it
	second.wantCode(t, 128+int(syscall.SIGUSR1))
}

// The negative control: a runner that looks after its lease only before it starts the command is caught.
func TestCLI_RunnerWithoutAGuardIsCaught(t *testing.T) {
	q := newCLI(t, harness.Start(t, harness.Options{}))
	beats := filepath.Join(t.TempDir(), "beats")
	acquire(q.cluster, openSession(q.cluster, time.Second), "beat")
	naive := exec.Command("sh", "-c", beatScript, "sh", "first", beats)
	if err := naive.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = naive.Process.Kill(), naive.Wait() }()
	awaitBeat(t, beats, "first")
	second := q.start(t, "lock", "run", "beat", "--", "sh", "-c", beatScript, "sh", "second", beats)
	awaitBeat(t, beats, "second")
	harness.Eventually(t, cliWithin, "both to run", func() error {
		if !overlap(t, beats) {
			return errors.New("they do not meet")
		}
		return nil
	})
	_ = second.Process.Signal(syscall.SIGUSR1)
	second.wantCode(t, 128+int(syscall.SIGUSR1))
}

// overlap tells whether the first beat after the second's first beat.
func overlap(t *testing.T, path string) bool {
	t.Helper()
	lines := strings.Split(beatsIn(t, path), "\n")
	at := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "second") })
	return at >= 0 && slices.ContainsFunc(lines[at:], func(l string) bool { return strings.HasPrefix(l, "first") })
}

func awaitBeat(t *testing.T, path, who string) {
	t.Helper()
	harness.Eventually(t, cliWithin, "a beat of the "+who, func() error {
		if strings.Count(beatsIn(t, path), who) < 5 {
			return errors.New("too few")
		}
		return nil
	})
}

func beatsIn(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}
