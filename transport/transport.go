package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Limits. They are far above what a handful of nodes use and far below what hurts a node.
const (
	// CallBytesMax bounds the body of a call's request and of its answer.
	CallBytesMax = 1 << 20

	inboundConnsMax  = 256
	handshakesMax    = 64
	handlersMax      = 64
	callsInFlightMax = 256
	idlePerPeerMax   = 4
	raftPoolPerPeer  = 3

	handshakeTimeout   = 3 * time.Second
	raftTimeoutDefault = 3 * time.Second
	callTimeoutDefault = 10 * time.Second
	idleTimeout        = 60 * time.Second
)

// Identity names a node and one life of its data folder.
type Identity struct {
	NodeID      string
	Incarnation string
}

// Peer is the other end of a connection, as it named itself in the handshake. Only mutual TLS would prove it.
type Peer struct {
	Identity
	ClusterID string // "" = it belongs to no cluster yet
	Addr      string // the remote end of the TCP connection: not an address to dial back
}

// Config of a Transport. Self, ClusterID, AcceptRaft, VotesAllowed and Logger are required, and one of Addr and Listener.
// The hooks are called concurrently and must not block.
type Config struct {
	Addr      string       // address to listen on
	Listener  net.Listener // instead of Addr; the transport closes it
	Advertise string       // address that peers dial and that raft's configuration holds; default: the listener's own

	Self         Identity
	ClusterID    func() string         // "" while this node is neither formed nor joined
	AcceptRaft   func(peer Peer) error // asked once for each incoming raft stream, after the ids were compared
	VotesAllowed func() bool           // asked for each RequestVote, RequestPreVote and TimeoutNow; false while no configuration is held

	Dial        func(ctx context.Context, addr string) (net.Conn, error) // default: TCP
	RaftTimeout time.Duration                                            // I/O deadline of one raft exchange; default 3 s; snapshots get it per 256 KiB
	Logger      *slog.Logger

	handshakeTimeout time.Duration // shorter in tests
	handlersMax      int
	idleTimeout      time.Duration
}

// Transport carries raft streams and calls between nodes over one TCP port.
type Transport struct {
	cfg      Config
	log      *slog.Logger
	listener net.Listener

	ctx     context.Context // ends at Close; parent of every handler's context
	cancel  context.CancelFunc
	group   sync.WaitGroup // accept loop, handshakes, call servers, vote filter, janitor
	inbound *connSet
	raft    *raftTransport

	handshakes chan struct{} // slots
	serving    chan struct{} // slots for running handlers
	calling    chan struct{} // slots for own calls in flight
	idle       *idleConns

	handlersMu sync.RWMutex
	handlers   map[CallKind]handler
}

