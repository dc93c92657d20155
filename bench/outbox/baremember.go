package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quiescehq/quiesce/bench/load"
	"github.com/quiescehq/quiesce/replica/store"
	"github.com/quiescehq/quiesce/transport"
	"github.com/quiescehq/quiesce/transport/raftlog"
)

// bareCommand is the argument with which this program is a member of a raft cluster without a state.
const bareCommand = "bare-node"

const (
	bareName    = "bench"
	bareLife    = "1" // incarnation
	applyMax    = 10 * time.Second
	shutdownMax = 5 * time.Second
)

// bareMember is hashicorp/raft with the stores, the transport and the settings of a node, and a state machine that does nothing.
type bareMember struct {
	raft      *raft.Raft
	stores    *store.Stores
	transport *transport.Transport
}

// nothing is the state machine.
type nothing struct{}

func (nothing) Apply(*raft.Log) any                 { return nil }
func (nothing) Snapshot() (raft.FSMSnapshot, error) { return nothing{}, nil }
func (nothing) Restore(r io.ReadCloser) error       { return r.Close() }
func (nothing) Persist(sink raft.SnapshotSink) error {
	return sink.Close()
}
func (nothing) Release() {}

// runBareMember serves until ctx ends: /leader tells whether it leads, /run runs a load.
func runBareMember(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet(bareCommand, flag.ContinueOnError)
	flags.SetOutput(out)
	id := flags.String("id", "", "of the member")
	dir := flags.String("dir", "", "data folder")
	control := flags.String("control", "", "address for the program that measures")
	peers := flags.String("peers", "", "id=address of all members, separated by commas")
	if err := flags.Parse(args); err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelWarn}))
	m, err := openBareMember(*id, *dir, *peers, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	listener, err := net.Listen("tcp", *control)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: m.handler()}
	stop := context.AfterFunc(ctx, func() {
		ending, cancel := context.WithTimeout(context.Background(), shutdownMax)
		defer cancel()
		_ = server.Shutdown(ending) // whoever still waits for an answer gets none
	})
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func openBareMember(id, dir, peers string, logger *slog.Logger) (_ *bareMember, err error) {
	m := &bareMember{}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	fatal := func(err error) { logger.Error("a store failed", "error", err); os.Exit(exitFailed) }
	if m.stores, err = store.Open(store.Config{Dir: dir, NodeID: id, OnFatal: fatal, Logger: logger}); err != nil {
		return nil, err
	}
	var configuration raft.Configuration
	var own string
	for peer := range strings.SplitSeq(peers, ",") {
		name, addr, _ := strings.Cut(peer, "=")
		configuration.Servers = append(configuration.Servers, raft.Server{ID: raft.ServerID(name), Address: raft.ServerAddress(addr)})
		if name == id {
			own = addr
		}
	}
	m.transport, err = transport.Listen(transport.Config{Addr: own, Self: transport.Identity{NodeID: id, Incarnation: bareLife}, ClusterID: func() string { return bareName },
		AcceptRaft: func(transport.Peer) error { return nil }, VotesAllowed: func() bool { return true }, RaftTimeout: 2 * time.Second, Logger: logger})
	if err != nil {
		return nil, err
	}
	rc := bareConfig(id, logger)
	if err := raft.BootstrapCluster(rc, m.stores.Logs(), m.stores.Stable(), m.stores.Snapshots(), m.transport.Raft(), configuration); err != nil {
		return nil, err
	}
	m.raft, err = raft.NewRaft(rc, nothing{}, m.stores.Logs(), m.stores.Stable(), m.stores.Snapshots(), m.transport.Raft())
	return m, err
}

// bareConfig is what a node's replica sets.
func bareConfig(id string, logger *slog.Logger) *raft.Config {
	rc := raft.DefaultConfig()
	rc.LocalID = raft.ServerID(id)
	rc.HeartbeatTimeout, rc.ElectionTimeout, rc.LeaderLeaseTimeout = 400*time.Millisecond, 400*time.Millisecond, 200*time.Millisecond
	rc.TrailingLogs, rc.SnapshotThreshold, rc.SnapshotInterval = 20_480, 16_384, 30*time.Second
	rc.MaxAppendEntries = 256
	rc.NoLegacyTelemetry = true
	rc.Logger = raftlog.New(logger)
	return rc
}

// Close ends what was opened.
func (m *bareMember) Close() error {
	var errs []error
	if m.raft != nil {
		errs = append(errs, m.raft.Shutdown().Error())
	}
	if m.transport != nil {
		errs = append(errs, m.transport.Close())
	}
	if m.stores != nil {
		errs = append(errs, m.stores.Close())
	}
	return errors.Join(errs...)
}

// bareRun is a load: workers of this process that commit entries of so many bytes each. Join has them joined into entries as a node does.
type bareRun struct {
	Loop  load.Loop
	Bytes int
	Join  bool
}

func (m *bareMember) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /leader", func(w http.ResponseWriter, _ *http.Request) {
		if m.raft.State() != raft.Leader {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("POST /run", func(w http.ResponseWriter, r *http.Request) {
		var run bareRun
		if err := json.NewDecoder(r.Body).Decode(&run); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		sample, err := m.run(r.Context(), run)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(sample) // who asked is there, or the run is over
	})
	return mux
}

func (m *bareMember) run(ctx context.Context, r bareRun) (load.Sample, error) {
	if !r.Join {
		return load.Run(ctx, r.Loop, func(context.Context, int) error { return m.raft.Apply(make([]byte, r.Bytes), applyMax).Error() })
	}
	j := newEntryJoiner(m.raft)
	defer j.Close()
	return load.Run(ctx, r.Loop, func(context.Context, int) error { return j.commit(make([]byte, r.Bytes)) })
}

// entryJoiner puts what comes while an entry is on its way into the next one, up to what a node's replica puts into one.
type entryJoiner struct {
	raft  *raft.Raft
	queue chan joined
	ended chan struct{}
}

type joined struct {
	data []byte
	done chan error
}

const (
	joinedBytesMax = 256 << 10
	joinedMax      = 1_024
)

func newEntryJoiner(r *raft.Raft) *entryJoiner {
	j := &entryJoiner{raft: r, queue: make(chan joined, 4_096), ended: make(chan struct{})}
	go j.work() // ends with the queue, which Close closes
	return j
}

// Close waits for the last entry. Nobody commits any more.
func (j *entryJoiner) Close() {
	close(j.queue)
	<-j.ended
}

func (j *entryJoiner) commit(data []byte) error {
	one := joined{data: data, done: make(chan error, 1)}
	j.queue <- one
	return <-one.done
}

func (j *entryJoiner) work() {
	defer close(j.ended)
	for first := range j.queue {
		batch, entry := []joined{first}, append(make([]byte, 0, cmp.Or(len(first.data), 1)), first.data...)
	collect:
		for len(batch) < joinedMax && len(entry)+len(first.data) <= joinedBytesMax {
			select {
			case next, ok := <-j.queue:
				if !ok {
					break collect
				}
				batch, entry = append(batch, next), append(entry, next.data...)
			default:
				break collect
			}
		}
		err := j.raft.Apply(entry, applyMax).Error()
		for _, one := range batch {
			one.done <- err
		}
	}
}
