package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Process is one run of a binary. Its output goes to a file, so that no goroutine has to copy it.
type Process struct {
	command *exec.Cmd
	log     string // path
	from    int64  // where this run's part of the log begins
	ended   chan struct{}
}

// Launch starts the binary with arguments of the test's choice and ends it in the cleanup. Output is appended to the file log.
func Launch(t testing.TB, log string, arguments ...string) *Process {
	t.Helper()
	return launch(t, Binary(t), log, nil, arguments...)
}

// Exec does the same for any program, with more variables than the environment has: see Program.
func Exec(t testing.TB, program, log string, variables []string, arguments ...string) *Process {
	t.Helper()
	return launch(t, program, log, variables, arguments...)
}

// launch starts any binary, with more variables than the environment has.
func launch(t testing.TB, binary, log string, variables []string, arguments ...string) *Process {
	t.Helper()
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }() // the process has its own
	at, err := file.Seek(0, 2)
	if err != nil {
		t.Fatal(err)
	}
	p := &Process{command: exec.Command(binary, arguments...), log: log, from: at, ended: make(chan struct{})}
	p.command.Stdout, p.command.Stderr, p.command.Env, p.command.SysProcAttr = file, file, append(environment(), variables...), attributes()
	if err := p.command.Start(); err != nil {
		t.Fatalf("start %s: %v", binary, err)
	}
	go func() { // ends with the process, which the cleanup ends
		defer close(p.ended)
		_ = p.command.Wait() // the process's state tells
	}()
	t.Cleanup(p.kill)
	return p
}

// environment is the test's own without what would configure the node.
func environment() []string {
	var out []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "QUIESCE_") || strings.HasPrefix(v, "QUIESCE_RUN=") {
			out = append(out, v)
		}
	}
	return out
}

// PID of the process.
func (p *Process) PID() int { return p.command.Process.Pid }

// Running tells whether it has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Signal sends a signal. A process that has ended takes none.
func (p *Process) Signal(s syscall.Signal) error {
	if err := p.command.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s to process %d: %w", s, p.PID(), err)
	}
	return nil
}

func (p *Process) kill() {
	_ = p.Signal(syscall.SIGKILL) // a stopped process dies of it too
	<-p.ended
}

// Wait waits for the end and returns the exit code, -1 after a signal.
func (p *Process) Wait(t testing.TB, within time.Duration) int {
	t.Helper()
	limit := time.NewTimer(within)
	defer limit.Stop()
	select {
	case <-p.ended:
	case <-limit.C:
		t.Fatalf("process %d did not end within %s", p.PID(), within)
	}
	return p.command.ProcessState.ExitCode()
}

// Output is what this run has printed so far.
func (p *Process) Output() string {
	text, err := os.ReadFile(p.log)
	if err != nil || int64(len(text)) < p.from {
		return ""
	}
	return string(text[p.from:])
}
