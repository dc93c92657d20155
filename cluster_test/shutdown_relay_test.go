package cluster_test

import (
	"context"
	"net"
	"sync"
	"testing"

	"github.com/quiescehq/quiesce/cluster_test/harness"
)

const relayChunk = 32 << 10

// relay stands between an application and a node. While it is cut, what either side sends stays where it is, and new connections are taken and
// get no answer: as on a network that drops everything. What was sent before a side went away still arrives when the relay is healed.
type relay struct {
	addr   string
	to     string
	ctx    context.Context
	joined sync.WaitGroup

	mu    sync.Mutex
	open  chan struct{} // closed while it is not cut
	conns []net.Conn
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &relay{addr: harness.FreeAddr(t), to: to, ctx: ctx, open: make(chan struct{})}
	close(r.open)
	listener, err := net.Listen("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	r.joined.Go(func() { r.accept(listener) })
	t.Cleanup(func() {
		cancel()
		_ = listener.Close()
		r.mu.Lock()
		for _, conn := range r.conns {
			_ = conn.Close()
		}
		r.mu.Unlock()
		r.joined.Wait()
	})
	return r
}

func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open = make(chan struct{})
}

func (r *relay) heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.open)
}

// pass waits until the relay is whole.
func (r *relay) pass() bool {
	r.mu.Lock()
	open := r.open
	r.mu.Unlock()
	select {
	case <-open:
		return true
	case <-r.ctx.Done():
		return false
	}
}

func (r *relay) accept(listener net.Listener) {
	for {
		from, err := listener.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", r.to)
		if err != nil {
			_ = from.Close()
			continue
		}
		r.mu.Lock()
		r.conns = append(r.conns, from, to)
		r.mu.Unlock()
		r.joined.Go(func() { r.copy(from, to) })
		r.joined.Go(func() { r.copy(to, from) })
	}
}

func (r *relay) copy(from, to net.Conn) {
	defer to.Close()
	chunk := make([]byte, relayChunk)
	for {
		n, err := from.Read(chunk)
		if !r.pass() {
			return
		}
		if n > 0 {
			if _, err := to.Write(chunk[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
