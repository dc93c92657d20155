package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"

	"github.com/quiescehq/quiesce/client"
)

// streams are requests that do not end by themselves.
type streams struct {
	app  *client.App
	log  *slog.Logger
	held atomic.Int64
}

// events sends until the instance stops, and then says so.
func (s *streams) events(w http.ResponseWriter, r *http.Request) {
	ctx := s.app.Stream(w, r)
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(w, "event: hello\n\n")
	_ = http.NewResponseController(w).Flush()
	<-ctx.Done()
	_, _ = io.WriteString(w, "event: goodbye\n\n")
}

// poll waits for news, of which there are none, and tells the client to ask another instance.
func (s *streams) poll(w http.ResponseWriter, r *http.Request) {
	<-s.app.Stream(w, r).Done()
	w.Header().Set("Retry-After", "0")
	w.WriteHeader(http.StatusServiceUnavailable)
}

// closeFrame is what a WebSocket server sends when it goes away: code 1001.
var closeFrame = []byte{0x88, 0x02, 0x03, 0xe9}

// socket takes the connection over.
func (s *streams) socket(w http.ResponseWriter, _ *http.Request) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.log.Error("cannot hijack", "error", err)
		return
	}
	_, _ = buffered.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n")
	_ = buffered.Flush()
	s.app.Hijacked(conn, func(context.Context) { _, _ = conn.Write(closeFrame) })
}

// body reads what the client sends, however slowly.
func (s *streams) body(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		w.Header().Set("Connection", "close")
		http.Error(w, fmt.Sprintf("after %d bytes: the body did not come in time", n), http.StatusRequestTimeout)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// hang ends with its context only.
func (s *streams) hang(w http.ResponseWriter, r *http.Request) {
	s.log.Info("holding", "requests", s.held.Add(1))
	<-r.Context().Done()
	http.Error(w, "cancelled", http.StatusServiceUnavailable)
}
