package replica_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/replica"
	"github.com/quiescehq/quiesce/replica/store"
)

// cluster is a set of nodes in this process, over real TCP and real folders.
type cluster struct {
	t      *testing.T
	expect []replica.Peer
	nodes  map[string]*node
	kind   store.Kind
	tune   func(*replica.Config)
}

type node struct {
	*replica.Replica
	id     string
	dir    string
	cancel context.CancelFunc
	done   chan error

	mu    sync.Mutex
	fatal error
}

func (n *node) fault() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.fatal
}

func newCluster(t *testing.T, size int, tune func(*replica.Config)) *cluster {
	t.Helper()
	c := &cluster{t: t, nodes: map[string]*node{}, kind: store.WAL, tune: tune}
	for i := range size {
		c.expect = append(c.expect, replica.Peer{ID: fmt.Sprintf("n%d", i+1), Addr: harness.FreeAddr(t)})
	}
	return c
}

func logger() *slog.Logger {
	level := slog.LevelError + 1
	if os.Getenv("QUIESCE_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

func (c *cluster) config(id, dir string, n *node) replica.Config {
	cfg := replica.Config{NodeID: id, DataDir: dir, LogStore: c.kind, Expect: c.expect, HTTPAddr: "http-" + id,
		ElectionTimeout: 300 * time.Millisecond, Logger: logger().With("node", id),
		OnFatal: func(err error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.fatal = err
		}}
	for _, p := range c.expect {
		if p.ID == id {
			cfg.PeerAddr = p.Addr
		}
	}
	if c.tune != nil {
		c.tune(&cfg)
	}
	return cfg
}

// start starts a node on its folder, which lasts as long as the test.
func (c *cluster) start(id string) *node {
	c.t.Helper()
	n := &node{id: id, dir: filepath.Join(c.t.TempDir(), id)}
	if old := c.nodes[id]; old != nil {
		n.dir = old.dir
	}
	r, err := replica.Open(c.config(id, n.dir, n))
	if err != nil {
		c.t.Fatalf("open %s: %v", id, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.Replica, n.cancel, n.done = r, cancel, make(chan error, 1)
	go func() { n.done <- r.Run(ctx) }()
	c.nodes[id] = n
	c.t.Cleanup(func() { c.stop(n) })
	return n
}

func (c *cluster) startAll() {
	c.t.Helper()
	for _, p := range c.expect {
		c.start(p.ID)
	}
	for _, n := range c.nodes {
		c.ready(n)
	}
}

// stop ends a node without any farewell.
func (c *cluster) stop(n *node) {
	if n.cancel == nil {
		return
	}
	n.cancel()
	n.cancel = nil
	if err := <-n.done; err != nil {
		c.t.Errorf("%s: Run: %v", n.id, err)
	}
	if err := n.Close(); err != nil {
		c.t.Errorf("%s: Close: %v", n.id, err)
	}
}

func (c *cluster) wipe(id string) {
	c.t.Helper()
	c.stop(c.nodes[id])
	if err := os.RemoveAll(c.nodes[id].dir); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) ready(n *node) {
	c.t.Helper()
	eventually(c.t, n.id+" to be ready", func() (bool, string) { return n.Ready() })
}

// leader waits for a running node that takes commands.
func (c *cluster) leader() *node {
	c.t.Helper()
	var found *node
	eventually(c.t, "a leader", func() (bool, string) {
		for _, n := range c.nodes {
			if n.cancel != nil && n.Leader().Self && n.Read(c.t.Context()) == nil {
				found = n
				return true, ""
			}
		}
		return false, "nobody leads"
	})
	return found
}

func (c *cluster) follower() *node {
	c.t.Helper()
	lead := c.leader()
	for _, n := range c.nodes {
		if n != lead && n.cancel != nil {
			return n
		}
	}
	c.t.Fatal("no follower")
	return nil
}

const patience = 15 * time.Second

// eventually asks until the answer is yes. It fails with the last reason.
func eventually(t *testing.T, what string, ask func() (bool, string)) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	every := time.NewTicker(10 * time.Millisecond)
	defer every.Stop()
	for {
		ok, reason := ask()
		if ok {
			return
		}
		select {
		case <-every.C:
		case <-deadline.C:
			t.Fatalf("waited %s for %s: %s", patience, what, reason)
		}
	}
}

func open(id string) fsm.Op { return fsm.Op{Command: fsm.OpenSession{ID: id, TTLMs: 60_000}} }

func acquire(session, name string) fsm.Op {
	return fsm.Op{Command: fsm.AcquireLock{Session: session, Wants: []fsm.LockWant{{Name: name}}}}
}

func (c *cluster) must(n *node, ops ...fsm.Op) []fsm.Result {
	c.t.Helper()
	results, err := n.Propose(c.t.Context(), ops...)
	if err != nil {
		c.t.Fatalf("%s: %v", n.id, err)
	}
	for _, r := range results {
		if r.Refused() {
			c.t.Fatalf("%s: refused: %+v", n.id, r)
		}
	}
	return results
}

func TestPropose_AppliedOnEveryNode(t *testing.T) {
	t.Parallel()
	for _, kind := range []store.Kind{store.WAL, store.BoltDB} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 3, nil)
			c.kind = kind
			c.startAll()
			lead := c.leader()
			c.must(lead, open("s"), acquire("s", "x"))
			eventually(t, "equal digests", func() (bool, string) {
				st := lead.Status(t.Context())
				for _, n := range st.Nodes {
					if n.Digest != st.Digest || n.Applied != st.Applied {
						return false, fmt.Sprintf("%+v", st)
					}
				}
				return len(st.Nodes) == 3 && st.FailureTolerance == 1, fmt.Sprintf("%+v", st)
			})
			_, err := c.follower().Propose(t.Context(), open("t"))
			if !errors.Is(err, replica.ErrNotLeader) || !errors.Is(err, replica.ErrNotApplied) {
				t.Fatalf("follower answered %v", err)
			}
		})
	}
}

