package client

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"
)

// goodbyesAtOnce bounds the goroutines that say goodbye on hijacked connections.
const goodbyesAtOnce = 64

// Stream gives the context of an answer that goes on for as long as the client listens: server-sent events, a long poll. It ends with the
// request, and when the instance begins to refuse requests: then say goodbye, so that the client asks another instance, and return. The
// server's WriteTimeout does not hold for the answer any more.
func (a *App) Stream(w http.ResponseWriter, r *http.Request) context.Context {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // of a writer that has no deadline there is none to lift
	work := a.Context()
	ctx, cancel := context.WithCancelCause(r.Context())
	stop := context.AfterFunc(work, func() { cancel(context.Cause(work)) })
	context.AfterFunc(r.Context(), func() {
		stop()
		cancel(context.Cause(r.Context()))
	})
	return ctx
}

// Hijacked hands over a connection that was taken from the HTTP server, such as a WebSocket, which the server does not close any more. When
// the instance begins to refuse requests, goodbye is called, unless it is nil, to send what the protocol has for that (1001 in a
// WebSocket), and then the connection is closed, whether goodbye has heeded its context or not. Call forget when the connection ends by
// itself. While the instance refuses requests, a connection is closed at once.
func (a *App) Hijacked(c io.Closer, goodbye func(ctx context.Context)) (forget func()) {
	h := &hijacked{conn: c, goodbye: goodbye}
	if !a.hijacked.add(h) {
		_ = c.Close() // the client finds another instance
	}
	return func() { a.hijacked.remove(h) }
}

type hijacked struct {
	conn    io.Closer
	goodbye func(ctx context.Context)
}

// hijackedSet holds as many as there are connections, which the system bounds.
type hijackedSet struct {
	mu     sync.Mutex
	set    map[*hijacked]struct{}
	closed bool
}

func (s *hijackedSet) add(h *hijacked) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if s.set == nil {
		s.set = map[*hijacked]struct{}{}
	}
	s.set[h] = struct{}{}
	return true
}

func (s *hijackedSet) remove(h *hijacked) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.set, h)
}

// renew takes connections again.
func (s *hijackedSet) renew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = false
}

// close closes all, in order as long as ctx allows, and takes no more.
func (s *hijackedSet) close(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	all := make(chan *hijacked, len(s.set))
	for h := range s.set {
		all <- h
	}
	clear(s.set)
	s.mu.Unlock()
	close(all)
	var closing sync.WaitGroup
	for range min(goodbyesAtOnce, len(all)) {
		closing.Go(func() {
			for h := range all {
				h.close(ctx)
			}
		})
	}
	closing.Wait()
}

// close leaves a goodbye behind that does not heed its context: what it writes to is closed under it.
func (h *hijacked) close(ctx context.Context) {
	defer h.conn.Close() //nolint:errcheck // nobody is left to tell
	if h.goodbye == nil || ctx.Err() != nil {
		return
	}
	said := make(chan struct{})
	go func() {
		defer close(said)
		defer func() { _ = recover() }() // one bad connection must not end the process
		h.goodbye(ctx)
	}()
	select {
	case <-said:
	case <-ctx.Done():
	}
}
