package replica_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/replica"
	"github.com/quiescehq/quiesce/replica/store"
)

func (c *cluster) addr(id string) string {
	for _, p := range c.expect {
		if p.ID == id {
			return p.Addr
		}
	}
	return ""
}

// A leader that does not know yet that it was deposed must answer no read and no keepalive. raft's own VerifyLeader does answer: it
// counts the reply to a heartbeat that was sent before the question.
func TestRead_DeposedLeaderAnswersNothing(t *testing.T) {
	t.Parallel()
	network := newNetwork()
	const slow = "n1" // its timers are so long that it does not notice: as if it had been stopped and resumed
	c := newCluster(t, 3, func(cfg *replica.Config) {
		network.tune(cfg)
		cfg.ElectionTimeout = 900 * time.Millisecond
		if cfg.NodeID == slow {
			cfg.TuneRaft = func(rc *raft.Config) {
				rc.HeartbeatTimeout, rc.ElectionTimeout, rc.LeaderLeaseTimeout = 4*time.Second, 4*time.Second, 4*time.Second
			}
		}
	})
	c.startAll()
	for c.leader().id != slow { // a transfer goes to the most advanced voter: one of two tries or so
		_ = c.leader().Transfer(t.Context())
	}
	old := c.nodes[slow]
	c.must(old, open("session"))
	term := old.RaftTerm()

	release := network.hold(c.addr(slow))
	t.Cleanup(release)
	t.Cleanup(network.deafen(c.addr(slow)))
	eventually(t, "a new leader", func() (bool, string) {
		for _, n := range c.nodes {
			if n != old && n.Leader().Self {
				return true, ""
			}
		}
		return false, "nobody"
	})
	verified := make(chan error, 1)
	go func() { verified <- old.VerifyLeader() }()
	read, kept := make(chan error, 1), make(chan error, 1)
	go func() { read <- old.Read(t.Context()) }()
	go func() {
		_, err := old.Keepalive(t.Context(), []string{"session"})
		kept <- err
	}()
	never(t, 200*time.Millisecond, "the old leader was told", func() bool { return old.RaftTerm() != term })
	release()
	if err := <-verified; err != nil {
		t.Errorf("negative control: VerifyLeader noticed (%v), so this test shows nothing", err)
	}
	if err := <-read; err == nil {
		t.Error("a deposed leader answered a read")
	}
	if err := <-kept; err == nil {
		t.Error("a deposed leader acknowledged a keepalive")
	}
}

// gate is a log store that fails or hangs on demand.
type gate struct {
	raft.LogStore
	fault  *atomic.Pointer[error]
	closed *atomic.Pointer[chan struct{}]
}

