package system

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/quiescehq/quiesce/bench/process"
)

// Quiesce is a cluster of nodes, or one development node.
type Quiesce struct {
	Addrs []string // of the HTTP API

	nodes    group
	profiles string
	http     *http.Client
}

// QuiesceConfig says what to start.
type QuiesceConfig struct {
	Binary   string
	Dir      string
	Dev      bool   // one node in memory, to try the harness
	Profiles string // folder for CPU profiles, if the binary was built for them
}

// StartQuiesce starts the nodes with their defaults and waits until all are ready.
func StartQuiesce(ctx context.Context, c QuiesceConfig) (_ *Quiesce, err error) {
	q := &Quiesce{profiles: c.Profiles, http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	defer func() {
		if err != nil {
			err = errors.Join(err, q.Close())
		}
	}()
	members := Members
	if c.Dev {
		members = 1
	}
	addrs, err := freeAddrs(2 * members)
	if err != nil {
		return nil, err
	}
	var expect []string
	for i := range members {
		expect = append(expect, fmt.Sprintf("n%d=%s", i+1, addrs[members+i]))
	}
	q.Addrs = addrs[:members]
	for i := range members {
		id := fmt.Sprintf("n%d", i+1)
		args := []string{"-node-id", id, "-http-addr", addrs[i], "-peer-addr", addrs[members+i], "-log-level", "warn"}
		if c.Dev {
			args = append(args, "-dev")
		} else {
			args = append(args, "-data-dir", filepath.Join(c.Dir, id), "-expect", strings.Join(expect, ","))
		}
		spec := process.Spec{Path: c.Binary, Args: args, Log: filepath.Join(c.Dir, id+".log")}
		if c.Profiles != "" {
			spec.Env = []string{profileEnv + "=" + q.profileOf(i)}
		}
		if err := q.nodes.start(spec); err != nil {
			return nil, err
		}
	}
	return q, q.nodes.await(ctx, "the Quiesce cluster", q.ready)
}

// PIDs of its processes.
func (q *Quiesce) PIDs() []int { return q.nodes.pids() }

// Close ends the nodes.
func (q *Quiesce) Close() error { return q.nodes.kill() }

func (q *Quiesce) ready(ctx context.Context) error {
	for _, addr := range q.Addrs {
		if _, err := q.get(ctx, addr, "/readyz"); err != nil {
			return err
		}
	}
	return nil
}

const answerBytesMax = 1 << 20

func (q *Quiesce) get(ctx context.Context, addr, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := q.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, answerBytesMax))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %d: %s", path, response.StatusCode, body)
	}
	return body, err
}

// Leader is the number of the node that leads.
func (q *Quiesce) Leader(ctx context.Context) (int, error) {
	body, err := q.get(ctx, q.Addrs[0], "/v1/cluster")
	if err != nil {
		return 0, err
	}
	var status struct{ Leader string }
	if err := json.Unmarshal(body, &status); err != nil {
		return 0, err
	}
	for i := range q.Addrs {
		if status.Leader == fmt.Sprintf("n%d", i+1) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("the cluster has no leader: %q", status.Leader)
}

// PID of a node.
func (q *Quiesce) PID(node int) int { return q.nodes[node].PID() }

// InFlight is how many requests a node is answering, the parked ones included.
func (q *Quiesce) InFlight(ctx context.Context, node int) (int, error) {
	body, err := q.get(ctx, q.Addrs[node], "/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.SplitSeq(string(body), "\n") {
		if value, ok := strings.CutPrefix(line, "quiesce_http_in_flight "); ok {
			var n int
			_, err := fmt.Sscan(value, &n)
			return n, err
		}
	}
	return 0, errors.New("the node shows no requests in flight")
}

// Profile makes a node write a CPU profile until stop is called, which returns its path.
func (q *Quiesce) Profile(node int) (stop func(context.Context) (string, error), err error) {
	if err := q.nodes[node].Signal(syscall.SIGUSR1); err != nil {
		return nil, err
	}
	return func(ctx context.Context) (string, error) {
		if err := q.nodes[node].Signal(syscall.SIGUSR2); err != nil {
			return "", err
		}
		return awaitFile(ctx, q.profileOf(node))
	}, nil
}

func (q *Quiesce) profileOf(node int) string {
	return filepath.Join(q.profiles, fmt.Sprintf("n%d.cpu", node+1))
}

const profileMax = 5 * time.Second
