package transport

import (
	"context"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// connKey says which pooled connections may carry a call. The own cluster id is part of it, because the peer knows
// us by what the handshake said: after forming, older connections no longer fit.
type connKey struct{ addr, receiver, cluster string }

// idleConns keeps call connections between calls, newest first, a few per key.
type idleConns struct {
	timeout time.Duration
	mu      sync.Mutex
	conns   map[connKey][]idleConn
	closed  bool
}

type idleConn struct {
	net.Conn
	since time.Time
}

func newIdleConns(timeout time.Duration) *idleConns {
	return &idleConns{timeout: timeout, conns: make(map[connKey][]idleConn)}
}

// take returns a connection that is not known to be dead, or nil.
func (p *idleConns) take(key connKey) net.Conn {
	for {
		conn, ok := p.pop(key)
		if !ok {
			return nil
		}
		if time.Since(conn.since) < p.timeout && quiet(conn.Conn) {
			return conn.Conn
		}
		_ = conn.Close()
	}
}

func (p *idleConns) pop(key connKey) (idleConn, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.conns[key]
	if len(list) == 0 {
		return idleConn{}, false
	}
	conn := list[len(list)-1]
	if p.conns[key] = list[:len(list)-1]; len(list) == 1 {
		delete(p.conns, key)
	}
	return conn, true
}

func (p *idleConns) put(key connKey, conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.conns[key]) >= idlePerPeerMax {
		_ = conn.Close()
		return
	}
	p.conns[key] = append(p.conns[key], idleConn{Conn: conn, since: time.Now()})
}

// expire closes connections that idled too long, until ctx ends.
func (p *idleConns) expire(ctx context.Context) {
	ticker := time.NewTicker(p.timeout / 2)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			p.closeOlder(now.Add(-p.timeout))
		}
	}
}

func (p *idleConns) closeOlder(limit time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, list := range p.conns {
		fresh := 0 // lists are in order of age
		for fresh < len(list) && list[fresh].since.Before(limit) {
			_ = list[fresh].Close()
			fresh++
		}
		if p.conns[key] = list[fresh:]; fresh == len(list) {
			delete(p.conns, key)
		}
	}
}

func (p *idleConns) closeAll() {
	p.closeOlder(time.Now().Add(time.Hour))
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.closeOlder(time.Now().Add(time.Hour))
}

// quiet tells whether an idle connection is still open with nothing to read. A peer's restart leaves an end-of-file
// waiting; writing into that succeeds and the outcome is then unknown, so it is looked for first.
// Connections that are no plain sockets (wrapped, TLS) are taken on trust.
func quiet(conn net.Conn) bool {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	open := false
	err = raw.Read(func(fd uintptr) bool {
		var one [1]byte
		_, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		open = err == unix.EAGAIN
		return true
	})
	return err == nil && open
}
