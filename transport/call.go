package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// CallKind names a call. The package that registers the handler defines the values; they travel on the wire.
type CallKind uint8

// A request is: body length (4) | kind (1) | milliseconds until the caller gives up (4) | body.
// An answer is: body length (4) | status (1) | body.
const (
	requestHeadBytes = 9
	answerHeadBytes  = 5
)

const (
	statusOK      = 0
	statusFailed  = 1 // the handler ran and returned an error
	statusRefused = 2 // no handler ran
)

// Call sends request to the node at addr and waits for its answer until ctx ends, at most 10 s when ctx has no
// deadline. receiverID is the node that must answer, "" for whoever listens there.
//
// An error is one of: wrapping ErrNotSent (surely no handler ran: dial or handshake failed, refused, no slot), wrapping ErrNoAnswer
// (outcome unknown), or a *RemoteError alone, which the handler returned.
func (t *Transport) Call(ctx context.Context, addr, receiverID string, kind CallKind, request []byte) ([]byte, error) {
	if len(request) > CallBytesMax {
		return nil, fmt.Errorf("%w: %w: %d bytes", ErrNotSent, ErrTooLarge, len(request))
	}
	if t.ctx.Err() != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, ErrClosed)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout(ctx))
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	select {
	case t.calling <- struct{}{}:
		defer func() { <-t.calling }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: too many calls in flight: %w", ErrNotSent, ctx.Err())
	}
	answer, err := t.call(ctx, connKey{addr: addr, receiver: receiverID, cluster: t.cfg.ClusterID()}, kind, request)
	if err != nil {
		return nil, fmt.Errorf("call to %s: %w", addr, err)
	}
	return answer, nil
}

func callTimeout(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return time.Until(deadline)
	}
	return callTimeoutDefault
}

// call prefers a pooled connection. One that turns out dead before a byte was written costs one fresh attempt; any
// other failure is the caller's to judge.
func (t *Transport) call(ctx context.Context, key connKey, kind CallKind, request []byte) ([]byte, error) {
	if conn := t.idle.take(key); conn != nil {
		answer, err := t.exchange(ctx, conn, key, kind, request)
		if !errors.Is(err, errDeadConn) || ctx.Err() != nil {
			return answer, err
		}
	}
	conn, err := t.connect(ctx, key.addr, hello{purpose: purposeCall, cluster: key.cluster, sender: t.cfg.Self, receiver: key.receiver})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	return t.exchange(ctx, conn, key, kind, request)
}

var errDeadConn = errors.New("connection died before the request was written")

// exchange does one request and answer on conn, and pools or closes it.
func (t *Transport) exchange(ctx context.Context, conn net.Conn, key connKey, kind CallKind, request []byte) ([]byte, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	status, body, err := roundTrip(ctx, conn, kind, request)
	if !stop() || err != nil {
		_ = conn.Close()
	} else {
		t.idle.put(key, conn)
	}
	if err != nil {
		return nil, withCause(err, ctx.Err())
	}
	if status == statusOK {
		return body, nil
	}
	remote, err := decodeRemoteError(body)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrNoAnswer, err)
	case status == statusRefused:
		return nil, fmt.Errorf("%w: %w", ErrNotSent, remote)
	default:
		return nil, remote
	}
}

func withCause(err, cause error) error {
	if cause == nil {
		return err
	}
	return fmt.Errorf("%w: %w", err, cause)
}

func roundTrip(ctx context.Context, conn net.Conn, kind CallKind, request []byte) (uint8, []byte, error) {
	deadline, _ := ctx.Deadline()
	n, err := conn.Write(encodeRequest(kind, time.Until(deadline), request))
	if err != nil && n == 0 {
		return 0, nil, fmt.Errorf("%w: %w: %w", ErrNotSent, errDeadConn, err)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	status, body, err := readCallAnswer(conn)
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	return status, body, nil
}

func encodeRequest(kind CallKind, left time.Duration, body []byte) []byte {
	frame := make([]byte, requestHeadBytes, requestHeadBytes+len(body))
	binary.BigEndian.PutUint32(frame, uint32(len(body)))
	frame[4] = byte(kind)
	binary.BigEndian.PutUint32(frame[5:], uint32(min(max(left.Milliseconds(), 1), handlerTimeoutMax.Milliseconds())))
	return append(frame, body...)
}

// readRequest reads one request. io.EOF alone means that the caller hung up between two requests.
func readRequest(r io.Reader) (kind CallKind, left time.Duration, body []byte, err error) {
	var head [requestHeadBytes]byte
	if _, err = io.ReadFull(r, head[:]); err != nil {
		return 0, 0, nil, err
	}
	body, err = readBody(r, binary.BigEndian.Uint32(head[:4]))
	left = time.Duration(binary.BigEndian.Uint32(head[5:])) * time.Millisecond
	return CallKind(head[4]), min(left, handlerTimeoutMax), body, err
}

func encodeCallAnswer(status uint8, body []byte) []byte {
	frame := make([]byte, answerHeadBytes, answerHeadBytes+len(body))
	binary.BigEndian.PutUint32(frame, uint32(len(body)))
	frame[4] = status
	return append(frame, body...)
}

func readCallAnswer(r io.Reader) (status uint8, body []byte, err error) {
	var head [answerHeadBytes]byte
	if _, err = io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	body, err = readBody(r, binary.BigEndian.Uint32(head[:4]))
	return head[4], body, err
}

func readBody(r io.Reader, length uint32) ([]byte, error) {
	if length > CallBytesMax {
		return nil, fmt.Errorf("%w: call body of %d bytes", ErrFrame, length)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	return body, nil
}

// encodeRemoteError: code length (1) | code | message. Both are cut to their bounds.
func encodeRemoteError(e *RemoteError) []byte {
	code := e.Code[:min(len(e.Code), stringBytesMax)]
	message := e.Message[:min(len(e.Message), messageBytesMax)]
	body := append([]byte{byte(len(code))}, code...)
	return append(body, message...)
}

func decodeRemoteError(body []byte) (*RemoteError, error) {
	if len(body) == 0 || len(body) < 1+int(body[0]) {
		return nil, fmt.Errorf("%w: truncated error answer", ErrFrame)
	}
	end := 1 + int(body[0])
	return &RemoteError{Code: string(body[1:end]), Message: string(body[end:])}, nil
}
