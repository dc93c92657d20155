package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func TestCall_CarriesBodiesAndNamesThePeer(t *testing.T) {
	t.Parallel()
	server, client := listen(t, "n1", "c1", nil), listen(t, "n2", "c1", nil)
	var seen atomic.Value
	server.Handle(kindEcho, func(ctx context.Context, peer Peer, request []byte) ([]byte, error) {
		seen.Store(peer)
		if _, bounded := ctx.Deadline(); !bounded {
			return nil, errors.New("no deadline")
		}
		return request, nil
	})
	for _, size := range []int{0, 1, 70_000, CallBytesMax} {
		body := bytes.Repeat([]byte("z"), size)
		answer, err := client.Call(soon(t), server.Addr(), "n1", kindEcho, body)
		noError(t, err)
		if !bytes.Equal(answer, body) {
			t.Fatalf("%d bytes came back as %d", size, len(answer))
		}
	}
	if peer := seen.Load().(Peer); peer.Identity != (Identity{"n2", "n2-1"}) || peer.ClusterID != "c1" {
		t.Fatalf("handler saw %+v", peer)
	}
	if _, err := client.Call(soon(t), server.Addr(), "n1", kindEcho, make([]byte, CallBytesMax+1)); !errors.Is(err, ErrTooLarge) || !errors.Is(err, ErrNotSent) {
		t.Fatalf("one byte too many: %v", err)
	}
}

func TestCall_ErrorsSayWhetherAHandlerRan(t *testing.T) {
	t.Parallel()
	const kindTyped, kindPlain, kindHuge, kindUnknown CallKind = 1, 2, 3, 99
	server, client := listen(t, "n1", "c1", nil), listen(t, "n2", "c1", nil)
	server.Handle(kindTyped, func(context.Context, Peer, []byte) ([]byte, error) {
		return nil, &RemoteError{Code: "not_leader", Message: "ask n3"}
	})
	server.Handle(kindPlain, func(context.Context, Peer, []byte) ([]byte, error) { return nil, errors.New("boom") })
	server.Handle(kindHuge, func(context.Context, Peer, []byte) ([]byte, error) { return make([]byte, CallBytesMax+1), nil })
	for kind, want := range map[CallKind]string{kindTyped: "not_leader", kindPlain: CodeInternal, kindHuge: CodeTooLarge, kindUnknown: CodeUnknownKind} {
		_, err := client.Call(soon(t), server.Addr(), "n1", kind, nil)
		var remote *RemoteError
		if !errors.As(err, &remote) || remote.Code != want {
			t.Fatalf("kind %d: %v, want code %q", kind, err, want)
		}
		if errors.Is(err, ErrNotSent) != (kind == kindUnknown) || errors.Is(err, ErrNoAnswer) {
			t.Fatalf("kind %d: %v says the wrong thing about delivery", kind, err)
		}
	}
	if _, err := client.Call(soon(t), server.Addr(), "n9", kindTyped, nil); !errors.Is(err, ErrNotSent) {
		t.Fatalf("wrong receiver: %v", err)
	}
	if _, err := client.Call(soon(t), closedPort(t), "", kindTyped, nil); !errors.Is(err, ErrNotSent) {
		t.Fatalf("nobody there: %v", err)
	}
}

func TestCall_NodesWithoutAClusterReachOpenHandlersOnly(t *testing.T) {
	t.Parallel()
	const kindOpen CallKind = 8
	server, client := listen(t, "n1", "c1", nil), listen(t, "n2", "", nil)
	server.Handle(kindEcho, echo)
	server.HandleOpen(kindOpen, echo)
	_, err := client.Call(soon(t), server.Addr(), "", kindOpen, nil)
	noError(t, err)
	wantClusterRefusal := func() {
		t.Helper()
		_, err := client.Call(soon(t), server.Addr(), "", kindEcho, nil)
		var remote *RemoteError
		if !errors.As(err, &remote) || remote.Code != CodeCluster || !errors.Is(err, ErrNotSent) {
			t.Fatalf("closed kind without a cluster: %v", err)
		}
	}
	wantClusterRefusal()

	// Joined now: the pooled connection, opened without a cluster id, must not be used again.
	client.cluster.Store("c1")
	_, err = client.Call(soon(t), server.Addr(), "", kindEcho, nil)
	noError(t, err)

	// The server's side is judged at each call too.
	server.cluster.Store("")
	wantClusterRefusal()
}

