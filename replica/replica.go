package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/replica/store"
	"github.com/quiescehq/quiesce/transport"
	"github.com/quiescehq/quiesce/transport/raftlog"
)

// Replica is one node's part of the replicated state.
type Replica struct {
	cfg       Config
	log       *slog.Logger
	stores    *store.Stores
	transport *transport.Transport
	raft      *raft.Raft
	machine   *machine
	started   time.Time

	tasks   []Task
	queue   chan *proposal
	notices chan bool // of raft: leadership gained or lost
	leading atomic.Pointer[leadership]
	stopped chan struct{} // closed by Close
	once    sync.Once

	transferSince atomic.Int64              // time since started at which raft began to answer "transfer in progress"; 0 when it does not
	electing      atomic.Pointer[raft.Raft] // raft, once it runs: asked whether this node holds a configuration
	hint          atomic.Pointer[Leader]
	confirmed     atomic.Bool // a leader has confirmed this node as a voter since it started
	waiting       atomic.Pointer[string]
	changing      chan struct{} // taken by the one change of the membership under way; see beginChange

	restoring chan struct{}     // taken by the one restore under way
	restores  chan *restoration // to the goroutine that leads
	sending   sync.Mutex        // held while entries go to raft; see restore
}

// Leader tells where commands go.
type Leader struct {
	ID       string
	HTTPAddr string
	Self     bool
}

// Open takes the data folder and starts raft. Nothing happens in the cluster before Run.
func Open(cfg Config) (_ *Replica, err error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	r := &Replica{cfg: cfg, log: cfg.Logger, started: time.Now(), queue: make(chan *proposal, queueMax),
		notices: make(chan bool, 64), changing: make(chan struct{}, 1), stopped: make(chan struct{}),
		restoring: make(chan struct{}, 1), restores: make(chan *restoration)}
	r.machine = newMachine(r.fatal)
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if err := r.openStores(); err != nil {
		return nil, err
	}
	if err := r.openTransport(); err != nil {
		return nil, err
	}
	if err := r.openRaft(); err != nil {
		return nil, err
	}
	r.registerCalls()
	return r, nil
}

func (r *Replica) fatal(err error) { r.once.Do(func() { r.cfg.OnFatal(err) }) }

func (r *Replica) openStores() (err error) {
	open := store.Open
	if r.cfg.DataDir == "" {
		open = store.OpenMemory
	}
	r.stores, err = open(store.Config{
		Dir: r.cfg.DataDir, NodeID: r.cfg.NodeID, LogStore: r.cfg.LogStore, OnFatal: r.fatal, SyncTimeout: r.cfg.StoreLimit,
		Logger: r.log, WrapLogs: r.cfg.WrapLogs, WrapStable: r.cfg.WrapStable,
	})
	if err != nil {
		return err
	}
	r.machine.onLoop = func() {
		if err := r.stores.MarkRejoin(); err != nil {
			r.log.Error("cannot mark the data folder for a rejoin", "error", err)
		}
	}
	if err := r.stores.CheckRestoring(); err != nil {
		return err
	}
	began := time.Now()
	if err := r.stores.LoadNewest(r.machine.load); err != nil {
		return err
	}
	r.machine.view(func(_ *fsm.State, applied uint64) {
		if applied > 0 {
			r.log.Info("snapshot loaded", "index", applied, "took", time.Since(began).Round(time.Millisecond))
		}
	})
	return nil
}

func (r *Replica) openTransport() (err error) {
	id := r.stores.Identity()
	listen, advertise := r.cfg.PeerAddr, "" // what the listener got: a port of 0 becomes a real one
	if r.cfg.Listen != "" {
		listen, advertise = r.cfg.Listen, r.cfg.PeerAddr
	}
	r.transport, err = transport.Listen(transport.Config{
		Addr: listen, Listener: r.cfg.Listener, Advertise: advertise,
		Self:      transport.Identity{NodeID: id.NodeID, Incarnation: id.Incarnation},
		ClusterID: func() string { return r.stores.Identity().ClusterID },
		// A data folder that was wiped has no cluster id until a leader has admitted it, so the cluster id alone tells.
		AcceptRaft:   func(transport.Peer) error { return nil },
		VotesAllowed: r.holdsConfiguration,
		RaftTimeout:  2 * time.Second,
		Dial:         r.cfg.Dial,
		Logger:       r.log,
	})
	return err
}

func (r *Replica) openRaft() (err error) {
	rc := r.cfg.raftConfig()
	rc.NotifyCh = r.notices
	rc.NoSnapshotRestoreOnStart = true // the machine has it already, see openStores: a large state is not decoded twice
	rc.Logger = raftlog.New(r.log)
	r.raft, err = raft.NewRaft(rc, r.machine, r.stores.Logs(), r.stores.Stable(), r.stores.Snapshots(), r.transport.Raft())
	if err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	r.electing.Store(r.raft)
	return nil
}

// holdsConfiguration tells whether this node may take part in elections. A folder that holds a term and no configuration, as of a node that
// died while it joined, does not count: it would vote for anyone.
func (r *Replica) holdsConfiguration() bool {
	running := r.electing.Load()
	return running != nil && len(running.GetConfiguration().Configuration().Servers) > 0
}

// Run forms or joins the cluster, and serves until ctx is done. The tasks run while this node leads.
func (r *Replica) Run(ctx context.Context, tasks ...Task) error {
	r.tasks = tasks
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.proposer(ctx) })
	group.Go(func() error { return r.followLeadership(ctx) })
	group.Go(func() error { return r.belong(ctx) })
	return group.Wait()
}

// Close ends raft, then the transport, then the stores. Call it after Run has returned.
func (r *Replica) Close() error {
	select {
	case <-r.stopped:
		return nil
	default:
		close(r.stopped)
	}
	var errs []error
	if r.raft != nil {
		errs = append(errs, r.raft.Shutdown().Error())
	}
	if r.transport != nil {
		errs = append(errs, r.transport.Close())
	}
	if r.stores != nil {
		errs = append(errs, r.stores.Close())
	}
	return errors.Join(errs...)
}

// PeerAddr is the address that other nodes dial.
func (r *Replica) PeerAddr() string { return r.transport.Advertised() }

// Now is the cluster time in milliseconds: of the leader's clock where this node leads, else of the last entry.
func (r *Replica) Now() uint64 {
	if l := r.leading.Load(); l != nil && l.ready.Load() {
		return l.now()
	}
	var now uint64
	r.View(func(s *fsm.State) { now = s.Now() })
	return now
}

// Leader is the present leader as far as this node knows; zero when it knows none. Self is true only where commands are taken.
func (r *Replica) Leader() Leader {
	if l := r.leading.Load(); l != nil && l.open.Load() {
		return Leader{ID: r.cfg.NodeID, HTTPAddr: r.cfg.HTTPAddr, Self: true}
	}
	if _, id := r.raft.LeaderWithID(); id != "" && string(id) != r.cfg.NodeID {
		found := Leader{ID: string(id)}
		r.View(func(s *fsm.State) {
			if n, ok := s.Node(string(id)); ok {
				found.HTTPAddr = n.HTTPAddr
			}
		})
		if found.HTTPAddr != "" {
			return found
		}
	}
	if hint := r.hint.Load(); hint != nil && hint.ID != r.cfg.NodeID {
		return *hint
	}
	return Leader{}
}
