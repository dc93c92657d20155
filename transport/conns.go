package transport

import (
	"net"
	"sync"
)

// connSet tracks connections from outside so that Close can end them and wait until each owner has let go.
type connSet struct {
	limit int
	mu    sync.Mutex
	open  map[*trackedConn]struct{}
	ended bool
	owned sync.WaitGroup
}

// trackedConn counts as released when its owner calls Close: the raft library's handler, whose goroutine we
// cannot join, does that as its last act.
type trackedConn struct {
	net.Conn
	set  *connSet
	once sync.Once
}

func newConnSet(limit int) *connSet {
	return &connSet{limit: limit, open: make(map[*trackedConn]struct{})}
}

func (s *connSet) add(conn net.Conn) (*trackedConn, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || len(s.open) >= s.limit {
		return nil, false
	}
	tracked := &trackedConn{Conn: conn, set: s}
	s.open[tracked] = struct{}{}
	s.owned.Add(1)
	return tracked, true
}

func (c *trackedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.set.mu.Lock()
		delete(c.set.open, c)
		c.set.mu.Unlock()
		c.set.owned.Done()
	})
	return err
}

// closeAll ends the connections below their owners, whose reads then fail.
func (s *connSet) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for conn := range s.open {
		_ = conn.Conn.Close()
	}
}

func (s *connSet) wait() { s.owned.Wait() }