func TestCall_ReusesConnectionsAndReplacesDeadOnes(t *testing.T) {
	t.Parallel()
	var dials atomic.Int32
	client := listen(t, "n2", "c1", func(c *Config) {
		c.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			dials.Add(1)
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}
	})
	server := listen(t, "n1", "c1", nil)
	server.Handle(kindEcho, echo)
	addr := server.Addr()
	for range 5 {
		_, err := client.Call(soon(t), addr, "n1", kindEcho, nil)
		noError(t, err)
	}
	if dials.Load() != 1 {
		t.Fatalf("%d dials for five calls in a row", dials.Load())
	}
	noError(t, server.Close())
	server = listen(t, "n1", "c1", func(c *Config) { c.Addr = addr })
	server.Handle(kindEcho, echo)
	_, err := client.Call(soon(t), addr, "n1", kindEcho, nil)
	noError(t, err) // not unknown: the dead connection was noticed before anything was written
}

func TestCall_LostAnswerIsUnknownAndNeverRetried(t *testing.T) {
	t.Parallel()
	var requests atomic.Int32
	addr := serveRaw(t, func(conn net.Conn) {
		if _, err := readHello(conn); err != nil {
			return
		}
		frame, _ := answer{self: Identity{"n1", "x"}}.encode()
		_, _ = conn.Write(frame)
		if _, _, _, err := readRequest(conn); err == nil {
			requests.Add(1)
		}
	})
	client := listen(t, "n2", "c1", nil)
	_, err := client.Call(soon(t), addr, "n1", kindEcho, []byte("once"))
	if !errors.Is(err, ErrNoAnswer) || errors.Is(err, ErrNotSent) || requests.Load() != 1 {
		t.Fatalf("%v after %d requests", err, requests.Load())
	}
}

