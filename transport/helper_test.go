package transport

import (
	"context"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testNode is a transport whose cluster id can be set while it runs.
type testNode struct {
	*Transport
	cluster atomic.Value // string
}

func testConfig(id string) Config {
	return Config{
		Addr:             "127.0.0.1:0",
		Self:             Identity{NodeID: id, Incarnation: id + "-1"},
		AcceptRaft:       func(Peer) error { return nil },
		VotesAllowed:     func() bool { return true },
		Logger:           slog.New(slog.DiscardHandler),
		RaftTimeout:      2 * time.Second,
		handshakeTimeout: 2 * time.Second,
	}
}

func listen(t *testing.T, id, cluster string, change func(*Config)) *testNode {
	t.Helper()
	n := &testNode{}
	n.cluster.Store(cluster)
	cfg := testConfig(id)
	cfg.ClusterID = func() string { return n.cluster.Load().(string) }
	if change != nil {
		change(&cfg)
	}
	var err error
	n.Transport, err = Listen(cfg)
	noError(t, err)
	t.Cleanup(func() { noError(t, n.Close()) })
	return n
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(15 * time.Second)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("never happened: %s", what)
		case <-ticker.C:
		}
	}
}

// soon is a context that no test should see end.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func rawDial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	noError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	noError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	return conn
}

const kindEcho CallKind = 7

func echo(_ context.Context, _ Peer, request []byte) ([]byte, error) { return request, nil }
