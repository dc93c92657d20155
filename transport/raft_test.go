package transport

import (
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// member is a raft node over real TCP with stores in memory, which outlive it as a folder would.
type member struct {
	id        string
	addr      string
	logs      *raft.InmemStore
	snapshots *raft.InmemSnapshotStore
	fsm       *tally
	node      *testNode
	raft      *raft.Raft
}

func newMember(t *testing.T, id string) *member {
	t.Helper()
	return &member{id: id, addr: closedPort(t), logs: raft.NewInmemStore(), snapshots: raft.NewInmemSnapshotStore()}
}

func (m *member) start(t *testing.T, cluster string, change func(*Config)) {
	t.Helper()
	m.fsm = &tally{}
	m.node = listen(t, m.id, cluster, func(c *Config) {
		c.Addr = m.addr
		if change != nil {
			change(c)
		}
	})
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(m.id)
	conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout = 150*time.Millisecond, 150*time.Millisecond, 100*time.Millisecond
	conf.CommitTimeout = 5 * time.Millisecond
	conf.TrailingLogs = 0
	conf.ShutdownOnRemove = false
	conf.Logger = hclog.NewNullLogger()
	var err error
	m.raft, err = raft.NewRaft(conf, m.fsm, m.logs, m.logs, m.snapshots, m.node.Raft())
	noError(t, err)
	t.Cleanup(func() { m.stop(t) })
}

// stop is the order that a node must keep: raft first, then the transport.
func (m *member) stop(t *testing.T) {
	t.Helper()
	noError(t, m.raft.Shutdown().Error())
	noError(t, m.node.Close())
}

func bootstrap(t *testing.T, members ...*member) {
	t.Helper()
	var conf raft.Configuration
	for _, m := range members {
		conf.Servers = append(conf.Servers, raft.Server{ID: raft.ServerID(m.id), Address: raft.ServerAddress(m.addr)})
	}
	for _, m := range members {
		noError(t, m.raft.BootstrapCluster(conf).Error())
	}
}

func leaderOf(t *testing.T, members ...*member) (leader *member) {
	t.Helper()
	eventually(t, "a leader", func() bool {
		for _, m := range members {
			if m.raft.State() == raft.Leader && m.raft.VerifyLeader().Error() == nil {
				leader = m
				return true
			}
		}
		return false
	})
	return leader
}

func (m *member) apply(t *testing.T, count int) {
	t.Helper()
	for range count {
		noError(t, m.raft.Apply([]byte("x"), 5*time.Second).Error())
	}
}

func startThree(t *testing.T) []*member {
	t.Helper()
	members := []*member{newMember(t, "a"), newMember(t, "b"), newMember(t, "c")}
	for _, m := range members {
		m.start(t, "c1", nil)
	}
	bootstrap(t, members...)
	return members
}

func others(members []*member, one *member) (rest []*member) {
	for _, m := range members {
		if m != one {
			rest = append(rest, m)
		}
	}
	return rest
}

func TestRaft_ReplicatesTransfersAndInstallsOverTheTransport(t *testing.T) {
	t.Parallel()
	members := startThree(t)
	leader := leaderOf(t, members...)
	leader.apply(t, 50)
	for _, m := range members {
		eventually(t, m.id+" has all", func() bool { return m.fsm.n.Load() == 50 })
	}

	next := others(members, leader)[0]
	noError(t, leader.raft.LeadershipTransferToServer(raft.ServerID(next.id), raft.ServerAddress(next.addr)).Error())
	eventually(t, "the transfer's target leads", func() bool { return next.raft.State() == raft.Leader })

	late := others(others(members, next), leader)[0]
	late.stop(t)
	next.apply(t, 20)
	noError(t, next.raft.Snapshot().Error())
	next.apply(t, 5)
	late.start(t, "c1", nil)
	eventually(t, "the late one has all, by a snapshot", func() bool { return late.fsm.n.Load() == 75 })
	if late.fsm.restores.Load() == 0 {
		t.Fatal("no snapshot was installed")
	}
}

// The trap: a removed node with its old disk, and a wiped node on a known address, are two of three "voters". The
// last case is the negative control: without handshake and filter they elect, and an acknowledged write is gone.
func TestVotes_RemovedNodeAndWipedPeerDoNotElect(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		cluster      string // the wiped node's
		votesAllowed bool
		elects       bool
	}{
		"wiped node belongs to no cluster":           {"", true, false},
		"wiped node has joined but holds no members": {"c1", false, false},
		"control: neither guard":                     {"c1", true, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			removed, wiped := removedAndWiped(t)
			var asked atomic.Int32
			removed.start(t, "c1", nil)
			wiped.start(t, c.cluster, func(cfg *Config) {
				cfg.VotesAllowed = func() bool { asked.Add(1); return c.votesAllowed }
			})
			if c.elects {
				leaderOf(t, removed)
				return
			}
			stays := time.After(3 * time.Second) // twenty election timeouts
			ticker := time.NewTicker(5 * time.Millisecond)
			defer ticker.Stop()
			for waiting := true; waiting; {
				select {
				case <-ticker.C:
					if removed.raft.State() == raft.Leader || wiped.raft.State() == raft.Leader {
						t.Fatal("a leader out of a removed and an empty node")
					}
				case <-stays:
					waiting = false
				}
			}
			if reached := asked.Load() > 3; reached != (c.cluster != "") {
				t.Fatalf("the filter was asked %d times", asked.Load())
			}
		})
	}
}

