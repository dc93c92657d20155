package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/client/quiescetest"
)

// envPlay makes the test binary the program.
const envPlay = "QUIESCE_TEST_PLAYS_MAIN"

const (
	patience = 30 * time.Second
	shortly  = 4 * time.Second // well below a TTL
)

// ran is a quiesce run, as a process.
type ran struct {
	*exec.Cmd
	t           *testing.T
	coordinator *quiescetest.Coordinator
	addr        string
	dir         string // where its command writes
	out         bytes.Buffer
	done        chan struct{}
}

// startRun runs a shell script as instance web-1 of orders. $1 is its folder.
func startRun(t *testing.T, coordinator *quiescetest.Coordinator, addr, script string, flags ...string) *ran {
	t.Helper()
	dir := t.TempDir()
	args := append([]string{"run", "--service", "orders", "--name", "web-1", "--grace", "6s", "--lame-duck", "300ms", "-v"}, flags...)
	r := &ran{Cmd: exec.Command(os.Args[0], append(args, "--", "sh", "-c", `cd "$1"; `+script, "sh", dir)...), t: t, coordinator: coordinator, addr: addr, dir: dir, done: make(chan struct{})}
	// Else a process with the race detector takes a second to end.
	r.Env = append(os.Environ(), envPlay+"=1", client.EnvAddrs+"="+addr, "GORACE=atexit_sleep_ms=0", envNotify+"="+filepath.Join(dir, "notify"))
	r.Stdout, r.Stderr = &r.out, &r.out
	r.WaitDelay = patience
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { defer close(r.done); _ = r.Wait() }()
	t.Cleanup(func() {
		_ = r.Process.Kill()
		<-r.done
		if t.Failed() {
			t.Log(r.out.String())
		}
	})
	return r
}

const serveScript = `trap 'exit 7' TERM; echo $$ >self; while :; do sleep 0.05; done`

func (r *ran) wantCode(want int) {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(patience):
		r.t.Fatalf("it runs on")
	}
	if got := r.ProcessState.ExitCode(); got != want {
		r.t.Errorf("exit code %d, not %d", got, want)
	}
}

func (r *ran) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// eventually polls a condition.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-deadline.C:
			t.Fatalf("never happened: %s", what)
		case <-ticker.C:
		}
	}
}

// file waits for what the command, or the program, writes.
func (r *ran) file(name string) string {
	r.t.Helper()
	var text []byte
	eventually(r.t, "file "+name, func() (there bool) {
		var err error
		text, err = os.ReadFile(filepath.Join(r.dir, name))
		return err == nil && len(text) > 0
	})
	return strings.TrimSpace(string(text))
}

func (r *ran) has(name string) bool {
	_, err := os.Stat(filepath.Join(r.dir, name))
	return err == nil
}

func (r *ran) pid(name string) int {
	r.t.Helper()
	pid, err := strconv.Atoi(r.file(name))
	if err != nil {
		r.t.Fatal(err)
	}
	return pid
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// instance is the first of the coordinator.
func (r *ran) instance() quiescetest.Instance {
	all := r.coordinator.Instances()
	if len(all) == 0 {
		return quiescetest.Instance{}
	}
	return all[0]
}

func (r *ran) awaitState(state string) {
	r.t.Helper()
	eventually(r.t, "state "+state, func() bool { return r.instance().State == state })
}

// stays watches for a while, longer than what would change it takes.
func (r *ran) stays(state string) {
	r.t.Helper()
	enough := time.NewTimer(4 * gateEvery)
	defer enough.Stop()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		if now := r.instance().State; now != state {
			r.t.Fatalf("it is %s", now)
		}
		select {
		case <-enough.C:
			return
		case <-ticker.C:
		}
	}
}

// operate does what an operator does.
func (r *ran) operate(want int, args ...string) string {
	r.t.Helper()
	return operate(r.t, r.addr, want, args...)
}

func operate(t *testing.T, addr string, want int, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	c := &cli{getenv: func(name string) string { return map[string]string{client.EnvAddrs: addr}[name] }, out: &out, err: &out}
	if code := c.run(args); code != want {
		t.Fatalf("quiesce %s: %d, not %d: %s", strings.Join(args, " "), code, want, out.String())
	}
	return out.String()
}

