package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quiescehq/quiesce/api"
)

// SessionTTLDefault is several times the longest leaderless gap that a failover makes.
const SessionTTLDefault = 10 * time.Second

// ErrSessionClosed is the Err of a session after Close.
var ErrSessionClosed = errors.New("client: the session was closed")

// Session is a lease that locks belong to. The client keeps it alive, with one request for all its sessions, until Close.
type Session struct {
	locking
	lease *lease
}

// OpenSession opens a session. The name is for people; a ttl of 0 means SessionTTLDefault. ctx bounds the opening only.
func (c *Client) OpenSession(ctx context.Context, name string, ttl time.Duration) (*Session, error) {
	ttl = orDefault(ttl, SessionTTLDefault)
	opened, sent, err := c.openSession(ctx, api.OpenSession{Name: name, TTLMs: millis(ttl)})
	if err != nil {
		return nil, fmt.Errorf("open a session: %w", err)
	}
	l := newLease(opened.ID, ttl, sent)
	s := &Session{locking: locking{client: c, current: func() (*lease, error) { return l, nil }}, lease: l}
	if err := c.keeper.add(l); err != nil {
		l.end(ErrSessionClosed)
		return nil, fmt.Errorf("open a session: %w", err)
	}
	return s, nil
}

func (c *Client) openSession(ctx context.Context, body api.OpenSession) (opened api.Session, sent time.Time, err error) {
	o, err := newOp(api.OpOpenSession, body)
	if err != nil {
		return opened, sent, err
	}
	o.keep, o.tidy = true, c.closeUnclaimed
	if err := c.batches.do(ctx, o); err != nil {
		return opened, sent, err
	}
	err = o.result(&opened)
	return opened, o.sent, err
}

// closeUnclaimed closes a session whose opener has turned away.
func (c *Client) closeUnclaimed(o *op) {
	var opened api.Session
	if !o.orphan || o.result(&opened) != nil {
		return
	}
	c.batches.fire(closing(opened.ID))
}

func closing(session string) *op {
	return &op{name: api.OpCloseSession, id: session, sticky: true, keep: true, done: make(chan struct{})}
}

// ID names the session at the coordinator.
func (s *Session) ID() string { return s.lease.session }

// Done is closed when the session is over: closed, or gone at the coordinator. See Err.
func (s *Session) Done() <-chan struct{} { return s.lease.done }

// Err says why the session is over: ErrSessionClosed, ErrSessionGone, or nil while it is not.
func (s *Session) Err() error { return s.lease.err() }

// Close ends the session and with it all its locks, here at once and at the coordinator within ctx, else when the TTL has passed.
func (s *Session) Close(ctx context.Context) error {
	already := s.lease.err()
	s.client.keeper.remove(s.lease)
	s.lease.end(ErrSessionClosed)
	if already != nil {
		return nil
	}
	if err := s.client.batches.do(ctx, closing(s.lease.session)); err != nil && !errors.Is(err, ErrSessionGone) {
		return fmt.Errorf("close the session: %w", err)
	}
	return nil
}

// renewed releases what was given up while a lease looked lost. Otherwise its own session would stand in the way of whoever asks for it
// again.
func (c *Client) renewed(lapsed []*hold) {
	for _, h := range lapsed {
		h.giveUp()
	}
}

func millis(d time.Duration) uint64 { return uint64(max(0, d.Milliseconds())) }
