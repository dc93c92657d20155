package cluster_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/cluster_test/rolling"
)

// firstProcess is the first of a PID namespace, as in a container without an init: there a signal that is not handled is ignored.
type firstProcess struct {
	*exec.Cmd
	out   shared
	ended chan struct{}
}

// shared can be read while it is written.
type shared struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *shared) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *shared) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func startFirst(t *testing.T, name string, variables ...string) *firstProcess {
	t.Helper()
	p := &firstProcess{Cmd: exec.Command(harness.Program(t, rolling.AppProgram)), ended: make(chan struct{})}
	p.Env = append(append(os.Environ(), variables...), "QUIESCE_INSTANCE="+name)
	p.Stdout, p.Stderr = &p.out, &p.out
	p.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		p.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		p.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
		p.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
	}
	err := p.Start()
	if errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) {
		t.Skipf("this machine gives no PID namespace: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.Wait() // the process's state tells
	}()
	t.Cleanup(func() {
		_ = p.Process.Kill()
		<-p.ended
		if t.Failed() {
			t.Logf("%s:\n%s", name, p.out.String())
		}
	})
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); fields[0] == "NSpid:" && fields[len(fields)-1] != "1" {
			t.Fatalf("it is not the first of its namespace: %s", line)
		}
	}
	return p
}

func (p *firstProcess) says(message string) func() bool {
	return func() bool { return strings.Contains(p.out.String(), `"msg":"`+message+`"`) }
}

// end signals the process and gives its exit code.
func (p *firstProcess) end(t *testing.T, within time.Duration) int {
	t.Helper()
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := eventually(within, "its end", func() bool {
		select {
		case <-p.ended:
			return true
		default:
			return false
		}
	}); err != nil {
		t.Fatal(err)
	}
	return p.ProcessState.ExitCode()
}

// The first process of a container gets SIGTERM while it serves, and while it still waits for the cluster's first answer.
func TestShutdown_FirstProcessOfAContainerEndsCleanly(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{Nodes: 1})
	b := watchInstances(t, c)
	serves := startFirst(t, "serves", append(rolling.Environment(c, cutGrace), "APP_SERVICE=first")...)
	if err := b.await("it to be ready", seenWithin, func(all map[string]api.Instance) bool {
		for _, v := range all {
			if v.State == api.StateReady {
				return true
			}
		}
		return false
	}); err != nil {
		t.Fatal(err)
	}
	if code := serves.end(t, cutGrace+exitTolerance); code != client.ExitClean {
		t.Errorf("exit code %d", code)
	}
	between := newRelay(t, c.Nodes[0].HTTPAddr)
	between.cut()
	joins := startFirst(t, "joins", "QUIESCE_ADDRS="+between.addr, "QUIESCE_GRACE="+cutGrace.String(), "APP_SERVICE=first")
	if err := eventually(seenWithin, "it to start", joins.says("starting")); err != nil {
		t.Fatal(err)
	}
	if code := joins.end(t, cutGrace+exitTolerance); code < 0 {
		t.Errorf("it ended by the signal itself, %s", joins.ProcessState)
	}
	if err := b.await("nobody to be left", seenWithin, func(all map[string]api.Instance) bool {
		for _, v := range all {
			if v.State != api.StateLeft {
				return false
			}
		}
		return len(all) > 0
	}); err != nil {
		t.Error(err)
	}
}
