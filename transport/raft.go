package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quiescehq/quiesce/transport/raftlog"
)

// raftTransport is raft's own network transport with two additions: it dials by (id, address), so that each stream
// names its intended receiver, and it refuses elections while this node holds no configuration.
type raftTransport struct {
	inner        *raft.NetworkTransport
	stream       *streamLayer
	votesAllowed func() bool

	consumer chan raft.RPC
	done     chan struct{}
	stop     sync.Once
}

var (
	_ raft.Transport   = (*raftTransport)(nil)
	_ raft.WithPreVote = (*raftTransport)(nil)
	_ raft.WithClose   = (*raftTransport)(nil)
)

func newRaftTransport(t *Transport) *raftTransport {
	stream := &streamLayer{
		transport: t,
		accepted:  make(chan net.Conn),
		done:      make(chan struct{}),
		dialed:    make(map[net.Conn]struct{}),
	}
	inner := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:  stream,
		MaxPool: raftPoolPerPeer,
		Timeout: t.cfg.RaftTimeout,
		Logger:  raftlog.New(t.cfg.Logger),
	})
	return &raftTransport{
		inner: inner, stream: stream, votesAllowed: t.cfg.VotesAllowed,
		consumer: make(chan raft.RPC), done: make(chan struct{}),
	}
}

// filterVotes stands between the network and raft. An empty node would vote for anyone: raft takes an empty
// configuration for a bootstrap in progress. Heartbeats do not pass here, they have their own fast path.
func (r *raftTransport) filterVotes() {
	for {
		select {
		case rpc := <-r.inner.Consumer():
			r.deliver(rpc)
		case <-r.done:
			return
		}
	}
}

func (r *raftTransport) deliver(rpc raft.RPC) {
	if refusal := electionResponse(rpc.Command); refusal != nil && !r.votesAllowed() {
		rpc.Respond(refusal, ErrVotesRefused)
		return
	}
	select {
	case r.consumer <- rpc:
	case <-r.done:
		rpc.Respond(nil, raft.ErrTransportShutdown)
	}
}

// electionResponse is the empty response that belongs to an election request, nil for other commands.
func electionResponse(command any) any {
	switch command.(type) {
	case *raft.RequestVoteRequest:
		return &raft.RequestVoteResponse{}
	case *raft.RequestPreVoteRequest:
		return &raft.RequestPreVoteResponse{}
	case *raft.TimeoutNowRequest:
		return &raft.TimeoutNowResponse{}
	default:
		return nil
	}
}

// Close ends raft's streams. raft calls it at its shutdown.
func (r *raftTransport) Close() error {
	r.stop.Do(func() { close(r.done) })
	err := r.inner.Close() // closes the stream layer
	r.inner.CloseStreams()
	r.stream.closeDialed()
	return err
}

func (r *raftTransport) Consumer() <-chan raft.RPC { return r.consumer }
func (r *raftTransport) SetHeartbeatHandler(handler func(raft.RPC)) {
	r.inner.SetHeartbeatHandler(handler)
}
func (r *raftTransport) DecodePeer(peer []byte) raft.ServerAddress { return r.inner.DecodePeer(peer) }

// LocalAddr is what raft writes into its headers and compares with its configuration: the advertised address.
func (r *raftTransport) LocalAddr() raft.ServerAddress {
	return raft.ServerAddress(r.stream.transport.Advertised())
}

func (r *raftTransport) EncodePeer(id raft.ServerID, addr raft.ServerAddress) []byte {
	return r.inner.EncodePeer(id, addr)
}

func (r *raftTransport) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	return r.inner.AppendEntriesPipeline(id, named(id, target))
}

func (r *raftTransport) AppendEntries(id raft.ServerID, target raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	return r.inner.AppendEntries(id, named(id, target), req, resp)
}

func (r *raftTransport) RequestVote(id raft.ServerID, target raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return r.inner.RequestVote(id, named(id, target), req, resp)
}

func (r *raftTransport) RequestPreVote(id raft.ServerID, target raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return r.inner.RequestPreVote(id, named(id, target), req, resp)
}

func (r *raftTransport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	return r.inner.InstallSnapshot(id, named(id, target), req, resp, data)
}

func (r *raftTransport) TimeoutNow(id raft.ServerID, target raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return r.inner.TimeoutNow(id, named(id, target), req, resp)
}

// named puts the receiver's id into the target, because raft's transport dials and pools by target alone: two nodes
// that used one address in turn never share a pooled stream.
func named(id raft.ServerID, target raft.ServerAddress) raft.ServerAddress {
	return raft.ServerAddress(string(id) + "@" + string(target))
}

// splitNamed undoes named. Addresses hold no '@'; ids may.
func splitNamed(target raft.ServerAddress) (id, addr string, ok bool) {
	at := strings.LastIndexByte(string(target), '@')
	if at <= 0 {
		return "", "", false
	}
	return string(target[:at]), string(target[at+1:]), true
}

// streamLayer feeds raft's transport with streams whose handshake is done.
type streamLayer struct {
	transport *Transport
	accepted  chan net.Conn
	done      chan struct{}
	stop      sync.Once

	mu     sync.Mutex
	dialed map[net.Conn]struct{}
}

var errStreamClosed = errors.New("raft stream layer closed")

// hand gives an accepted stream to raft's transport, which then owns it.
func (s *streamLayer) hand(conn net.Conn) {
	select {
	case s.accepted <- conn:
	case <-s.done:
		_ = conn.Close()
	}
}

func (s *streamLayer) Accept() (net.Conn, error) {
	select {
	case conn := <-s.accepted:
		return conn, nil
	case <-s.done:
		return nil, errStreamClosed
	}
}

func (s *streamLayer) Addr() net.Addr { return s.transport.listener.Addr() }

// Close ends the stream layer, not the listener: calls still come in there.
func (s *streamLayer) Close() error {
	s.stop.Do(func() { close(s.done) })
	return nil
}

func (s *streamLayer) stopped() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// Dial opens a raft stream to a target made by named.
func (s *streamLayer) Dial(target raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	id, addr, ok := splitNamed(target)
	if !ok {
		return nil, fmt.Errorf("raft target %q names no node", target)
	}
	t := s.transport
	cluster := t.cfg.ClusterID()
	if cluster == "" {
		return nil, errors.New("this node belongs to no cluster")
	}
	ctx, cancel := context.WithTimeout(t.ctx, timeout)
	defer cancel()
	conn, err := t.connect(ctx, addr, hello{purpose: purposeRaft, cluster: cluster, sender: t.cfg.Self, receiver: id})
	if err != nil {
		return nil, fmt.Errorf("raft stream to node %q: %w", id, err)
	}
	return s.track(conn)
}

// track remembers a dialed stream: raft's transport forgets those in use when it closes.
func (s *streamLayer) track(conn net.Conn) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped() {
		_ = conn.Close()
		return nil, errStreamClosed
	}
	s.dialed[conn] = struct{}{}
	return &dialedConn{Conn: conn, layer: s}, nil
}

func (s *streamLayer) closeDialed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.dialed {
		_ = conn.Close()
	}
	clear(s.dialed)
}

type dialedConn struct {
	net.Conn
	layer *streamLayer
}

func (c *dialedConn) Close() error {
	c.layer.mu.Lock()
	delete(c.layer.dialed, c.Conn)
	c.layer.mu.Unlock()
	return c.Conn.Close()
}
