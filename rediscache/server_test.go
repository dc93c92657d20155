package rediscache

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

// shared serves every test that does no harm to a server; each keeps to keys of its own name.
var shared *server

func TestMain(m *testing.M) {
	var err error
	if shared, err = startServer(); err != nil {
		fmt.Fprintln(os.Stderr, "rediscache tests need a redis-server:", err)
		os.Exit(1)
	}
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

// server is a redis-server process of the tests' own, without persistence unless args say so.
type server struct {
	addr    string
	dir     string
	args    []string
	process *exec.Cmd
	control *redis.Client
}

func startServer(args ...string) (*server, error) {
	dir, err := os.MkdirTemp("", "rediscache")
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &server{addr: listener.Addr().String(), dir: dir, args: args}
	if err := listener.Close(); err != nil {
		return nil, err
	}
	s.control = redis.NewClient(&redis.Options{Addr: s.addr, DisableIdentity: true, Protocol: 2, DialerRetries: 1})
	return s, s.start()
}

func (s *server) start() error {
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return err
	}
	args := append([]string{"--bind", "127.0.0.1", "--port", port, "--dir", s.dir, "--save", "", "--appendonly", "no", "--logfile", "redis.log"}, s.args...)
	s.process = exec.Command("redis-server", args...)
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
	_ = s.control.Close()
	_ = s.process.Process.Signal(syscall.SIGCONT)
	s.kill()
	_ = os.RemoveAll(s.dir)
}

// ownServer is for tests that harm it.
func ownServer(t testing.TB, args ...string) *server {
	t.Helper()
	s, err := startServer(args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	return s
}

func (s *server) signal(t testing.TB, sig os.Signal) {
	t.Helper()
	if err := s.process.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
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