// Listen binds the port and starts to serve. Raft streams wait until a raft.Raft consumes Raft().
func Listen(cfg Config) (*Transport, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	listener := cfg.Listener
	if listener == nil {
		var err error
		if listener, err = net.Listen("tcp", cfg.Addr); err != nil {
			return nil, fmt.Errorf("transport: cannot listen on %s: %w", cfg.Addr, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := &Transport{
		cfg: cfg, log: cfg.Logger, listener: listener, ctx: ctx, cancel: cancel,
		inbound:    newConnSet(inboundConnsMax),
		handshakes: make(chan struct{}, handshakesMax),
		serving:    make(chan struct{}, cfg.handlersMax),
		calling:    make(chan struct{}, callsInFlightMax),
		idle:       newIdleConns(cfg.idleTimeout),
		handlers:   make(map[CallKind]handler),
	}
	t.raft = newRaftTransport(t)
	t.group.Go(t.acceptLoop)
	t.group.Go(t.raft.filterVotes)
	t.group.Go(func() { t.idle.expire(ctx) })
	return t, nil
}

func (c *Config) complete() error {
	switch {
	case c.Self.NodeID == "" || c.Self.Incarnation == "":
		return errors.New("transport: node id and incarnation are required")
	case len(c.Self.NodeID) > stringBytesMax || len(c.Self.Incarnation) > stringBytesMax:
		return fmt.Errorf("transport: node id and incarnation have at most %d bytes", stringBytesMax)
	case c.ClusterID == nil || c.AcceptRaft == nil || c.VotesAllowed == nil || c.Logger == nil:
		return errors.New("transport: ClusterID, AcceptRaft, VotesAllowed and Logger are required")
	}
	if c.Dial == nil {
		c.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}
	}
	setDefault(&c.RaftTimeout, raftTimeoutDefault)
	setDefault(&c.handshakeTimeout, handshakeTimeout)
	setDefault(&c.idleTimeout, idleTimeout)
	setDefault(&c.handlersMax, handlersMax)
	return nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Raft is the raft.Transport of this node; it also implements raft.WithPreVote and raft.WithClose. Its Close, which
// raft calls at shutdown, ends raft's streams only: calls go on until Transport.Close.
func (t *Transport) Raft() raft.Transport { return t.raft }

// Addr is the address that the listener is bound to.
func (t *Transport) Addr() string { return t.listener.Addr().String() }

// Advertised is the address that peers dial.
func (t *Transport) Advertised() string {
	if t.cfg.Advertise != "" {
		return t.cfg.Advertise
	}
	return t.Addr()
}

// Close ends everything and joins every goroutine of this package. Handlers see their context end.
func (t *Transport) Close() error {
	t.cancel()
	err := t.listener.Close()
	raftErr := t.raft.Close()
	t.idle.closeAll()
	t.inbound.closeAll()
	t.group.Wait()
	t.inbound.wait()
	if errors.Is(err, net.ErrClosed) {
		err = nil // a second Close
	}
	return errors.Join(err, raftErr)
}

const acceptRetryDelay = 50 * time.Millisecond

// acceptLoop survives errors of Accept (out of file descriptors) because a node that stopped accepting would look
// alive to itself and dead to all others.
func (t *Transport) acceptLoop() {
	for {
		raw, err := t.listener.Accept()
		if err != nil {
			if t.ctx.Err() != nil {
				return
			}
			t.log.Warn("transport: accept failed", "error", err)
			select {
			case <-t.ctx.Done():
				return
			case <-time.After(acceptRetryDelay):
			}
			continue
		}
		t.admit(raw)
	}
}

// admit hands a new connection to its own goroutine, or turns it away when there is no slot.
func (t *Transport) admit(raw net.Conn) {
	conn, ok := t.inbound.add(raw)
	if !ok {
		t.turnAway(raw)
		return
	}
	select {
	case t.handshakes <- struct{}{}:
		t.group.Go(func() { t.receive(conn) })
	default:
		t.turnAway(conn)
	}
}

func (t *Transport) turnAway(conn net.Conn) {
	t.log.Warn("transport: connection turned away", "reason", ReasonBusy.String(), "remote", conn.RemoteAddr().String())
	_ = t.reply(conn, ReasonBusy, "")
	_ = conn.Close()
}

// receive does the listener's half of the handshake and then serves the connection for its purpose. The handshake
// slot is held only until the answer is out.
func (t *Transport) receive(conn *trackedConn) {
	h, ok := t.greet(conn)
	<-t.handshakes
	switch {
	case !ok:
		_ = conn.Close()
	case h.purpose == purposeRaft:
		t.raft.stream.hand(conn)
	default:
		t.serveCalls(conn, t.peerOf(h, conn))
	}
}

func (t *Transport) greet(conn net.Conn) (hello, bool) {
	_ = conn.SetDeadline(time.Now().Add(t.cfg.handshakeTimeout))
	h, err := readHello(conn)
	if err != nil {
		t.log.Debug("transport: handshake failed", "remote", conn.RemoteAddr().String(), "error", err)
		return h, false
	}
	reason, detail := t.judge(h, t.peerOf(h, conn))
	if reason != ReasonNone {
		t.log.Warn("transport: handshake refused", "peer", h.sender.NodeID, "remote", conn.RemoteAddr().String(),
			"reason", reason.String(), "detail", detail)
	}
	if err := t.reply(conn, reason, detail); err != nil || reason != ReasonNone {
		return h, false
	}
	return h, conn.SetDeadline(time.Time{}) == nil
}

func (t *Transport) peerOf(h hello, conn net.Conn) Peer {
	return Peer{Identity: h.sender, ClusterID: h.cluster, Addr: conn.RemoteAddr().String()}
}

func (t *Transport) reply(conn net.Conn, reason Reason, detail string) error {
	frame, err := answer{reason: reason, cluster: t.cfg.ClusterID(), self: t.cfg.Self, detail: detail}.encode()
	if err != nil {
		return err
	}
	_ = conn.SetWriteDeadline(time.Now().Add(t.cfg.handshakeTimeout))
	_, err = conn.Write(frame)
	return err
}

// judge decides about a hello. A raft stream needs everything equal; a call may come from or reach a node without a
// cluster (forming and joining), which its handler then decides about.
func (t *Transport) judge(h hello, peer Peer) (Reason, string) {
	ours := t.cfg.ClusterID()
	switch {
	case h.version != protocolVersion:
		return ReasonVersion, fmt.Sprintf("%d, here %d", h.version, protocolVersion)
	case h.purpose != purposeRaft && h.purpose != purposeCall:
		return ReasonPurpose, ""
	case h.receiver != t.cfg.Self.NodeID && (h.receiver != "" || h.purpose == purposeRaft):
		return ReasonReceiver, fmt.Sprintf("%q, here is %q", h.receiver, t.cfg.Self.NodeID)
	case h.purpose == purposeRaft && ours == "":
		return ReasonNotFormed, ""
	case h.cluster != ours && (h.purpose == purposeRaft || h.cluster != "" && ours != ""):
		return ReasonCluster, fmt.Sprintf("%q, here %q", h.cluster, ours)
	case h.purpose == purposeCall:
		return ReasonNone, ""
	}
	return t.judgeRaft(peer)
}

func (t *Transport) judgeRaft(peer Peer) (Reason, string) {
	if peer.NodeID == t.cfg.Self.NodeID {
		return ReasonSender, "it carries this node's own id"
	}
	if t.raft.stream.stopped() {
		return ReasonStopped, ""
	}
	if err := t.cfg.AcceptRaft(peer); err != nil {
		return ReasonSender, err.Error()
	}
	return ReasonNone, ""
}

// connect dials addr and does the dialer's half of the handshake.
func (t *Transport) connect(ctx context.Context, addr string, h hello) (net.Conn, error) {
	frame, err := h.encode()
	if err != nil {
		return nil, err
	}
	conn, err := t.cfg.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	_ = conn.SetDeadline(time.Now().Add(t.cfg.handshakeTimeout))
	err = exchangeHello(conn, frame, h)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("handshake with %s: %w", addr, err)
	}
	return conn, nil
}

func exchangeHello(conn net.Conn, frame []byte, h hello) error {
	if _, err := conn.Write(frame); err != nil {
		return err
	}
	a, err := readAnswer(conn)
	if err != nil {
		return err
	}
	by := Peer{Identity: a.self, ClusterID: a.cluster, Addr: conn.RemoteAddr().String()}
	if a.reason != ReasonNone {
		return &RefusedError{Reason: a.reason, Detail: a.detail, By: by}
	}
	// The listener has compared already; a listener that answers for another node has a fault worth stopping at.
	if h.receiver != "" && a.self.NodeID != h.receiver {
		return &RefusedError{Reason: ReasonReceiver, Detail: "accepted under another name", By: by}
	}
	return nil
}