func TestPropose_KilledNodesLoseNothingAcknowledged(t *testing.T) {
	t.Parallel()
	for _, kind := range []store.Kind{store.WAL, store.BoltDB} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 3, func(cfg *replica.Config) {
				cfg.TuneRaft = func(rc *raft.Config) {
					rc.SnapshotThreshold, rc.TrailingLogs, rc.SnapshotInterval = 8, 4, 50*time.Millisecond
				}
			})
			c.kind = kind
			c.startAll()
			var acknowledged []string
			for round, victim := range []string{"n1", "n2", "n3", "n1"} {
				for i := range 20 {
					id := fmt.Sprintf("s-%d-%d", round, i)
					c.must(c.leader(), open(id))
					acknowledged = append(acknowledged, id)
				}
				c.stop(c.nodes[victim])
				id := fmt.Sprintf("s-%d-without", round)
				c.must(c.leader(), open(id))
				acknowledged = append(acknowledged, id)
				c.ready(c.start(victim))
			}
			for _, n := range c.nodes {
				eventually(t, "all sessions on "+n.id, func() (bool, string) {
					missing := ""
					n.View(func(s *fsm.State) {
						for _, id := range acknowledged {
							if _, ok := s.Session(id); !ok {
								missing = id
							}
						}
					})
					return missing == "", "missing " + missing
				})
			}
		})
	}
}

func TestForm_WaitsForEveryExpectedNode(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.start("n1")
	c.start("n2")
	eventually(t, "n1 to say whom it waits for", func() (bool, string) {
		ok, reason := c.nodes["n1"].Ready()
		return !ok && reason == "waiting for the first start needs all expected nodes; no answer from n3 at "+c.expect[2].Addr, reason
	})
	c.ready(c.start("n3"))
	c.ready(c.nodes["n1"])
	c.ready(c.nodes["n2"])
}

func TestForm_RemovedNodeAndWipedPeerDoNotElect(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.startAll()
	removed := c.follower()
	c.stop(removed)
	lead := c.leader()
	if err := lead.RemoveNode(t.Context(), removed.id); err != nil {
		t.Fatal(err)
	}
	c.must(lead, open("acknowledged"))
	var wiped string
	for id, n := range c.nodes {
		if n != removed {
			c.stop(n)
			wiped = id
		}
	}
	c.wipe(wiped)
	c.start(removed.id)
	c.start(wiped)
	never(t, 8*300*time.Millisecond, "a removed node and a wiped one lead", func() bool {
		return c.nodes[removed.id].Leader().ID != "" || c.nodes[wiped].Leader().ID != ""
	})
}

