package transport

import (
	"context"
	"net"
	"testing"
	"time"
)

func TestListen_IncomingConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	noError(t, err)
	server := listen(t, "n1", "c1", func(c *Config) { c.Addr, c.Listener = "", listener })
	client := listen(t, "n2", "c1", nil)
	open := func() (net.Conn, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return client.connect(ctx, server.Addr(), hello{purpose: purposeCall, cluster: "c1", sender: client.cfg.Self})
	}
	var conns []net.Conn
	for range inboundConnsMax {
		conn, err := open()
		noError(t, err)
		conns = append(conns, conn)
	}
	if conn, err := open(); err == nil {
		_ = conn.Close()
		t.Fatalf("connection %d was taken in", inboundConnsMax+1)
	}
	noError(t, conns[0].Close())
	eventually(t, "a place becomes free", func() bool {
		conn, err := open()
		if err == nil {
			conns[0] = conn
		}
		return err == nil
	})
	for _, conn := range conns {
		_ = conn.Close()
	}
}

func TestListen_RefusesAnIncompleteConfig(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*Config){
		"no node id":     func(c *Config) { c.Self.NodeID = "" },
		"no incarnation": func(c *Config) { c.Self.Incarnation = "" },
		"long node id":   func(c *Config) { c.Self.NodeID = string(make([]byte, stringBytesMax+1)) },
		"no filter":      func(c *Config) { c.VotesAllowed = nil },
		"no hook":        func(c *Config) { c.AcceptRaft = nil },
	} {
		cfg := testConfig("n1")
		cfg.ClusterID = func() string { return "" }
		spoil(&cfg)
		if _, err := Listen(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
