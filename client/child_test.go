package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"
)

// envRole makes the test binary an application of its own, so that real signals reach a real process.
const envRole = "QUIESCE_TEST_ROLE"

const (
	roleApp   = "app"   // the SDK as its manual says
	roleStuck = "stuck" // the same, with a handler and a flush that never end
	roleNaive = "naive" // the control: Shutdown as soon as the signal comes
)

const childGrace = 6 * time.Second

func playChild(role string) int {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	switch role {
	case roleNaive:
		return playNaive(log)
	case roleApp, roleStuck:
		return playApp(log, role)
	}
	return 2
}

func playApp(log *slog.Logger, role string) int {
	app, err := Join("orders", FromEnv(), Logger(log), LameDuck(300*time.Millisecond), LeaseTTL(2*time.Second))
	if err != nil {
		log.Error("join", "error", err)
		return 3
	}
	mux := routes()
	mux.Handle("/readyz", app.Readiness())
	if role == roleStuck {
		mux.HandleFunc("/stuck", func(http.ResponseWriter, *http.Request) { select {} })
		app.Flush("stuck", func(context.Context) (int, error) { select {} })
	}
	return app.Run(&http.Server{Addr: "127.0.0.1:0", Handler: app.Handler(mux)})
}

func routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /work", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-time.After(2 * time.Millisecond)
		_, _ = w.Write([]byte("done"))
	})
	return mux
}

func playNaive(log *slog.Logger) int {
	mux := routes()
	mux.HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 3
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	server := &http.Server{Handler: mux}
	stopped := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(stopped)
		_ = server.Shutdown(context.Background())
	})
	log.Info("listening", "addr", l.Addr().String())
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return 4
	}
	<-stopped
	return 0
}

// child is a process that plays a role.
type child struct {
	t      *testing.T
	cmd    *exec.Cmd
	addr   string
	exited chan struct{}
}

// startChild starts a role and waits until it listens.
func startChild(t *testing.T, role, name, coordinator string) *child {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, cmd: exec.Command(executable), exited: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), envRole+"="+role, EnvInstance+"="+name, EnvAddrs+"="+coordinator, EnvGrace+"="+childGrace.String())
	stderr, err := c.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	listening := make(chan string, 1)
	go func() {
		defer close(c.exited)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			var line struct{ Msg, Addr string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "listening" {
				listening <- line.Addr
			}
			t.Logf("%s: %s", name, lines.Text())
		}
		_ = c.cmd.Wait() // the exit code says it
	}()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-c.exited
	})
	select {
	case c.addr = <-listening:
	case <-c.exited:
		t.Fatalf("%s ended at once with %d", name, c.cmd.ProcessState.ExitCode())
	case <-time.After(20 * time.Second):
		t.Fatalf("%s does not listen", name)
	}
	return c
}

func (c *child) signal(sig os.Signal) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(sig); err != nil {
		c.t.Fatal(err)
	}
}

// exitsWithin waits for the end and gives the exit code.
func (c *child) exitsWithin(d time.Duration) int {
	c.t.Helper()
	select {
	case <-c.exited:
	case <-time.After(d):
		c.t.Fatalf("still running after %v", d)
	}
	return c.cmd.ProcessState.ExitCode()
}
