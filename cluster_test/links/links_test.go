package links_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quiescehq/quiesce/cluster_test/links"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	arrives = 10 * time.Second
	silence = 150 * time.Millisecond // long enough for loopback, where a byte takes microseconds
)

func TestLinks_StallHoldsOneDirectionAndHealingDelivers(t *testing.T) {
	t.Parallel()
	n := network(t)
	a, b := n.connect(handshake("n1", "n2"))
	send(t, a, "one")
	expect(t, b, "one")

	n.links.Stall("n1", "n2")
	send(t, a, "two")
	expectSilence(t, b)
	send(t, b, "answer")
	expect(t, a, "answer")
	if n.links.Held("n1", "n2") != 3 || n.links.Held("n2", "n1") != 0 {
		t.Errorf("held %d there and %d back", n.links.Held("n1", "n2"), n.links.Held("n2", "n1"))
	}

	n.links.Heal("n1", "n2")
	expect(t, b, "two")
	send(t, a, "three")
	expect(t, b, "three")
}

func TestLinks_StallHoldsTheAnswersToAnothersRequests(t *testing.T) {
	t.Parallel()
	n := network(t)
	a, b := n.connect(handshake("n1", "n2"))
	n.links.Stall("n2", "n1")
	send(t, a, "request")
	expect(t, b, "request")
	send(t, b, "answer")
	expectSilence(t, a)
	n.links.HealAll()
	expect(t, a, "answer")
}

func TestLinks_OtherLinksDoNotNotice(t *testing.T) {
	t.Parallel()
	n := network(t)
	for _, other := range []string{"n3", ""} {
		a, b := n.connect(handshake(other, "n2"))
		n.links.Stall("n1", "n2")
		n.links.Stall("n2", "n1")
		send(t, a, "one")
		expect(t, b, "one")
	}
}

func TestLinks_HandshakeOfANewConnectionIsHeldToo(t *testing.T) {
	t.Parallel()
	n := network(t)
	n.links.Stall("n1", "n2")
	a := n.dial()
	send(t, a, handshake("n1", "n2"))
	expectNobody(t, n.listener)
	n.links.Heal("n1", "n2")
	expect(t, n.accept(), handshake("n1", "n2"))
}

func TestLinks_ForwardedRequestIsKnownByItsHeader(t *testing.T) {
	t.Parallel()
	n := network(t)
	request := "POST /v1/locks/acquire HTTP/1.1\r\nHost: x\r\nquiesce-forwarded: n1\r\nContent-Length: 2\r\n\r\n{}"
	n.links.Stall("n1", "n2")
	own, _ := n.connect("GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
	_ = own
	a := n.dial()
	send(t, a, request)
	expectNobody(t, n.listener)
	n.links.Heal("n1", "n2")
	expect(t, n.accept(), request)
}

func TestLinks_EndOfAConnectionIsHeld(t *testing.T) {
	t.Parallel()
	n := network(t)
	a, b := n.connect(handshake("n1", "n2"))
	n.links.Stall("n1", "n2")
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	send(t, b, "to nobody") // its refusal is one of n1's words as well
	expectSilence(t, b)
	n.links.Heal("n1", "n2")
	_ = b.SetReadDeadline(time.Now().Add(arrives))
	if _, err := b.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection goes on: %v", err)
	}
}

func TestLinks_WhatAStalledLinkHoldsIsBounded(t *testing.T) {
	t.Parallel()
	n := network(t)
	a, _ := n.connect(handshake("n1", "n2"))
	n.links.Stall("n1", "n2")
	_ = a.SetWriteDeadline(time.Now().Add(silence))
	chunk := make([]byte, 1<<20)
	for range 64 {
		if _, err := a.Write(chunk); errors.Is(err, os.ErrDeadlineExceeded) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
	t.Error("the link took 64 MiB")
}

func TestLinks_NodeThatIsDownRefuses(t *testing.T) {
	t.Parallel()
	n := network(t)
	_ = n.listener.Close()
	a := n.dial()
	send(t, a, handshake("n1", "n2"))
	_ = a.SetReadDeadline(time.Now().Add(arrives))
	if _, err := a.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection goes on: %v", err)
	}
}

// two is a network in front of one node, n2.
type two struct {
	t        *testing.T
	links    *links.Links
	listener net.Listener // where n2 listens
	told     string       // where the others dial
}

func network(t *testing.T) *two {
	t.Helper()
	n := &two{t: t, links: links.New(), listener: listen(t)}
	told := listen(t)
	n.told = told.Addr().String()
	_ = told.Close()
	if err := n.links.Forward("n2", n.told, n.listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.links.Close(); _ = n.listener.Close() })
	return n
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

func (n *two) dial() net.Conn {
	n.t.Helper()
	conn, err := net.Dial("tcp", n.told)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (n *two) accept() net.Conn {
	n.t.Helper()
	_ = n.listener.(*net.TCPListener).SetDeadline(time.Now().Add(arrives))
	conn, err := n.listener.Accept()
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// connect opens a connection with first bytes, and returns both of its ends.
func (n *two) connect(first string) (dialer, node net.Conn) {
	n.t.Helper()
	dialer = n.dial()
	send(n.t, dialer, first)
	node = n.accept()
	expect(n.t, node, first)
	return dialer, node
}

func handshake(sender, receiver string) string {
	var body []byte
	for _, field := range []string{"cluster", sender, "incarnation", receiver} {
		body = append(append(body, byte(len(field))), field...)
	}
	head := []byte{'Q', 'S', 'C', 'E', 1, 1, 0, 0}
	binary.BigEndian.PutUint16(head[6:], uint16(len(body)))
	return string(head) + string(body)
}

func send(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(arrives))
	got := make([]byte, len(text))
	if _, err := io.ReadFull(bufio.NewReaderSize(conn, len(text)), got); err != nil || string(got) != text {
		t.Fatalf("%q arrived instead of %q: %v", got, text, err)
	}
}

func expectSilence(t *testing.T, conn net.Conn) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(silence))
	got := make([]byte, 1)
	if n, err := conn.Read(got); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%q arrived: %v", got[:n], err)
	}
}

func expectNobody(t *testing.T, listener net.Listener) {
	t.Helper()
	_ = listener.(*net.TCPListener).SetDeadline(time.Now().Add(silence))
	if conn, err := listener.Accept(); err == nil {
		t.Fatalf("%s reached the node", conn.RemoteAddr())
	}
}