// impatient starts a coordinator at which an instance of orders counts as available as soon as it is ready.
func impatient(t *testing.T) (*quiescetest.Coordinator, string) {
	t.Helper()
	coordinator, addr := quiescetest.Start(t)
	operate(t, addr, 0, "service", "set", "orders", "--settle", "0s")
	return coordinator, addr
}

func TestRun_DrainsOnASignal(t *testing.T) {
	t.Parallel()
	coordinator, addr := impatient(t)
	draining := filepath.Join(t.TempDir(), "draining")
	ready := filepath.Join(t.TempDir(), "ready")
	r := startRun(t, coordinator, addr, `echo "$QUIESCE_ADDRS $QUIESCE_SERVICE/$QUIESCE_INSTANCE $QUIESCE_INSTANCE_ID" >env; test -z "$NOTIFY_SOCKET" && echo none >socket
trap 'date +%s%N >told; exit 7' TERM; echo $$ >self; while :; do sleep 0.02; done`, "--lame-duck", "1s", "--draining-file", draining, "--ready-file", ready)
	r.file("self")
	if got, want := r.file("env"), fmt.Sprintf("%s orders/web-1 %s", addr, r.instance().ID); got != want {
		t.Errorf("%q, not %q", got, want)
	}
	r.file("socket")
	r.stays(api.StateRegistered) // the gate is shut
	if err := os.WriteFile(ready, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.awaitState(api.StateReady)
	began := time.Now()
	_ = r.Process.Signal(syscall.SIGTERM)
	eventually(t, "the draining file", func() bool { _, err := os.Stat(draining); return err == nil })
	if r.has("told") || !alive(r.pid("self")) {
		t.Error("the command did not serve in the lame duck")
	}
	r.wantCode(7)
	told, _ := strconv.ParseInt(r.file("told"), 10, 64)
	if waited := time.Unix(0, told).Sub(began); waited < time.Second {
		t.Errorf("the command heard of it after %s", waited)
	}
	if i := r.instance(); i.State != api.StateLeft || !slices.Contains(i.Phases, "lameduck") || !slices.Contains(i.Phases, "leave") {
		t.Errorf("%+v", i)
	}
}

func TestRun_DrainsWhenAnOperatorAsks(t *testing.T) {
	t.Parallel()
	coordinator, addr := impatient(t)
	r := startRun(t, coordinator, addr, serveScript)
	r.awaitState(api.StateReady)
	out := r.operate(0, "drain", "orders/web-1", "--wait", "--reason", "kernel")
	if !strings.Contains(out, "orders/web-1 is left") {
		t.Error(out)
	}
	r.wantCode(7)
}

func TestRun_WaitsServingForTheBudget(t *testing.T) {
	t.Parallel()
	coordinator, addr := impatient(t)
	r := startRun(t, coordinator, addr, serveScript)
	r.awaitState(api.StateReady)
	r.operate(0, "service", "freeze", "orders")
	if out := r.operate(exitNotInTime, "drain", "orders/web-1", "--wait", "--within", "1s"); !strings.Contains(out, "to be unfrozen") {
		t.Error(out)
	}
	if !alive(r.pid("self")) {
		t.Error("it does not serve")
	}
	r.operate(0, "service", "unfreeze", "orders")
	r.wantCode(7)
}

func TestRun_DrainIsUndoneBeforeTheSignal(t *testing.T) {
	t.Parallel()
	coordinator, addr := impatient(t)
	draining := filepath.Join(t.TempDir(), "draining")
	r := startRun(t, coordinator, addr, serveScript, "--grace", "40s", "--lame-duck", "15s", "--draining-file", draining)
	r.awaitState(api.StateReady)
	pid := r.pid("self")
	for range 2 {
		r.operate(0, "drain", "orders/web-1")
		eventually(t, "the draining file", func() bool { _, err := os.Stat(draining); return err == nil })
		r.operate(0, "undo", "orders/web-1")
		eventually(t, "no draining file", func() bool { _, err := os.Stat(draining); return errors.Is(err, os.ErrNotExist) })
		r.awaitState(api.StateReady)
	}
	if r.ended() || !alive(pid) {
		t.Error("the command ended")
	}
}

func TestRun_PauseTurnsTheReadiness(t *testing.T) {
	t.Parallel()
	coordinator, addr := quiescetest.Start(t)
	draining := filepath.Join(t.TempDir(), "draining")
	r := startRun(t, coordinator, addr, serveScript, "--draining-file", draining)
	r.awaitState(api.StateReady)
	r.operate(0, "pause", "orders/web-1", "--force")
	eventually(t, "the draining file", func() bool { _, err := os.Stat(draining); return err == nil })
	r.operate(0, "resume", "orders/web-1")
	eventually(t, "no draining file", func() bool { _, err := os.Stat(draining); return errors.Is(err, os.ErrNotExist) })
	if r.ended() {
		t.Error("it ended")
	}
}

func TestRun_CommandThatWouldNotEndIsKilledWithItsChildren(t *testing.T) {
	t.Parallel()
	coordinator, addr := impatient(t)
	r := startRun(t, coordinator, addr, `trap '' TERM; setsid sh -c 'trap "" TERM; echo $$ >child; while :; do sleep 0.1; done' & echo $$ >self; while :; do sleep 0.1; done`)
	r.awaitState(api.StateReady)
	pids := []int{r.pid("self"), r.pid("child")}
	began := time.Now()
	_ = r.Process.Signal(syscall.SIGTERM)
	r.wantCode(exitNotInTime)
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("it took %s of a grace of 6 s", took)
	}
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("%d runs", pid)
		}
	}
	if state := r.instance().State; state != api.StateLeft {
		t.Error(state)
	}
	// It is killed in its phase, before the instance says that it has left.
	if out := r.out.String(); !strings.Contains(out, `phase=flush what=command`) {
		t.Error("the drain does not know of it")
	}
}

