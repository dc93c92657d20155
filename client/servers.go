package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// servers are the HTTP servers of one Run.
type servers struct {
	list   []*http.Server
	open   []net.Listener
	joined sync.WaitGroup

	mu    sync.Mutex
	fresh map[net.Conn]struct{} // connected, and nothing was sent yet
	busy  map[net.Conn]struct{} // with a request under way

	hastened bool
}

// listen opens all listeners or none.
func listen(list []*http.Server) (*servers, error) {
	s := &servers{list: list, fresh: map[net.Conn]struct{}{}, busy: map[net.Conn]struct{}{}}
	for _, server := range list {
		l, err := net.Listen("tcp", server.Addr)
		if err != nil {
			for _, opened := range s.open {
				err = errors.Join(err, opened.Close())
			}
			return nil, fmt.Errorf("listen on %s: %w", server.Addr, err)
		}
		s.open = append(s.open, l)
	}
	return s, nil
}

// serve starts the servers. failed is called when one ends that was not shut down.
func (s *servers) serve(failed func(error)) {
	for i, server := range s.list {
		server.ConnState = s.watch(server.ConnState)
		s.joined.Go(func() {
			if err := server.Serve(s.open[i]); !errors.Is(err, http.ErrServerClosed) {
				failed(fmt.Errorf("serve on %s: %w", server.Addr, err))
			}
		})
	}
}

// watch keeps the connections on which nothing was sent, for http.Server.Shutdown would wait five seconds for each, in case something
// comes, and those with a request under way.
func (s *servers) watch(next func(net.Conn, http.ConnState)) func(net.Conn, http.ConnState) {
	return func(c net.Conn, state http.ConnState) {
		s.mu.Lock()
		delete(s.fresh, c)
		delete(s.busy, c)
		switch state {
		case http.StateNew:
			s.fresh[c] = struct{}{}
		case http.StateActive:
			s.busy[c] = struct{}{}
		}
		s.mu.Unlock()
		if next != nil {
			next(c, state)
		}
	}
}

func (s *servers) closeFresh() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.fresh {
		_ = c.Close() // nothing was sent on it, so nothing is lost
	}
}

// hasten ends what a handler waits for that does not end with its context: the rest of a body that does not come, and a client that does
// not read its answer. Reading is over now, writing at until. The requests of HTTP/2 share a connection and are not touched.
func (s *servers) hasten(until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hastened = true
	s.deadlinesLocked(time.Now(), until)
}

// resume takes back what hasten did. The next request on a connection sets its own deadline for reading, but not always for writing.
func (s *servers) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hastened {
		s.hastened = false
		s.deadlinesLocked(time.Time{}, time.Time{})
	}
}

func (s *servers) deadlinesLocked(reading, writing time.Time) {
	for c := range s.busy {
		if t, ok := c.(*tls.Conn); ok && t.ConnectionState().NegotiatedProtocol == "h2" {
			continue
		}
		_ = c.SetReadDeadline(reading) // one that is closed needs none
		_ = c.SetWriteDeadline(writing)
	}
}

// shutdown closes the servers: in order as long as ctx allows, then the hard way. It waits for the goroutines of serve.
func (s *servers) shutdown(ctx context.Context) error {
	errs := make([]error, len(s.list))
	var closing sync.WaitGroup
	for i, server := range s.list {
		closing.Go(func() {
			if errs[i] = server.Shutdown(ctx); errs[i] != nil {
				errs[i] = errors.Join(errs[i], server.Close())
			}
		})
	}
	s.closeFresh()
	closing.Wait()
	s.joined.Wait()
	return errors.Join(errs...)
}

// abort closes the servers without waiting for anybody.
func (s *servers) abort() {
	for _, server := range s.list {
		_ = server.Close()
	}
	s.joined.Wait()
}
