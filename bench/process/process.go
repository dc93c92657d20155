package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// Spec says what to start.
type Spec struct {
	Path string
	Args []string
	Env  []string // beside the parent's own
	Log  string   // path of the file that gets the output
}

// Process is a running child.
type Process struct {
	command *exec.Cmd
	log     string
	ended   chan struct{}
}

// Start starts a child. End it with Kill.
func Start(s Spec) (*Process, error) {
	file, err := os.OpenFile(s.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // the child has its own
	p := &Process{command: exec.Command(s.Path, s.Args...), log: s.Log, ended: make(chan struct{})}
	p.command.Stdout, p.command.Stderr, p.command.SysProcAttr = file, file, attributes()
	p.command.Env = append(os.Environ(), s.Env...)
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Path, err)
	}
	go func() { // ends with the child, which Kill ends
		defer close(p.ended)
		_ = p.command.Wait() // how a child ends that is always killed says nothing
	}()
	return p, nil
}

// PID of the child.
func (p *Process) PID() int { return p.command.Process.Pid }

// Ended is closed when the child is gone.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Signal sends a signal. A child that has ended takes none.
func (p *Process) Signal(s os.Signal) error {
	if err := p.command.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s to process %d: %w", s, p.PID(), err)
	}
	return nil
}

// Kill ends the child at once and waits for it: what it wrote is thrown away anyway.
func (p *Process) Kill() error {
	err := p.Signal(syscall.SIGKILL)
	if err == nil {
		<-p.ended
	}
	return err
}

const tailLines = 15

// Tail is the end of what the child printed.
func (p *Process) Tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}