func TestRun_CommandThatEndsByItselfLetsTheInstanceLeave(t *testing.T) {
	t.Parallel()
	for name, told := range map[string]struct {
		end  string
		code int
	}{"exit": {"exit 3", 3}, "killed": {"kill -9 $$", 128 + 9}, "success": {"exit 0", 0}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			coordinator, addr := quiescetest.Start(t)
			r := startRun(t, coordinator, addr, `echo $$ >self; while ! test -e go; do sleep 0.02; done; `+told.end)
			r.awaitState(api.StateReady)
			began := time.Now()
			if err := os.WriteFile(filepath.Join(r.dir, "go"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			r.wantCode(told.code)
			if took := time.Since(began); took > shortly {
				t.Errorf("it took %s", took)
			}
			if state := r.instance().State; state != api.StateLeft {
				t.Error(state)
			}
		})
	}
}

func TestRun_AnotherOfItsNameEndsTheCommand(t *testing.T) {
	t.Parallel()
	coordinator, addr := quiescetest.Start(t)
	r := startRun(t, coordinator, addr, serveScript)
	r.awaitState(api.StateReady)
	pid := r.pid("self")
	second := startRun(t, coordinator, addr, serveScript)
	r.wantCode(exitLost)
	if alive(pid) {
		t.Error("the command runs")
	}
	if second.ended() {
		t.Error("the second ended too")
	}
}

func TestRun_SecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	coordinator, addr := impatient(t)
	draining := filepath.Join(t.TempDir(), "draining")
	r := startRun(t, coordinator, addr, `trap '' TERM; echo $$ >self; while :; do sleep 0.05; done`, "--grace", "40s", "--lame-duck", "15s", "--draining-file", draining)
	r.awaitState(api.StateReady)
	pid := r.pid("self")
	_ = r.Process.Signal(syscall.SIGTERM)
	eventually(t, "the draining file", func() bool { _, err := os.Stat(draining); return err == nil })
	began := time.Now()
	_ = r.Process.Signal(syscall.SIGINT)
	r.wantCode(128 + int(syscall.SIGINT))
	if took := time.Since(began); took > shortly || alive(pid) {
		t.Errorf("it took %s, and the command runs: %t", took, alive(pid))
	}
}