func TestCall_EndsWithItsContextAndSoDoesTheHandler(t *testing.T) {
	t.Parallel()
	server, client := listen(t, "n1", "c1", nil), listen(t, "n2", "c1", nil)
	ended := make(chan struct{})
	server.Handle(kindEcho, func(ctx context.Context, _ Peer, _ []byte) ([]byte, error) {
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	// Either end's clock may be the first: the caller gives up, or the handler's ended context comes back as its error.
	if _, err := client.Call(ctx, server.Addr(), "n1", kindEcho, nil); err == nil {
		t.Fatal("answered")
	}
	<-ended
}

func TestServe_HandlersAreBounded(t *testing.T) {
	t.Parallel()
	const slots, callers = 3, 12
	server := listen(t, "n1", "c1", func(c *Config) { c.handlersMax = slots })
	client := listen(t, "n2", "c1", nil)
	var running, most atomic.Int32
	release := make(chan struct{})
	server.Handle(kindEcho, func(_ context.Context, _ Peer, request []byte) ([]byte, error) {
		now := running.Add(1)
		defer running.Add(-1)
		for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
		}
		<-release
		return request, nil
	})
	var group sync.WaitGroup
	for range callers {
		group.Go(func() {
			if _, err := client.Call(soon(t), server.Addr(), "n1", kindEcho, nil); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "all slots are taken", func() bool { return running.Load() == slots })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := client.Call(ctx, server.Addr(), "n1", kindEcho, nil); err == nil {
		t.Fatal("a caller in a hurry was served beyond the bound")
	}
	close(release)
	group.Wait()
	if most.Load() != slots {
		t.Fatalf("%d handlers ran at once, the bound is %d", most.Load(), slots)
	}
}

func TestServe_BrokenRequestEndsTheConnectionOnly(t *testing.T) {
	t.Parallel()
	server := listen(t, "n1", "c1", nil)
	server.Handle(kindEcho, echo)
	conn := rawDial(t, server.Addr())
	frame, err := hello{purpose: purposeCall, cluster: "c1", sender: Identity{"n2", "x"}}.encode()
	noError(t, err)
	_, err = conn.Write(append(frame, 0xff, 0xff, 0xff, 0xff, 7, 0, 0, 0, 1)) // 4 GiB announced
	noError(t, err)
	wantHangup(t, conn)
	client := listen(t, "n3", "c1", nil)
	_, err = client.Call(soon(t), server.Addr(), "n1", kindEcho, nil)
	noError(t, err)
}

func TestIdle_ConnectionsExpireAndAreFew(t *testing.T) {
	t.Parallel()
	client := listen(t, "n2", "c1", func(c *Config) { c.idleTimeout = 50 * time.Millisecond })
	server := listen(t, "n1", "c1", nil)
	server.Handle(kindEcho, echo)
	var group sync.WaitGroup
	for range 3 * idlePerPeerMax {
		group.Go(func() {
			if _, err := client.Call(soon(t), server.Addr(), "n1", kindEcho, nil); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	count := func() (n int) {
		client.idle.mu.Lock()
		defer client.idle.mu.Unlock()
		for _, list := range client.idle.conns {
			n += len(list)
		}
		return n
	}
	if n := count(); n > idlePerPeerMax {
		t.Fatalf("%d idle connections", n)
	}
	eventually(t, "idle connections expire", func() bool { return count() == 0 })
}

func TestListen_TakenPortIsOneSentence(t *testing.T) {
	t.Parallel()
	first := listen(t, "n1", "c1", nil)
	cfg := testConfig("n2")
	cfg.ClusterID = func() string { return "" }
	cfg.Addr = first.Addr()
	_, err := Listen(cfg)
	if err == nil || !strings.Contains(err.Error(), "cannot listen on "+first.Addr()) || strings.Contains(err.Error(), "\n") {
		t.Fatalf("taken port: %v", err)
	}
}

func TestClose_EndsCallsHandlersAndStreamsAndJoinsAll(t *testing.T) {
	t.Parallel()
	server, client := listen(t, "n1", "c1", nil), listen(t, "n2", "c1", nil)
	running := make(chan struct{})
	server.Handle(kindEcho, func(ctx context.Context, _ Peer, _ []byte) ([]byte, error) {
		close(running)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	outcome := make(chan error, 1)
	go func() {
		_, err := client.Call(soon(t), server.Addr(), "n1", kindEcho, nil)
		outcome <- err
	}()
	<-running
	stream, err := client.raft.stream.Dial(named("n1", raft.ServerAddress(server.Addr())), time.Second)
	noError(t, err)
	rawDial(t, server.Addr()) // a handshake that never comes
	noError(t, server.Close())
	if err := <-outcome; err == nil {
		t.Fatal("a call to a closed node was answered")
	}
	if _, err := stream.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && err == nil {
		t.Fatal("stream outlives Close")
	}
	noError(t, stream.Close())
	if _, err := server.Call(soon(t), client.Addr(), "n2", kindEcho, nil); !errors.Is(err, ErrNotSent) || !errors.Is(err, ErrClosed) {
		t.Fatalf("call after Close: %v", err)
	}
	if len(server.inbound.open) != 0 {
		t.Fatalf("%d connections outlive Close", len(server.inbound.open))
	}
}

func closedPort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	noError(t, err)
	defer func() { noError(t, listener.Close()) }()
	return listener.Addr().String()
}

func listenSilently(t *testing.T) string {
	t.Helper()
	return serveRaw(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
}

// serveRaw answers each connection with serve until the test ends.
func serveRaw(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	noError(t, err)
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer func() { _ = conn.Close() }()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		group.Wait()
	})
	return listener.Addr().String()
}
