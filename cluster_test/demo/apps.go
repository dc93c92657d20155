package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/quiescehq/quiesce/client"
)

const (
	ordersCount = 3
	ordersGrace = 10 * time.Second // scales the lame-duck time to more than a second: twenty probes of the balancer
	startLimit  = 30 * time.Second
	stopLimit   = ordersGrace + 10*time.Second
	buildLimit  = 5 * time.Minute
	lineMax     = 1 << 20
)

var errInstance = errors.New("an instance of orders failed")

// fleet is the application: processes of examples/orders.
type fleet struct {
	binary string
	folder string // of the logs
	env    []string

	mu      sync.Mutex
	running map[string]*instance
	logs    []string
	joined  sync.WaitGroup
}

// instance is one process.
type instance struct {
	name   string
	base   string // URL
	log    *recorder
	cmd    *exec.Cmd
	exited chan struct{}
}

// newFleet builds the application.
func newFleet(ctx context.Context, c *cluster) (*fleet, error) {
	f := &fleet{folder: filepath.Join(c.dir, "orders"), running: map[string]*instance{}}
	f.binary = filepath.Join(f.folder, "orders")
	if err := os.MkdirAll(f.folder, 0o700); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, buildLimit)
	defer cancel()
	build := exec.CommandContext(ctx, goCommand(), "build", "-o", f.binary, "./examples/orders")
	build.Dir = filepath.Dir(filepath.Dir(c.options.script))
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build orders: %w: %s", err, out)
	}
	f.env = append(os.Environ(), "ORDERS_HTTP_ADDR=127.0.0.1:0", "ORDERS_MYSQL_DSN="+c.mysql.DSN, "ORDERS_REDIS_ADDR="+c.redis.Addr,
		"ORDERS_KEY_PREFIX="+keyPrefix, client.EnvAddrs+"="+strings.Join(c.addrs(), ","), client.EnvGrace+"="+ordersGrace.String())
	return f, nil
}

// goCommand is what scripts/cluster.sh found, else go.
func goCommand() string {
	if found := os.Getenv("GO"); found != "" {
		return found
	}
	return "go"
}

// start begins a process and waits until it listens. Readiness is for the balancer to see.
func (f *fleet) start(ctx context.Context, name string) (*instance, error) {
	log, err := newRecorder(filepath.Join(f.folder, name+".log"))
	if err != nil {
		return nil, err
	}
	i := &instance{name: name, log: log, cmd: exec.Command(f.binary), exited: make(chan struct{})}
	i.cmd.Env, i.cmd.Dir = append(f.env, client.EnvInstance+"="+name), f.folder
	i.cmd.Stdout, i.cmd.Stderr = log, log
	if err := i.cmd.Start(); err != nil {
		return nil, errors.Join(err, log.file.Close())
	}
	f.add(i)
	f.joined.Go(func() {
		defer close(i.exited)
		_ = i.cmd.Wait() // the exit code says it
		_ = log.file.Close()
	})
	timeout := time.NewTimer(startLimit)
	defer timeout.Stop()
	select {
	case addr := <-log.listening:
		i.base = "http://" + addr
		return i, nil
	case <-i.exited:
		return nil, fmt.Errorf("%w: %s ended at once with %d", errInstance, name, i.cmd.ProcessState.ExitCode())
	case <-timeout.C:
		return nil, fmt.Errorf("%w: %s does not listen after %v", errInstance, name, startLimit)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (f *fleet) add(i *instance) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, known := f.running[i.name]; !known {
		f.logs = append(f.logs, i.log.file.Name())
	}
	f.running[i.name] = i
}

// stop ends the instance of a name.
func (f *fleet) stop(ctx context.Context, name string) (code int, err error) {
	f.mu.Lock()
	i := f.running[name]
	f.mu.Unlock()
	return i.stop(ctx)
}

// await waits for an instance that somebody else asked to end.
func (f *fleet) await(ctx context.Context, name string) (code int, err error) {
	f.mu.Lock()
	i := f.running[name]
	f.mu.Unlock()
	return i.await(ctx)
}

// gone tells whether the instance of a name has ended, and how.
func (f *fleet) gone(name string) (code int, gone bool) {
	f.mu.Lock()
	i := f.running[name]
	f.mu.Unlock()
	select {
	case <-i.exited:
		return i.cmd.ProcessState.ExitCode(), true
	default:
		return 0, false
	}
}

// stop sends SIGTERM, waits, and gives the exit code.
func (i *instance) stop(ctx context.Context) (int, error) {
	if err := i.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return 0, err
	}
	return i.await(ctx)
}

// await gives the exit code. A process that does not end is killed, and that is an error.
func (i *instance) await(ctx context.Context) (int, error) {
	limit := time.NewTimer(stopLimit)
	defer limit.Stop()
	why := error(nil)
	select {
	case <-i.exited:
		return i.cmd.ProcessState.ExitCode(), nil
	case <-limit.C:
		why = fmt.Errorf("%w: %s still ran %v after it was asked to stop", errInstance, i.name, stopLimit)
	case <-ctx.Done():
		why = context.Cause(ctx)
	}
	_ = i.cmd.Process.Kill() // it may have ended meanwhile
	<-i.exited
	return i.cmd.ProcessState.ExitCode(), why
}

// end stops what still runs and joins everything. It works after the run's context has ended.
func (f *fleet) end(ctx context.Context) {
	f.mu.Lock()
	var left []*instance
	for _, i := range f.running {
		left = append(left, i)
	}
	f.mu.Unlock()
	for _, i := range left {
		select {
		case <-i.exited:
			continue
		default:
		}
		f.joined.Go(func() { _, _ = i.stop(ctx) })
	}
	f.joined.Wait()
}

// recorder keeps an instance's log and finds its address in it.
type recorder struct {
	file      *os.File
	listening chan string // gets one
	found     bool
	line      []byte
}

func newRecorder(path string) (*recorder, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &recorder{file: file, listening: make(chan string, 1)}, nil
}

// Write is called by one goroutine, that of exec.Cmd.
func (r *recorder) Write(p []byte) (int, error) {
	if !r.found && len(r.line) < lineMax {
		r.line = append(r.line, p...)
		r.look()
	}
	return r.file.Write(p)
}

func (r *recorder) look() {
	for {
		line, rest, complete := bytes.Cut(r.line, []byte{'\n'})
		if !complete {
			return
		}
		r.line = rest
		var entry struct{ Msg, Addr string }
		if json.Unmarshal(line, &entry) == nil && entry.Msg == "listening" {
			r.found, r.line = true, nil
			r.listening <- entry.Addr
			return
		}
	}
}
