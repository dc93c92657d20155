package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

func TestHandshake_RaftStreamNeedsEverythingEqual(t *testing.T) {
	t.Parallel()
	errStranger := errors.New("incarnation is not the one in the log")
	server := listen(t, "n1", "c1", func(c *Config) {
		c.AcceptRaft = func(peer Peer) error {
			if peer.Incarnation != "n2-1" {
				return errStranger
			}
			return nil
		}
	})
	good := hello{purpose: purposeRaft, cluster: "c1", sender: Identity{"n2", "n2-1"}, receiver: "n1"}
	with := func(change func(*hello)) hello { h := good; change(&h); return h }
	cases := map[string]struct {
		hello hello
		want  Reason
	}{
		"all equal":            {good, ReasonNone},
		"another cluster":      {with(func(h *hello) { h.cluster = "c2" }), ReasonCluster},
		"no cluster":           {with(func(h *hello) { h.cluster = "" }), ReasonCluster},
		"meant for another":    {with(func(h *hello) { h.receiver = "n3" }), ReasonReceiver},
		"meant for anyone":     {with(func(h *hello) { h.receiver = "" }), ReasonReceiver},
		"wiped and come back":  {with(func(h *hello) { h.sender.Incarnation = "n2-2" }), ReasonSender},
		"carries our own name": {with(func(h *hello) { h.sender.NodeID = "n1" }), ReasonSender},
		"unknown purpose":      {with(func(h *hello) { h.purpose = 9 }), ReasonPurpose},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			wantReason(t, server, c.hello, c.want)
		})
	}
	server.cluster.Store("")
	wantReason(t, server, good, ReasonNotFormed)
	server.cluster.Store("c1")
	noError(t, server.raft.Close())
	wantReason(t, server, good, ReasonStopped)
}

func wantReason(t *testing.T, server *testNode, h hello, want Reason) {
	t.Helper()
	conn, err := server.connect(soon(t), server.Addr(), h)
	if err == nil {
		_ = conn.Close()
	}
	var refused *RefusedError
	switch {
	case want == ReasonNone:
		noError(t, err)
	case !errors.As(err, &refused) || refused.Reason != want || refused.By.NodeID != "n1":
		t.Fatalf("got %v, want refusal %q by n1", err, want)
	}
}

func TestHandshake_CallsPassWithoutAClusterButNotBetweenTwo(t *testing.T) {
	t.Parallel()
	server := listen(t, "n1", "c1", nil)
	call := hello{purpose: purposeCall, sender: Identity{"n2", "n2-1"}}
	wantReason(t, server, call, ReasonNone)
	call.cluster = "c2"
	wantReason(t, server, call, ReasonCluster)
	call.cluster, call.receiver = "c1", "n3"
	wantReason(t, server, call, ReasonReceiver)
	server.cluster.Store("")
	call.receiver = "n1"
	wantReason(t, server, call, ReasonNone)
}

func TestHandshake_OtherVersionIsToldSo(t *testing.T) {
	t.Parallel()
	server := listen(t, "n1", "c1", nil)
	conn := rawDial(t, server.Addr())
	frame, err := hello{purpose: purposeCall, sender: Identity{"n2", "x"}}.encode()
	noError(t, err)
	frame[4] = protocolVersion + 1
	_, err = conn.Write(frame)
	noError(t, err)
	a, err := readAnswer(conn)
	noError(t, err)
	if a.reason != ReasonVersion {
		t.Fatalf("answered %v", a.reason)
	}
	wantHangup(t, conn)
}

func TestHandshake_GarbageAndOversizeFramesAreHungUpOn(t *testing.T) {
	t.Parallel()
	server := listen(t, "n1", "c1", nil)
	oversize := append(append([]byte{}, magic[:]...), protocolVersion, byte(purposeRaft), 0xff, 0xff)
	for name, bytes := range map[string][]byte{
		"garbage":        []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"oversize":       oversize,
		"fields missing": append(append([]byte{}, magic[:]...), protocolVersion, byte(purposeRaft), 0, 2, 1, 'a'),
	} {
		t.Run(name, func(t *testing.T) {
			conn := rawDial(t, server.Addr())
			_, err := conn.Write(bytes)
			noError(t, err)
			wantHangup(t, conn)
		})
	}
}

func TestHandshake_SlowSenderIsHungUpOn(t *testing.T) {
	t.Parallel()
	server := listen(t, "n1", "c1", func(c *Config) { c.handshakeTimeout = 100 * time.Millisecond })
	conn := rawDial(t, server.Addr())
	_, err := conn.Write(magic[:2])
	noError(t, err)
	wantHangup(t, conn)
}

func TestHandshake_SlowListenerIsGivenUpOn(t *testing.T) {
	t.Parallel()
	silent := listenSilently(t)
	node := listen(t, "n1", "c1", nil)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := node.Call(ctx, silent, "n2", kindEcho, nil)
	if !errors.Is(err, ErrNotSent) {
		t.Fatalf("call to a silent listener: %v", err)
	}
}

// A crowd of half-open handshakes costs slots, not memory, and the slots come back.
func TestHandshake_CrowdOfSilentConnectionsPasses(t *testing.T) {
	t.Parallel()
	server := listen(t, "n1", "c1", func(c *Config) { c.handshakeTimeout = 300 * time.Millisecond })
	server.Handle(kindEcho, echo)
	for range handshakesMax + 10 {
		rawDial(t, server.Addr())
	}
	client := listen(t, "n2", "c1", nil)
	eventually(t, "a call gets through", func() bool {
		_, err := client.Call(soon(t), server.Addr(), "n1", kindEcho, nil)
		return err == nil
	})
}

func wantHangup(t *testing.T, conn io.Reader) {
	t.Helper()
	rest, err := io.ReadAll(conn)
	if err != nil && !strings.Contains(err.Error(), "reset") {
		t.Fatalf("not hung up on: %v", err)
	}
	if len(rest) > handshakeBytesMax {
		t.Fatalf("%d bytes before the hang-up", len(rest))
	}
}

func FuzzFrames(f *testing.F) {
	frame, _ := hello{purpose: purposeRaft, cluster: "c", sender: Identity{"a", "b"}, receiver: "r"}.encode()
	f.Add(frame)
	f.Add(encodeRequest(3, time.Second, []byte("body")))
	f.Add(encodeCallAnswer(statusFailed, encodeRemoteError(&RemoteError{Code: "x", Message: "y"})))
	f.Add(binary.BigEndian.AppendUint32(nil, CallBytesMax+1))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := bytes.NewReader(raw)
		if h, err := readHello(r); err == nil && h.version == protocolVersion {
			again, err := h.encode()
			if err != nil || !bytes.Equal(again, raw[:len(raw)-r.Len()]) {
				t.Fatalf("hello %+v does not come back as it was read: %v", h, err)
			}
		}
		if _, err := readAnswer(bytes.NewReader(raw)); err == nil && len(raw) < frameHeadBytes {
			t.Fatal("an answer out of nothing")
		}
		if _, left, body, err := readRequest(bytes.NewReader(raw)); err == nil && (len(body) > CallBytesMax || left > handlerTimeoutMax) {
			t.Fatal("a request above its bounds")
		}
		if status, body, err := readCallAnswer(bytes.NewReader(raw)); err == nil && status != statusOK {
			_, _ = decodeRemoteError(body)
		}
	})
}
