package replica_test

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/quiescehq/quiesce/replica"
)

// network stands between the nodes of a test: it can cut a node off, and it can hold back what a node would read.
type network struct {
	mu    sync.Mutex
	cut   map[string]bool          // addresses
	held  map[string]chan struct{} // addresses: what they are answered
	deaf  map[string]chan struct{} // addresses: what they are asked
	conns map[*conn]struct{}
}

func newNetwork() *network {
	return &network{cut: map[string]bool{}, held: map[string]chan struct{}{}, deaf: map[string]chan struct{}{}, conns: map[*conn]struct{}{}}
}

type conn struct {
	net.Conn
	net      *network
	from, to string
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.net.await(c.net.held, c.from)
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	c.net.await(c.net.deaf, c.to)
	return c.Conn.Write(b)
}

// await returns when nothing is kept from the node at the address.
func (n *network) await(kept map[string]chan struct{}, addr string) {
	n.mu.Lock()
	held := kept[addr]
	n.mu.Unlock()
	if held != nil {
		<-held
	}
}

// dialer is the Dial of the node at the address.
func (n *network) dialer(from string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, to string) (net.Conn, error) {
		n.mu.Lock()
		cut := n.cut[from] || n.cut[to]
		n.mu.Unlock()
		if cut {
			return nil, errors.New("cut off")
		}
		raw, err := new(net.Dialer).DialContext(ctx, "tcp", to)
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: raw, net: n, from: from, to: to}
		n.mu.Lock()
		n.conns[c] = struct{}{}
		n.mu.Unlock()
		return c, nil
	}
}

func (n *network) isolate(addr string) {
	n.mu.Lock()
	n.cut[addr] = true
	var broken []*conn
	for c := range n.conns {
		if c.from == addr || c.to == addr {
			broken = append(broken, c)
		}
	}
	n.mu.Unlock()
	for _, c := range broken {
		_ = c.Close()
	}
}

func (n *network) heal(addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.cut, addr)
}

// hold keeps back what the node at the address is answered, deafen what it is asked, until the returned function is called.
func (n *network) hold(addr string) (release func())   { return n.keep(n.held, addr) }
func (n *network) deafen(addr string) (release func()) { return n.keep(n.deaf, addr) }

func (n *network) keep(kept map[string]chan struct{}, addr string) (release func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	held := make(chan struct{})
	kept[addr] = held
	return sync.OnceFunc(func() {
		n.mu.Lock()
		delete(kept, addr)
		n.mu.Unlock()
		close(held)
	})
}

func (n *network) tune(cfg *replica.Config) { cfg.Dial = n.dialer(cfg.PeerAddr) }
