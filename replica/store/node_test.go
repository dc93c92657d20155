package store

import (
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// node is a raft node on real stores and an in-memory network.
type node struct {
	id        raft.ServerID
	cfg       Config
	stores    *Stores
	raft      *raft.Raft
	transport *raft.InmemTransport
	fsm       *counter
}

func startNode(t *testing.T, id string, cfg Config) *node {
	t.Helper()
	cfg.NodeID = id
	n := &node{id: raft.ServerID(id), cfg: cfg, stores: openIn(t, cfg), fsm: &counter{}}
	conf := raft.DefaultConfig()
	conf.LocalID = n.id
	conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout = 300*time.Millisecond, 300*time.Millisecond, 200*time.Millisecond
	conf.CommitTimeout = 5 * time.Millisecond
	conf.TrailingLogs = 0
	conf.Logger = hclog.NewNullLogger()
	_, n.transport = raft.NewInmemTransport(n.addr())
	var err error
	n.raft, err = raft.NewRaft(conf, n.fsm, n.stores.Logs(), n.stores.Stable(), n.stores.Snapshots(), n.transport)
	noError(t, err)
	t.Cleanup(func() { n.stop(t) })
	return n
}

func (n *node) addr() raft.ServerAddress { return raft.ServerAddress("addr-" + string(n.id)) }

func (n *node) stop(t *testing.T) {
	t.Helper()
	n.transport.DisconnectAll()
	noError(t, n.raft.Shutdown().Error())
	noError(t, n.stores.Close())
}

// restart is a new process on the same folder.
func (n *node) restart(t *testing.T) *node {
	t.Helper()
	n.stop(t)
	return startNode(t, string(n.id), n.cfg)
}

func (n *node) bootstrap(t *testing.T, members ...*node) {
	t.Helper()
	var conf raft.Configuration
	for _, m := range append(members, n) {
		conf.Servers = append(conf.Servers, raft.Server{ID: m.id, Address: m.addr()})
	}
	noError(t, n.raft.BootstrapCluster(conf).Error())
}

func (n *node) lead(t *testing.T) {
	t.Helper()
	eventually(t, string(n.id)+" leads", func() bool { return n.raft.State() == raft.Leader })
}

func (n *node) apply(t *testing.T, count int) {
	t.Helper()
	for range count {
		noError(t, n.raft.Apply([]byte("x"), 5*time.Second).Error())
	}
}

func connect(nodes ...*node) {
	for _, a := range nodes {
		for _, b := range nodes {
			if a != b {
				a.transport.Connect(b.addr(), b.transport)
			}
		}
	}
}

func (n *node) counts(t *testing.T, want uint64) {
	t.Helper()
	eventually(t, string(n.id)+" holds every entry", func() bool { return n.fsm.count() == want })
}
