package rediscache

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"

	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/cluster_test/services"
)

// shared serves every test that does no harm to a server; each keeps to keys of its own name. It is the binary's own, so that their
// thousands of keys go with it. The first test to open a target on it starts it.
var shared = &server{}

func TestMain(m *testing.M) {
	logging.Disable()
	code := m.Run()
	shared.stop()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// server is a Redis process of the tests' own, without persistence. The package needs servers that it may freeze, starve, demote and start
// with options; a pair from services.Own has none of that, and brings a database along.
type server struct {
	addr    string
	dir     string
	args    []string
	command []string
	process *exec.Cmd
	control *redis.Client
	mu      sync.Mutex // only around the first start
}

// ownServer is for tests that harm it.
func ownServer(t testing.TB, args ...string) *server {
	t.Helper()
	s := &server{args: args}
	t.Cleanup(s.stop)
	s.ensure(t)
	return s
}

func (s *server) ensure(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.control != nil {
		return
	}
	s.command = findCommand(t)
	if err := s.create(t); err != nil {
		t.Fatalf("a Redis for the test: %v", err)
	}
}

func (s *server) create(t testing.TB) error {
	dir, err := os.MkdirTemp("", "rediscache")
	if err != nil {
		return err
	}
	s.dir, s.addr = dir, harness.FreeAddr(t)
	s.control = redis.NewClient(&redis.Options{Addr: s.addr, DisableIdentity: true, Protocol: 2, DialerRetries: 1})
	return s.start()
}

func (s *server) start() error {
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return err
	}
	args := append([]string{"--bind", "127.0.0.1", "--port", port, "--dir", s.dir, "--save", "", "--appendonly", "no", "--logfile", "redis.log"}, s.args...)
	s.process = exec.Command(s.command[0], append(slices.Clone(s.command[1:]), args...)...)
	if err := s.process.Start(); err != nil {
		return err
	}
	return poll(10*time.Second, func() bool { return s.control.Ping(context.Background()).Err() == nil })
}

func (s *server) kill() {
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
}

func (s *server) stop() {
	if s.control == nil {
		return
	}
	_ = s.control.Close()
	if s.process != nil && s.process.Process != nil {
		s.kill()
	}
	_ = os.RemoveAll(s.dir)
}

func (s *server) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := s.process.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// findCommand is how the shared services start their Redis or Valkey, wherever they found or unpacked it.
func findCommand(t testing.TB) []string {
	t.Helper()
	found.Do(func() { found.command = services.Require(t).RedisCommand })
	if len(found.command) == 0 {
		t.Fatal("the services do not say how their Redis was started")
	}
	return found.command
}

var found struct {
	sync.Once
	command []string
}

// poll asks every 5 ms until done or the limit has passed.
func poll(limit time.Duration, done func() bool) error {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-deadline.C:
			return fmt.Errorf("not so after %v", limit)
		case <-tick.C:
		}
	}
	return nil
}

func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	if err := poll(10*time.Second, done); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}