// removedAndWiped leaves a cluster whose member a was removed while it was down, with a write acknowledged after;
// then b and c stop and c loses its disk.
func removedAndWiped(t *testing.T) (removed, wiped *member) {
	t.Helper()
	members := startThree(t)
	leaderOf(t, members...).apply(t, 1)
	removed = members[0]
	removed.stop(t)
	leader := leaderOf(t, members[1:]...)
	noError(t, leader.raft.RemoveServer("a", 0, 5*time.Second).Error())
	leader.apply(t, 1)
	members[1].stop(t)
	members[2].stop(t)
	wiped = newMember(t, "c")
	wiped.addr = members[2].addr
	return removed, wiped
}

func TestVotes_RefusalIsPerRequestAndCoversTimeoutNow(t *testing.T) {
	t.Parallel()
	var allowed atomic.Bool
	receiver := newMember(t, "a")
	receiver.start(t, "c1", func(c *Config) { c.VotesAllowed = allowed.Load })
	sender := listen(t, "b", "c1", nil)
	ask := func() [3]error {
		r := sender.raft
		id, addr := raft.ServerID("a"), raft.ServerAddress(receiver.addr)
		header := raft.RPCHeader{ProtocolVersion: 3, ID: []byte("b"), Addr: []byte(sender.Addr())}
		return [3]error{
			r.RequestVote(id, addr, &raft.RequestVoteRequest{RPCHeader: header}, &raft.RequestVoteResponse{}),
			r.RequestPreVote(id, addr, &raft.RequestPreVoteRequest{RPCHeader: header}, &raft.RequestPreVoteResponse{}),
			r.TimeoutNow(id, addr, &raft.TimeoutNowRequest{RPCHeader: header}, &raft.TimeoutNowResponse{}),
		}
	}
	for i, err := range ask() {
		if err == nil || err.Error() != ErrVotesRefused.Error() {
			t.Fatalf("request %d without a configuration: %v", i, err)
		}
	}
	allowed.Store(true)
	for i, err := range ask() {
		if err != nil {
			t.Fatalf("request %d with a configuration: %v", i, err)
		}
	}
}

func TestRaft_StreamGoesToTheNamedNodeOnly(t *testing.T) {
	t.Parallel()
	receiver := newMember(t, "a")
	receiver.start(t, "c1", nil)
	sender := listen(t, "b", "c1", nil)
	addr := raft.ServerAddress(receiver.addr)
	req := &raft.RequestVoteRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: 3}}
	noError(t, sender.raft.RequestVote("a", addr, req, &raft.RequestVoteResponse{}))
	// The pooled stream to "a" at this address must not serve "z".
	if err := sender.raft.RequestVote("z", addr, req, &raft.RequestVoteResponse{}); err == nil {
		t.Fatal("node a answered for node z")
	}
	sender.cluster.Store("")
	if _, err := sender.raft.stream.Dial(named("a", addr), time.Second); err == nil {
		t.Fatal("a node without a cluster dialed a raft stream")
	}
}

func TestRaft_AdvertisedAddressIsWhatRaftSees(t *testing.T) {
	t.Parallel()
	n := listen(t, "a", "c1", func(c *Config) { c.Advertise = "node-a.example:7000" })
	if n.Raft().LocalAddr() != "node-a.example:7000" || n.Advertised() != "node-a.example:7000" {
		t.Fatalf("raft sees %q", n.Raft().LocalAddr())
	}
}

// Raft's shutdown ends the streams, and calls go on: a leaving node still answers its peers.
func TestRaft_ShutdownLeavesCallsServed(t *testing.T) {
	t.Parallel()
	m := newMember(t, "a")
	m.start(t, "c1", nil)
	m.node.Handle(kindEcho, echo)
	noError(t, m.raft.Shutdown().Error())
	client := listen(t, "b", "c1", nil)
	_, err := client.Call(soon(t), m.addr, "a", kindEcho, nil)
	noError(t, err)
	if _, err := client.raft.stream.Dial(named("a", raft.ServerAddress(m.addr)), time.Second); err == nil {
		t.Fatal("a raft stream to a node whose raft is shut down")
	}
}

// tally counts entries; its snapshot is as many bytes.
type tally struct {
	n, restores atomic.Int64
}

func (f *tally) Apply(*raft.Log) any { return f.n.Add(1) }

func (f *tally) Snapshot() (raft.FSMSnapshot, error) { return tallyImage(f.n.Load()), nil }

func (f *tally) Restore(r io.ReadCloser) error {
	raw, err := io.ReadAll(r)
	f.n.Store(int64(len(raw)))
	f.restores.Add(1)
	return err
}

type tallyImage int64

func (i tallyImage) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(make([]byte, i)); err != nil {
		return err
	}
	return sink.Close()
}

func (i tallyImage) Release() {}