func TestRun_EndOfTheProgramEndsTheCommandAndItsChildren(t *testing.T) {
	t.Parallel()
	coordinator, addr := quiescetest.Start(t)
	r := startRun(t, coordinator, addr, `trap '' TERM; setsid sh -c 'trap "" TERM; echo $$ >child; while :; do sleep 0.1; done' & echo $$ >self; while :; do sleep 0.1; done`)
	pids := []int{r.pid("self"), r.pid("child")}
	_ = r.Process.Kill()
	eventually(t, "nobody left", func() bool { return !alive(pids[0]) && !alive(pids[1]) })
}

func TestRun_ClusterThatIsAwayKeepsNobodyFromStartingAndStopping(t *testing.T) {
	t.Parallel()
	r := startRun(t, nil, "127.0.0.1:1", serveScript)
	r.file("self")
	_ = r.Process.Signal(syscall.SIGTERM)
	r.wantCode(7)
	dead := startRun(t, nil, "127.0.0.1:1", "exit 5")
	dead.wantCode(5)
}

// A server ends its workers in its own order.
func TestRun_DrainSignalIsForTheCommandAloneAndOthersArePassedOn(t *testing.T) {
	t.Parallel()
	coordinator, addr := impatient(t)
	r := startRun(t, coordinator, addr, `sh -c 'trap "echo early >early" USR2; echo $$ >worker; while :; do sleep 0.02; done' &
trap 'echo again >reloaded' HUP; trap 'sleep 0.3; exit 8' USR2; while ! test -s worker; do sleep 0.02; done; echo $$ >self; while :; do sleep 0.02; done`, "--drain-signal", "usr2")
	r.awaitState(api.StateReady)
	r.pid("self")
	_ = r.Process.Signal(syscall.SIGHUP)
	r.file("reloaded")
	worker := r.pid("worker")
	_ = r.Process.Signal(syscall.SIGTERM)
	r.wantCode(8)
	if r.has("early") || alive(worker) {
		t.Errorf("the worker heard of it: %t, runs: %t", r.has("early"), alive(worker))
	}
}

func TestRun_SystemdHearsOfReadiness(t *testing.T) {
	t.Parallel()
	coordinator, addr := impatient(t)
	r := startRun(t, coordinator, addr, serveScript, "--ready-file", filepath.Join(t.TempDir(), "never-there"))
	r.file("self")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(r.dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	told := func() string {
		text := make([]byte, 100)
		_ = socket.SetReadDeadline(time.Now().Add(patience))
		n, err := socket.Read(text)
		if err != nil {
			t.Fatal(err)
		}
		return string(text[:n])
	}
	if err := os.WriteFile(r.Args[slices.Index(r.Args, "--ready-file")+1], nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := told(); got != "READY=1" {
		t.Error(got)
	}
	_ = r.Process.Signal(syscall.SIGTERM)
	if got := told(); got != "STOPPING=1" {
		t.Error(got)
	}
	r.wantCode(7)
}

func TestRun_UsageIsToldBeforeAnythingStarts(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]int{
		"run": exitUsage, "run --service a": exitUsage, "run --service a --": exitUsage, "run -- true": exitUsage, "run --service a b -- true": exitUsage,
		"run --service a --drain-signal NONE -- true": exitUsage, "run --service a --grace 1s -- true": exitUsage, "run --service a --intent gone -- true": exitUsage,
		"run --service a --ready-file x --ready-url y -- true": exitUsage, "run --service a --ttl 1ms -- true": exitUsage, "run --service a --platform moon -- true": exitUsage,
		"run --service a -- no-such-command": 127, "run --service a -- /etc": 126,
	} {
		if text, code := (*server)(nil).quiesce(strings.Fields(line)...); code != want || strings.Count(text, "quiesce: ") != 1 {
			t.Errorf("%s: %d: %s", line, code, text)
		}
	}
}
