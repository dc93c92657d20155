package replica

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/replica/store"
)

// Limits.
const (
	queueMax       = 4096      // proposals that wait for their entry
	entryOpsMax    = 1024      // commands of one entry, but for a single larger proposal
	entryBytesMax  = 256 << 10 // of one entry, but for a single larger proposal
	ProposeOpsMax  = 1000      // commands of one proposal
	installsMax    = 3         // of one snapshot in a row
	expiriesPerRun = 100       // sessions expired in one entry
)

// Timeouts that are not raft's.
const (
	enqueueTimeout = time.Second
	applyTimeout   = 10 * time.Second
	expiryInterval = 100 * time.Millisecond
	lazyTickEvery  = time.Second
	tickEvery      = 20 * time.Millisecond
	promoteEvery   = 200 * time.Millisecond
	joinEvery      = 200 * time.Millisecond
	roundTimeout   = time.Second
	changeWait     = 2 * time.Second
)

// Peer is an expected node.
type Peer struct {
	ID   string
	Addr string // of its transport
}

// Config of a Replica. See Default for what zero values become.
type Config struct {
	NodeID   string
	DataDir  string // "" keeps everything in memory
	LogStore store.Kind
	PeerAddr string       // that other nodes dial, and where to listen
	Listen   string       // where to listen when that is not PeerAddr, as behind address translation
	Listener net.Listener // instead of both
	Expect   []Peer       // the founding set, this node included; every node has the same

	HTTPAddr string // published to the others
	Version  string
	Sources  []fsm.Place
	Targets  []fsm.Place

	ElectionTimeout time.Duration // heartbeat and election; the leader's lease is half of it. Default 400 ms
	MinVoters       int           // that a leaving node must leave behind. Default 2
	InFlight        int           // entries on their way at a time. Default 1, 2 for boltdb

	// OnFatal is told once of a fault after which this process must end. It must not return to a process that goes on.
	OnFatal func(error)
	Logger  *slog.Logger

	// For tests: Dial opens connections to peers, TuneRaft changes raft's settings, WrapLogs and WrapStable put faults below everything.
	Dial       func(ctx context.Context, addr string) (net.Conn, error)
	TuneRaft   func(*raft.Config)
	WrapLogs   func(raft.LogStore) raft.LogStore
	WrapStable func(raft.StableStore) raft.StableStore
	StoreLimit time.Duration // of one store call, default 5 s
}

func (c *Config) complete() error {
	if c.NodeID == "" || c.OnFatal == nil || c.Logger == nil {
		return errors.New("replica: NodeID, OnFatal and Logger are required")
	}
	found := false
	for _, p := range c.Expect {
		found = found || p.ID == c.NodeID
	}
	if !found {
		return errors.New("replica: the expected nodes do not include this one")
	}
	if c.ElectionTimeout == 0 {
		c.ElectionTimeout = 400 * time.Millisecond
	}
	if c.MinVoters == 0 {
		c.MinVoters = 2
	}
	if c.InFlight == 0 {
		c.InFlight = 1
		if c.LogStore == store.BoltDB {
			c.InFlight = 2 // bolt syncs twice a commit: the second entry overlaps with the first's
		}
	}
	return nil
}

func (c *Config) raftConfig() *raft.Config {
	rc := raft.DefaultConfig()
	rc.LocalID = raft.ServerID(c.NodeID)
	rc.HeartbeatTimeout = c.ElectionTimeout
	rc.ElectionTimeout = c.ElectionTimeout
	rc.LeaderLeaseTimeout = c.ElectionTimeout / 2
	rc.ShutdownOnRemove = false // it fires for a leader that removes itself, which never happens here
	rc.TrailingLogs = 20_480
	rc.SnapshotThreshold = 16_384
	rc.SnapshotInterval = 30 * time.Second
	rc.MaxAppendEntries = 256
	rc.NoLegacyTelemetry = true
	if c.TuneRaft != nil {
		c.TuneRaft(rc)
	}
	return rc
}
