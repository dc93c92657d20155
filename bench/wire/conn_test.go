package wire_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/quiescehq/quiesce/bench/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func dial(t *testing.T, addr string) *wire.Conn {
	t.Helper()
	c, err := wire.Dial(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestConn_SpeaksToARealServerOverOneConnection(t *testing.T) {
	t.Parallel()
	connections := map[string]bool{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connections[r.RemoteAddr] = true
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/none":
			w.WriteHeader(http.StatusNoContent)
		case "/chunks": // flushed in parts, and larger than any buffer of the client
			for range 100 {
				_, _ = io.WriteString(w, strings.Repeat("x", 1_000))
				w.(http.Flusher).Flush()
			}
		case "/refuse":
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, "no")
		default:
			_, _ = io.WriteString(w, r.Method+" "+r.Header.Get("Idempotency-Key")+" "+r.Header.Get("Idempotency-Acked")+" "+string(body))
		}
	}))
	defer server.Close()
	c := dial(t, server.Listener.Addr().String())
	for _, step := range []struct {
		request wire.Request
		status  int
		body    string
	}{
		{wire.Request{Method: "POST", Path: "/", Key: "c/7", Acked: 6, Body: []byte("hello")}, 200, "POST c/7 6 hello"},
		{wire.Request{Method: "DELETE", Path: "/none"}, 204, ""},
		{wire.Request{Method: "POST", Path: "/chunks"}, 200, strings.Repeat("x", 100_000)},
		{wire.Request{Method: "POST", Path: "/refuse"}, 409, "no"},
		{wire.Request{Method: "POST", Path: "/", Body: []byte("again")}, 200, "POST   again"},
	} {
		status, body, err := c.Do(step.request)
		if err != nil || status != step.status || string(body) != step.body {
			t.Fatalf("%s: %d %.50q %v, want %d %.50q", step.request.Path, status, body, err, step.status, step.body)
		}
	}
	if len(connections) != 1 {
		t.Errorf("%d connections were used", len(connections))
	}
}

func TestConn_RefusesWhatItDoesNotUnderstand(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{
		"HTTP\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
	} {
		client, server := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = http.ReadRequest(bufio.NewReader(server))
			_, _ = io.WriteString(server, answer)
		}()
		_, _, err := wire.Over(client, "test").Do(wire.Request{Method: "GET", Path: "/"})
		if !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%q: %v", answer, err)
		}
		_, _ = client.Close(), server.Close()
		<-done
	}
}