func TestRemoveNode_NameThatWasNeverHeardIsRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.startAll()
	var refused *replica.RefusedError
	if err := c.leader().RemoveNode(t.Context(), "n9"); !errors.As(err, &refused) || refused.Code != replica.CodeNodeNotFound {
		t.Errorf("an unknown node: %v", err)
	}
	gone := c.follower()
	c.stop(gone)
	for range 2 { // the second finds it removed already
		if err := c.leader().RemoveNode(t.Context(), gone.id); err != nil {
			t.Fatal(err)
		}
	}
}

// A node that may not join keeps asking; that must not stand in the way of the removal that would let it in.
func TestRemoveNode_WaitsForItsTurn(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.startAll()
	lead, gone := c.leader(), c.follower()
	c.stop(gone)
	release := lead.HoldChange()
	removed := make(chan error, 1)
	go func() { removed <- lead.RemoveNode(t.Context(), gone.id) }()
	never(t, 200*time.Millisecond, "it did not wait", func() bool { return len(removed) > 0 })
	release()
	if err := <-removed; err != nil {
		t.Error(err)
	}
}

func never(t *testing.T, during time.Duration, what string, ask func() bool) {
	t.Helper()
	end := time.NewTimer(during)
	defer end.Stop()
	every := time.NewTicker(10 * time.Millisecond)
	defer every.Stop()
	for {
		if ask() {
			t.Fatal(what)
		}
		select {
		case <-every.C:
		case <-end.C:
			return
		}
	}
}

func TestDepart_LeavesWhenSafeAndRejoins(t *testing.T) {
	t.Parallel()
	for _, which := range []string{"leader", "follower"} {
		t.Run(which, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 3, nil)
			c.startAll()
			n := c.leader()
			if which == "follower" {
				n = c.follower()
			}
			c.must(c.leader(), open("before"))
			d := n.Depart(t.Context(), replica.DepartConfig{DrainDelay: 100 * time.Millisecond})
			if !d.Left {
				t.Fatalf("did not leave: %s", d.Reason)
			}
			c.stop(n)
			lead := c.leader()
			c.must(lead, open("between"))
			if st := lead.Status(t.Context()); st.FailureTolerance != 0 {
				t.Fatalf("two voters tolerate %d failures", st.FailureTolerance)
			}
			second := c.follower()
			if d := second.Depart(t.Context(), replica.DepartConfig{DrainDelay: 50 * time.Millisecond}); d.Left {
				t.Fatal("the second node left too: one disk would hold what is acknowledged")
			}
			c.stop(second)
			c.start(second.id)
			c.ready(c.start(n.id))
			c.ready(c.nodes[second.id])
			eventually(t, "three voters", func() (bool, string) {
				st := c.leader().Status(t.Context())
				return st.FailureTolerance == 1, fmt.Sprintf("%+v", st)
			})
		})
	}
}

func TestDepart_AllAtOnceKeepMembership(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.startAll()
	c.must(c.leader(), open("kept"))
	var group sync.WaitGroup
	for _, n := range c.nodes {
		group.Go(func() {
			if d := n.Depart(t.Context(), replica.DepartConfig{DrainDelay: 400 * time.Millisecond}); d.Left {
				t.Errorf("%s left although all are stopping", n.id)
			}
		})
	}
	group.Wait()
	for _, n := range c.nodes {
		c.stop(n)
	}
	c.wipe("n2")
	c.start("n1")
	c.start("n3")
	lead := c.leader()
	lead.View(func(s *fsm.State) {
		if _, ok := s.Session("kept"); !ok {
			t.Error("two of three folders do not hold what was acknowledged")
		}
	})
	c.start("n2")
	eventually(t, "the wiped node to say why it is not admitted", func() (bool, string) {
		_, reason := c.nodes["n2"].Ready()
		return len(reason) > 0 && contains(reason, "remove the node first"), reason
	})
	if err := c.leader().RemoveNode(t.Context(), "n2"); err != nil {
		t.Fatal(err)
	}
	c.ready(c.nodes["n2"])
}

func contains(s, part string) bool {
	for i := 0; i+len(part) <= len(s); i++ {
		if s[i:i+len(part)] == part {
			return true
		}
	}
	return false
}
