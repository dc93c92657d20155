package harness

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/links"
)

// ReadyWithin is how long a cluster may take to become ready on a machine that does much else.
const ReadyWithin = 60 * time.Second

// Options say what a cluster is like. The zero value is three nodes as they are by default.
type Options struct {
	Nodes    int               // 0 for 3
	Settings map[string]string // more keys of the configuration file
	MySQL    string            // DSN of the source "main", if any
	Outbox   string            // DSN of the account for the quiesce tables of "main", if any
	Redis    string            // address of the target "cache", if any
	Links    bool              // the nodes reach each other through Cluster.Links
}

// Cluster is a set of nodes that expect each other.
type Cluster struct {
	Nodes []*Node      // n1, n2, ...
	Links *links.Links // nil unless asked for

	t      testing.TB
	client *http.Client
}

// Start starts a cluster and waits until every node is ready. The cleanup of t ends it.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	c := New(t, o)
	for _, n := range c.Nodes {
		n.Start()
	}
	c.AwaitReady()
	return c
}

// New prepares a cluster of which nothing runs yet.
func New(t testing.TB, o Options) *Cluster {
	t.Helper()
	if o.Nodes == 0 {
		o.Nodes = 3
	}
	c := &Cluster{t: t, client: newHTTPClient()}
	dir := t.TempDir()
	for i := range o.Nodes {
		id := fmt.Sprintf("n%d", i+1)
		c.Nodes = append(c.Nodes, &Node{ID: id, HTTPAddr: FreeAddr(t), PeerAddr: FreeAddr(t), t: t, Dir: filepath.Join(dir, id),
			config: filepath.Join(dir, id+".yaml"), log: filepath.Join(dir, id+".log")})
	}
	if o.Links {
		c.link()
	}
	for _, n := range c.Nodes {
		if err := os.WriteFile(n.config, []byte(c.yaml(n, o)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Cleanups run last in, first out: the processes, which are launched later, have ended when this one comes.
	t.Cleanup(func() {
		c.client.CloseIdleConnections()
		for _, n := range c.Nodes {
			n.report()
		}
	})
	return c
}

func (c *Cluster) yaml(n *Node, o Options) string {
	text := fmt.Sprintf("node_id: %s\ndata_dir: %q\n%sexpect:\n", n.ID, n.Dir, n.addresses())
	for _, p := range c.Nodes {
		text += fmt.Sprintf("  - {id: %s, peer_addr: %q}\n", p.ID, p.toldPeer())
	}
	for key, value := range o.Settings {
		text += fmt.Sprintf("%s: %s\n", key, value)
	}
	if o.MySQL != "" {
		text += fmt.Sprintf("sources:\n  main:\n    dsn: %q\n", o.MySQL)
	}
	if o.Outbox != "" {
		text += fmt.Sprintf("    outbox: {dsn: %q}\n", o.Outbox)
	}
	if o.Redis != "" {
		text += fmt.Sprintf("targets:\n  cache: {addr: %q}\n", o.Redis)
	}
	return text
}

// Addrs are the HTTP addresses of all nodes.
func (c *Cluster) Addrs() []string {
	var out []string
	for _, n := range c.Nodes {
		out = append(out, n.HTTPAddr)
	}
	return out
}

// Node finds a node by its id.
func (c *Cluster) Node(id string) *Node {
	c.t.Helper()
	for _, n := range c.Nodes {
		if n.ID == id {
			return n
		}
	}
	c.t.Fatalf("no node %q", id)
	return nil
}

// Others are all nodes but some.
func (c *Cluster) Others(but ...*Node) []*Node {
	var out []*Node
nodes:
	for _, n := range c.Nodes {
		for _, b := range but {
			if n == b {
				continue nodes
			}
		}
		out = append(out, n)
	}
	return out
}

var errNotReady = errors.New("not ready")

// AwaitReady waits until some nodes are ready, or all that run if none are named.
func (c *Cluster) AwaitReady(nodes ...*Node) {
	c.t.Helper()
	if len(nodes) == 0 {
		for _, n := range c.Nodes {
			if n.Running() {
				nodes = append(nodes, n)
			}
		}
	}
	for _, n := range nodes {
		Eventually(c.t, ReadyWithin, n.ID+" to be ready", func() error {
			if !n.Running() {
				c.t.Fatalf("%s has ended with code %d", n.ID, n.process.command.ProcessState.ExitCode())
			}
			return c.Ready(n)
		})
	}
}

// Ready is nil when a node says that it is ready, else an error with its reason.
func (c *Cluster) Ready(n *Node) error {
	answer, err := c.Send(c.t.Context(), n, Request{Method: http.MethodGet, Path: "/readyz"})
	switch {
	case err != nil:
		return err
	case answer.Status != http.StatusOK:
		return fmt.Errorf("%w: %s", errNotReady, answer.Problem().Detail)
	}
	return nil
}

// Status is the cluster as the leader sees it, asked through any node that answers.
func (c *Cluster) Status() (api.Cluster, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), askTimeout)
	defer cancel()
	var status api.Cluster
	answer, err := c.Caller().Do(ctx, Request{Method: http.MethodGet, Path: "/v1/cluster"})
	if err == nil {
		err = answer.Into(&status)
	}
	return status, err
}

// AwaitStatus waits until the cluster is as a test wants it.
func (c *Cluster) AwaitStatus(what string, wanted func(api.Cluster) bool) api.Cluster {
	c.t.Helper()
	var status api.Cluster
	Eventually(c.t, ReadyWithin, what, func() (err error) {
		if status, err = c.Status(); err == nil && !wanted(status) {
			err = fmt.Errorf("the cluster is %s", describe(status))
		}
		return err
	})
	return status
}

// Leader waits for a leader and returns its node.
func (c *Cluster) Leader() *Node {
	c.t.Helper()
	status := c.AwaitStatus("a leader", func(s api.Cluster) bool { return s.Leader != "" && s.Node == s.Leader })
	return c.Node(status.Leader)
}

// Follower is a running node that does not lead.
func (c *Cluster) Follower() *Node {
	c.t.Helper()
	for _, n := range c.Others(c.Leader()) {
		if n.Running() {
			return n
		}
	}
	c.t.Fatal("no follower runs")
	return nil
}

// StatusOf is how a cluster sees one of its nodes.
func StatusOf(s api.Cluster, id string) api.Node {
	for _, n := range s.Nodes {
		if n.ID == id {
			return n
		}
	}
	return api.Node{}
}

// AwaitWhole waits until all nodes are voters that are alive.
func (c *Cluster) AwaitWhole() api.Cluster {
	c.t.Helper()
	return c.AwaitStatus("all nodes to be voters", func(s api.Cluster) bool {
		voters := 0
		for _, n := range s.Nodes {
			if n.Suffrage == "voter" && n.Status == "alive" {
				voters++
			}
		}
		return voters == len(c.Nodes)
	})
}

// AwaitSameState waits until all voters have applied the same entries, and fails unless their states are the same.
func (c *Cluster) AwaitSameState() {
	c.t.Helper()
	c.AwaitStatus("all nodes to have applied the same", func(s api.Cluster) bool {
		for _, n := range s.Nodes {
			if n.Suffrage != "voter" || n.AppliedIndex != s.AppliedIndex {
				return false
			}
		}
		for _, n := range s.Nodes {
			if n.Digest != s.Digest {
				c.t.Fatalf("the states differ at one index: %s", describe(s))
			}
		}
		return true
	})
}

func describe(s api.Cluster) string {
	text := fmt.Sprintf("leader %s, term %d, tolerance %d, applied %d %s:", s.Leader, s.Term, s.FailureTolerance, s.AppliedIndex, s.Digest)
	for _, n := range s.Nodes {
		text += fmt.Sprintf(" %s=%s/%s@%d %s", n.ID, n.Status, n.Suffrage, n.AppliedIndex, n.Digest)
	}
	return text
}

// Await asks until there is no error, and ends the test with the last one when that takes too long.
func (c *Cluster) Await(what string, ask func() error) {
	c.t.Helper()
	Eventually(c.t, ReadyWithin, what, ask)
}
