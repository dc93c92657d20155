package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

const (
	// handlerTimeoutMax bounds what a caller may ask a handler to spend.
	handlerTimeoutMax = 60 * time.Second
	messageBytesMax   = 4096
)

// Handler answers one call. ctx ends when the caller has given up or the transport closes; a handler must return
// then. An error that is a *RemoteError reaches the caller as it is, others as CodeInternal.
type Handler func(ctx context.Context, peer Peer, request []byte) ([]byte, error)

type handler struct {
	run  Handler
	open bool // callers without our cluster id may ask
}

// Handle registers the handler of kind for callers of the same cluster. Each kind is registered once.
func (t *Transport) Handle(kind CallKind, run Handler) { t.register(kind, handler{run: run}) }

// HandleOpen registers a handler that is also reached when the caller or this node has no cluster id yet (finding,
// forming, joining): the handler decides about the Peer. A caller of another cluster never gets here.
func (t *Transport) HandleOpen(kind CallKind, run Handler) {
	t.register(kind, handler{run: run, open: true})
}

func (t *Transport) register(kind CallKind, h handler) {
	t.handlersMu.Lock()
	defer t.handlersMu.Unlock()
	if _, taken := t.handlers[kind]; taken {
		panic(fmt.Sprintf("transport: call kind %d registered twice", kind)) // a wiring mistake, not a run-time condition
	}
	t.handlers[kind] = h
}

// serveCalls answers one call after another until the caller hangs up, idles or breaks the protocol.
func (t *Transport) serveCalls(conn net.Conn, peer Peer) {
	defer func() { _ = conn.Close() }()
	for t.ctx.Err() == nil {
		// Longer than the caller keeps an idle connection, so that the caller's side lets go first.
		_ = conn.SetReadDeadline(time.Now().Add(2 * t.cfg.idleTimeout))
		kind, left, request, err := readRequest(conn)
		if err != nil {
			if errors.Is(err, ErrFrame) {
				t.log.Warn("transport: broken call", "peer", peer.NodeID, "remote", peer.Addr, "error", err)
			}
			return
		}
		status, body := t.answer(kind, left, peer, request)
		_ = conn.SetWriteDeadline(time.Now().Add(t.cfg.handshakeTimeout))
		if _, err := conn.Write(encodeCallAnswer(status, body)); err != nil {
			return
		}
	}
}

func (t *Transport) answer(kind CallKind, left time.Duration, peer Peer, request []byte) (status uint8, body []byte) {
	t.handlersMu.RLock()
	h, known := t.handlers[kind]
	t.handlersMu.RUnlock()
	if !known {
		return refusal(CodeUnknownKind, fmt.Sprintf("no handler for call kind %d", kind))
	}
	// Checked for each call, not only in the handshake: this node may have been formed since.
	if ours := t.cfg.ClusterID(); peer.ClusterID != ours || ours == "" {
		if !h.open || peer.ClusterID != "" && ours != "" {
			return refusal(CodeCluster, fmt.Sprintf("caller's cluster id is %q, here %q", peer.ClusterID, ours))
		}
	}
	ctx, cancel := context.WithTimeout(t.ctx, left)
	defer cancel()
	select {
	case t.serving <- struct{}{}:
		defer func() { <-t.serving }()
	case <-ctx.Done():
		return refusal(CodeBusy, "too many calls are being served")
	}
	answer, err := h.run(ctx, peer, request)
	if err == nil && len(answer) > CallBytesMax {
		err = &RemoteError{Code: CodeTooLarge, Message: fmt.Sprintf("answer of %d bytes", len(answer))}
	}
	if err != nil {
		return statusFailed, encodeRemoteError(asRemote(err))
	}
	return statusOK, answer
}

func refusal(code, message string) (uint8, []byte) {
	return statusRefused, encodeRemoteError(&RemoteError{Code: code, Message: message})
}

func asRemote(err error) *RemoteError {
	var remote *RemoteError
	if errors.As(err, &remote) {
		return remote
	}
	return &RemoteError{Code: CodeInternal, Message: err.Error()}
}