func (g gate) IsMonotonic() bool {
	m, ok := g.LogStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

func (g gate) StoreLogs(logs []*raft.Log) error {
	if hang := g.closed.Load(); hang != nil {
		<-*hang
	}
	if err := g.fault.Load(); err != nil {
		return *err
	}
	return g.LogStore.StoreLogs(logs)
}

func (g gate) StoreLog(log *raft.Log) error { return g.StoreLogs([]*raft.Log{log}) }

type gated struct {
	fault  atomic.Pointer[error]
	closed atomic.Pointer[chan struct{}]
}

// shut holds every write of the log until the returned function is called.
func (g *gated) shut() (release func()) {
	hang := make(chan struct{})
	g.closed.Store(&hang)
	return func() {
		g.closed.Store(nil)
		close(hang)
	}
}

func gatedCluster(t *testing.T, size int, limit time.Duration) (*cluster, map[string]*gated) {
	gates := map[string]*gated{}
	for i := range size {
		gates[fmt.Sprintf("n%d", i+1)] = &gated{}
	}
	c := newCluster(t, size, func(cfg *replica.Config) {
		g := gates[cfg.NodeID]
		cfg.StoreLimit = limit
		cfg.WrapLogs = func(logs raft.LogStore) raft.LogStore { return gate{logs, &g.fault, &g.closed} }
	})
	return c, gates
}

func TestPropose_FullDiskAnswersUnknownNeverNotApplied(t *testing.T) {
	t.Parallel()
	c, gates := gatedCluster(t, 3, 0)
	c.startAll()
	lead := c.leader()
	full := error(syscall.ENOSPC)
	gates[lead.id].fault.Store(&full)
	_, err := lead.Propose(t.Context(), open("s"))
	if err == nil || errors.Is(err, replica.ErrNotApplied) {
		t.Errorf("a full disk answered %v", err)
	}
	eventually(t, "the node to be told to end", func() (bool, string) {
		return errors.Is(lead.fault(), store.ErrStore), fmt.Sprint(lead.fault())
	})
	c.stop(lead)
	c.must(c.leader(), open("after"))
}

func TestPropose_HungDiskEndsTheNode(t *testing.T) {
	t.Parallel()
	c, gates := gatedCluster(t, 3, 500*time.Millisecond)
	c.startAll()
	lead := c.leader()
	release := gates[lead.id].shut()
	result := make(chan error, 1)
	go func() {
		_, err := lead.Propose(t.Context(), open("s"))
		result <- err
	}()
	eventually(t, "the node to be told to end", func() (bool, string) {
		return errors.Is(lead.fault(), store.ErrStoreHung), fmt.Sprint(lead.fault())
	})
	release()
	if err := <-result; err != nil && errors.Is(err, replica.ErrNotApplied) {
		t.Errorf("a hung disk answered %v", err)
	}
}

// An expiry is on its way when a keepalive comes: the keepalive must wait for the outcome, whatever it is.
func TestLease_ExpireInFlightAgainstAcknowledgedKeepalive(t *testing.T) {
	t.Parallel()
	c, gates := gatedCluster(t, 1, 0)
	c.startAll()
	lead := c.leader()
	c.must(lead, fsm.Op{Command: fsm.OpenSession{ID: "s", TTLMs: 1000}})
	release := gates[lead.id].shut()
	eventually(t, "the deadline", func() (bool, string) {
		left, ok := lead.LeaseRemaining("s")
		return ok && left == 0, fmt.Sprint(left, ok)
	})
	never(t, 300*time.Millisecond, "the session is gone before its expiry is in the log", func() bool {
		_, ok := lead.LeaseRemaining("s")
		return !ok
	})
	answer := make(chan []replica.Lease, 1)
	go func() {
		leases, err := lead.Keepalive(t.Context(), []string{"s"})
		if err != nil {
			t.Error(err)
		}
		answer <- leases
	}()
	never(t, 300*time.Millisecond, "a keepalive was answered while an expiry was on its way", func() bool { return len(answer) > 0 })
	release()
	if leases := <-answer; len(leases) != 1 || !leases[0].Gone {
		t.Errorf("after the expiry was applied the keepalive answered %+v", leases)
	}
}

func TestLease_LivesWhileKeptAndEndsAfterwards(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.startAll()
	c.must(c.leader(), fsm.Op{Command: fsm.OpenSession{ID: "kept", TTLMs: 1000}}, fsm.Op{Command: fsm.OpenSession{ID: "left", TTLMs: 1000}})
	lead := c.leader()
	before := lead.Status(t.Context()).Applied
	started := time.Now()
	gone := map[string]time.Duration{}
	eventually(t, "the abandoned session to end", func() (bool, string) {
		leases, err := lead.Keepalive(t.Context(), []string{"kept"})
		if err != nil || leases[0].Gone {
			t.Fatalf("kept session: %+v %v", leases, err)
		}
		if _, ok := lead.LeaseRemaining("left"); !ok && gone["left"] == 0 {
			gone["left"] = time.Since(started)
		}
		return time.Since(started) > 2500*time.Millisecond, "time"
	})
	if gone["left"] < 900*time.Millisecond || gone["left"] > 2*time.Second {
		t.Errorf("a session with a TTL of 1 s ended after %s", gone["left"])
	}
	if after := lead.Status(t.Context()).Applied; after-before > 8 {
		t.Errorf("%d entries for keepalives that should not be logged", after-before)
	}
	// A new leader gives it a full TTL, and its first keepalive there is logged before it is acknowledged.
	c.stop(lead)
	next := c.leader()
	if leases, err := next.Keepalive(t.Context(), []string{"kept", "left"}); err != nil || leases[0].Gone || !leases[1].Gone {
		t.Fatalf("after the failover: %+v %v", leases, err)
	}
	next.View(func(s *fsm.State) {
		if v, _ := s.Session("kept"); v.RenewedTerm != s.Term() {
			t.Errorf("the first keepalive of term %d is not in the log: %+v", s.Term(), v)
		}
	})
}

func TestOpen_TwoNodesOnOneFolder(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	n := c.start("n1")
	cfg := c.config("n1", n.dir, n)
	cfg.PeerAddr = "127.0.0.1:0"
	if _, err := replica.Open(cfg); !errors.Is(err, store.ErrInUse) {
		t.Fatalf("a second node on the folder: %v", err)
	}
}

// A follower whose log contradicts the snapshot that it is sent would install it for ever.
func TestRestore_SnapshotInstallLoopEndsTheNode(t *testing.T) {
	t.Parallel()
	network := newNetwork()
	c := newCluster(t, 3, func(cfg *replica.Config) {
		network.tune(cfg)
		cfg.TuneRaft = func(rc *raft.Config) { rc.TrailingLogs, rc.SnapshotInterval = 0, time.Hour }
	})
	c.startAll()
	old := c.leader()
	c.must(old, open("before"))
	network.isolate(c.addr(old.id))
	entry := fsm.EncodeEntry(fsm.Entry{Ops: []fsm.Op{open("diverges")}})
	for range 60 {
		old.Append(entry)
	}
	var lead *node
	eventually(t, "another leader", func() (bool, string) {
		for _, n := range c.nodes {
			if n != old && n.Leader().Self {
				lead = n
			}
		}
		return lead != nil, "nobody"
	})
	c.must(lead, open("after"))
	if err := lead.Snapshot(); err != nil {
		t.Fatal(err)
	}
	network.heal(c.addr(old.id))
	eventually(t, "the looping node to be told to end", func() (bool, string) {
		return errors.Is(old.fault(), replica.ErrInstallLoop), fmt.Sprint(old.fault())
	})
	c.stop(old)
	c.ready(c.start(old.id)) // the marker makes it follow again
	eventually(t, "the same state", func() (bool, string) {
		st := c.leader().Status(t.Context())
		for _, n := range st.Nodes {
			if n.Digest != st.Digest {
				return false, fmt.Sprintf("%+v", st.Nodes)
			}
		}
		return true, ""
	})
}

func TestOutcome_OnlyThreeErrorsMeanNotApplied(t *testing.T) {
	t.Parallel()
	notApplied := map[error]bool{raft.ErrNotLeader: true, raft.ErrEnqueueTimeout: true, raft.ErrLeadershipTransferInProgress: true}
	for _, err := range []error{raft.ErrNotLeader, raft.ErrEnqueueTimeout, raft.ErrLeadershipTransferInProgress, raft.ErrLeadershipLost,
		raft.ErrRaftShutdown, raft.ErrAbortedByRestore, errors.New("anything else")} {
		if got := errors.Is(replica.ExportedOutcome(err), replica.ErrNotApplied); got != notApplied[err] {
			t.Errorf("%v: not applied = %v", err, got)
		}
	}
}

func TestIdempotency_OnceHoweverOftenAndAcrossFailover(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.startAll()
	lead := c.leader()
	op := open("s")
	op.Key = &fsm.Key{ID: "key", Fingerprint: 1}
	const callers = 100
	answers := make(chan fsm.Result, callers)
	for range callers {
		go func() {
			results, err := lead.Propose(t.Context(), op)
			if err != nil {
				t.Error(err)
				results = []fsm.Result{{}}
			}
			answers <- results[0]
		}()
	}
	for range callers {
		if r := <-answers; r.Refused() || r.Session == nil || r.Session.ID != "s" {
			t.Errorf("answer %+v", r)
		}
	}
	c.stop(lead)
	next := c.leader()
	if r := c.must(next, op)[0]; r.Session == nil {
		t.Errorf("after the failover: %+v", r)
	}
	op.Key.Fingerprint = 2
	if results, err := next.Propose(t.Context(), op); err != nil || results[0].Code != fsm.CodeKeyReused {
		t.Errorf("another request under the key: %+v %v", results, err)
	}
}
