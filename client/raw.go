package client

import (
	"context"
	"net/http"
	"time"
)

// Call is the way to endpoints that this package has no method for: path is below the base URL, with its query; body and answer are JSON,
// or nil. Attempts, leader and errors are those of every call; a mutating one is sent again only under the idempotency key of its first
// attempt. It is for what is answered at once, not for requests that wait at the node.
func (c *Client) Call(ctx context.Context, method, path string, body, answer any) error {
	_, err := c.do(ctx, call{method: method, path: path, body: body, answer: answer, keyed: method != http.MethodGet})
	return err
}

// Remaining is how long the session's locks can be relied on if no keepalive is answered any more: when it is 0 or less, Lock.Done is
// closed.
func (s *Session) Remaining() time.Duration {
	s.lease.mu.Lock()
	defer s.lease.mu.Unlock()
	return time.Until(s.lease.until)
}
