package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/quiescehq/quiesce/bench/process"
)

// Quiesce is a cluster of nodes, or one development node.
type Quiesce struct {
	Addrs []string // of the HTTP API

	nodes  group
	specs  []process.Spec
	folder string // of their profiles
	http   *http.Client
}

// QuiesceConfig says what to start.
type QuiesceConfig struct {
	Binary   string
	Dir      string
	Dev      bool     // one node in memory, to try the harness
	Profiles string   // folder for CPU profiles, if the binary was built for them
	Args     []string // more of them, for every node
}

// StartQuiesce starts the nodes with their defaults and waits until all are ready.
func StartQuiesce(ctx context.Context, c QuiesceConfig) (_ *Quiesce, err error) {
	q := &Quiesce{folder: c.Profiles, http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
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
		spec := process.Spec{Path: c.Binary, Args: append(args, c.Args...), Log: filepath.Join(c.Dir, id+".log")}
		if c.Profiles != "" {
			spec.Env = []string{profileEnv + "=" + q.profileOf(i)}
		}
		q.specs = append(q.specs, spec)
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
	return q.do(ctx, http.MethodGet, addr, path, http.StatusOK)
}

func (q *Quiesce) do(ctx context.Context, method, addr, path string, want int) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+addr+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := q.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, answerBytesMax))
	if err == nil && response.StatusCode != want {
		err = fmt.Errorf("%s %s: %d: %s", method, path, response.StatusCode, body)
	}
	return body, err
}
