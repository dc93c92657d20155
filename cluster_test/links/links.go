package links

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	connsMax    = 1_024
	dialTimeout = 3 * time.Second
)

// way is a directed link.
type way struct{ from, to string }

// Links is a network. It begins with all links open.
type Links struct {
	ctx   context.Context // ends at Close
	end   context.CancelFunc
	group sync.WaitGroup

	mu        sync.Mutex
	gates     map[way]*gate
	conns     map[net.Conn]struct{}
	listeners []net.Listener
}

// New makes a network without nodes.
func New() *Links {
	ctx, end := context.WithCancel(context.Background())
	return &Links{ctx: ctx, end: end, gates: map[way]*gate{}, conns: map[net.Conn]struct{}{}}
}

// Forward hands what arrives at listen to the node's own address.
func (l *Links) Forward(node, listen, own string) error {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("the link to %s: %w", node, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		return errors.Join(net.ErrClosed, listener.Close())
	}
	l.listeners = append(l.listeners, listener)
	l.group.Go(func() { l.accept(listener, node, own) })
	return nil
}

// Stall holds back what flows from one node to another from now on.
func (l *Links) Stall(from, to string) { l.gate(from, to).stall() }

// Heal lets it flow again.
func (l *Links) Heal(from, to string) { l.gate(from, to).heal() }

// HealAll heals every link.
func (l *Links) HealAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, g := range l.gates {
		g.heal()
	}
}

// Held is how many bytes a link has held back so far, in all its stalls: 0 tells that they harmed nobody.
func (l *Links) Held(from, to string) int64 { return l.gate(from, to).held.Load() }

// Close ends all connections and joins every goroutine.
func (l *Links) Close() {
	l.end()
	l.mu.Lock()
	for _, listener := range l.listeners {
		_ = listener.Close()
	}
	for conn := range l.conns {
		_ = conn.Close()
	}
	l.mu.Unlock()
	l.group.Wait()
}

func (l *Links) gate(from, to string) *gate {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.gates[way{from, to}]
	if g == nil {
		g = newGate()
		l.gates[way{from, to}] = g
	}
	return g
}

func (l *Links) accept(listener net.Listener, node, own string) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return // closed: nothing else ends a listener on loopback but a lack of descriptors, which fails the test anyway
		}
		if l.track(conn) {
			l.group.Go(func() { l.carry(conn, node, own) })
		}
	}
}

// track remembers a connection for Close, and ends it at once when there are too many.
func (l *Links) track(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil || len(l.conns) >= connsMax {
		_ = conn.Close()
		return false
	}
	l.conns[conn] = struct{}{}
	return true
}

func (l *Links) untrack(conn net.Conn) {
	_ = conn.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, conn)
}

// carry joins a connection to the node that it was made for, as soon as its first bytes may reach it.
func (l *Links) carry(conn net.Conn, node, own string) {
	defer l.untrack(conn)
	sender, first, err := readSender(conn)
	if err != nil {
		return
	}
	there, back := l.gate(sender, node), l.gate(node, sender)
	if sender == "" {
		there, back = newGate(), newGate()
	}
	if there.pass(l.ctx, len(first)) != nil {
		return
	}
	target, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(l.ctx, "tcp", own)
	if err != nil {
		_ = back.pass(l.ctx, 0) // the refusal, too, takes the way back
		return
	}
	if !l.track(target) {
		return
	}
	defer l.untrack(target)
	if _, err := target.Write(first); err != nil {
		_ = back.pass(l.ctx, 0)
		return
	}
	var both sync.WaitGroup
	both.Go(func() { l.pump(conn, target, there, back) })
	both.Go(func() { l.pump(target, conn, back, there) })
	both.Wait()
}

const chunkBytes = 32 << 10

// pump copies one direction. An end of the source reaches the target by the same way as its bytes; that the target is gone reaches the
// source by the way back.
func (l *Links) pump(source, target net.Conn, there, back *gate) {
	chunk := make([]byte, chunkBytes)
	for {
		n, err := source.Read(chunk)
		if there.pass(l.ctx, n) != nil {
			return
		}
		if n > 0 {
			if _, gone := target.Write(chunk[:n]); gone != nil {
				_ = back.pass(l.ctx, 0)
				_ = source.Close()
				return
			}
		}
		if err != nil {
			_ = target.Close()
			return
		}
	}
}
