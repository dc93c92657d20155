package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/quiescehq/quiesce/api"
)

const (
	scriptGrace    = 5 * time.Second
	callTimeout    = 3 * time.Second
	answerMaxBytes = 8 << 20
)

var (
	errScript = errors.New("scripts/cluster.sh failed")
	errAnswer = errors.New("the cluster answered with an error")
)

// cluster is the nodes and servers under test, as scripts/cluster.sh describes them. Its methods speak HTTP to a chosen node; what
// applications do goes through the SDK instead.
type cluster struct {
	options
	log   io.Writer
	http  *http.Client
	nodes []node
	mysql struct {
		DSN string `json:"dsn"`
	}
	redis struct {
		Addr string `json:"addr"`
	}
}

type node struct {
	ID   string `json:"id"`
	Addr string `json:"http_addr"`
	Log  string `json:"log"`
}

func openCluster(ctx context.Context, o options, log io.Writer) (*cluster, error) {
	c := &cluster{options: o, log: log, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
	var out bytes.Buffer
	if err := c.runScript(ctx, &out, "status", "--json"); err != nil {
		return nil, err
	}
	var status struct {
		Nodes []node `json:"nodes"`
		MySQL any    `json:"mysql"`
		Redis any    `json:"redis"`
	}
	status.MySQL, status.Redis = &c.mysql, &c.redis
	if err := json.Unmarshal(out.Bytes(), &status); err != nil {
		return nil, fmt.Errorf("read the cluster's status: %w", err)
	}
	if c.nodes = status.Nodes; len(c.nodes) != 3 || c.mysql.DSN == "" || c.redis.Addr == "" {
		return nil, fmt.Errorf("%w: status shows %d nodes, and 3 with MySQL and Redis are needed", errScript, len(c.nodes))
	}
	return c, nil
}

// script runs a command such as kill n1. What it prints goes to stderr: stdout is the report's.
func (c *cluster) script(ctx context.Context, args ...string) error {
	return c.runScript(ctx, c.log, args...)
}

func (c *cluster) runScript(ctx context.Context, out io.Writer, args ...string) error {
	command := exec.CommandContext(ctx, c.options.script, args...)
	command.Env = append(os.Environ(), "QUIESCE_DIR="+c.dir)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = scriptGrace
	command.Stdout, command.Stderr = out, c.log
	if err := command.Run(); err != nil {
		return fmt.Errorf("%w: %v: %w", errScript, args, err)
	}
	return nil
}

func (c *cluster) addrs() []string {
	var out []string
	for _, n := range c.nodes {
		out = append(out, n.Addr)
	}
	return out
}

func (c *cluster) others(id string) (out []node) {
	for _, n := range c.nodes {
		if n.ID != id {
			out = append(out, n)
		}
	}
	return out
}

// call asks one node once. header may be nil, body and into too.
func (c *cluster) call(ctx context.Context, n node, method, path string, header http.Header, body, into any) error {
	payload := []byte(nil)
	if body != nil {
		var err error
		if payload, err = json.Marshal(body); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, "http://"+n.Addr+path, bytes.NewReader(payload))
	if err != nil {
		return err
	}
	for name, values := range header {
		request.Header[name] = values
	}
	if body != nil {
		request.Header.Set("Content-Type", api.ContentJSON)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, answerMaxBytes))
	if err != nil {
		return err
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%w: %s %s at %s: %d %s", errAnswer, method, path, n.ID, response.StatusCode, bytes.TrimSpace(answer))
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(answer, into)
}

// ask sends a call that may be repeated to one node after another until one answers.
func (c *cluster) ask(ctx context.Context, method, path string, header http.Header, body, into any) (err error) {
	for _, n := range c.nodes {
		if err = c.call(ctx, n, method, path, header, body, into); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

func (c *cluster) get(ctx context.Context, path string, into any) error {
	return c.ask(ctx, http.MethodGet, path, nil, nil, into)
}

// leader names the node that leads.
func (c *cluster) leader(ctx context.Context) (node, error) {
	var status api.Cluster
	if err := c.get(ctx, "/v1/cluster", &status); err != nil {
		return node{}, err
	}
	for _, n := range c.nodes {
		if n.ID == status.Leader {
			return n, nil
		}
	}
	return node{}, fmt.Errorf("%w: it names %q as its leader", errAnswer, status.Leader)
}

// whole tells what is missing until all nodes are live voters again.
func (c *cluster) whole(ctx context.Context) string {
	var status api.Cluster
	if err := c.get(ctx, "/v1/cluster", &status); err != nil {
		return err.Error()
	}
	voters := 0
	for _, n := range status.Nodes {
		if n.Suffrage == "voter" && n.Status == "alive" {
			voters++
		}
	}
	if voters != len(c.nodes) {
		return fmt.Sprintf("%d of %d nodes are live voters", voters, len(c.nodes))
	}
	return ""
}

func (c *cluster) outbox(ctx context.Context) (stats api.OutboxStats, err error) {
	err = c.get(ctx, "/v1/outbox/stats", &stats)
	return stats, err
}

// lagLooked is how many events the nodes look at to find the oldest.
const lagLooked = 100

// drainedSince tells what is missing until no event is pending that is older than a moment. Younger ones there always are under load.
func (c *cluster) drainedSince(then time.Time) func(context.Context) string {
	return func(ctx context.Context) string {
		stats, err := c.outbox(ctx)
		if err != nil {
			return err.Error()
		}
		age := uint64(time.Since(then).Milliseconds())
		if stats.Pending == 0 || stats.Pending <= lagLooked && stats.LagMs < age {
			return ""
		}
		return fmt.Sprintf("%d events pending, the oldest for %d ms; breakers %v", stats.Pending, stats.LagMs, stats.Breakers)
	}
}

// empty tells what is missing until no event is pending.
func (c *cluster) empty(ctx context.Context) string {
	stats, err := c.outbox(ctx)
	switch {
	case err != nil:
		return err.Error()
	case stats.Pending > 0:
		return fmt.Sprintf("%d events pending, the oldest for %d ms; breakers %v", stats.Pending, stats.LagMs, stats.Breakers)
	}
	return ""
}
