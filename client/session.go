package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/quiescehq/quiesce/api"
)

const (
	// SessionTTLDefault is several times the longest leaderless gap that a failover makes.
	SessionTTLDefault = 10 * time.Second

	keepalivesPerTTL = 3
	// keepaliveTimeout is a part of the TTL too: a node that hangs must leave time to ask another one.
	keepaliveTimeoutsPerTTL = 6
)

// ErrSessionClosed is the Err of a session after Close.
var ErrSessionClosed = errors.New("client: the session was closed")

// Session is a lease that locks belong to, kept alive by a goroutine until Close.
type Session struct {
	client *Client
	lease  *lease
	stop   context.CancelFunc
	joined chan struct{}
}

// OpenSession opens a session. The name is for people; a ttl of 0 means SessionTTLDefault. ctx bounds the opening only.
func (c *Client) OpenSession(ctx context.Context, name string, ttl time.Duration) (*Session, error) {
	ttl = orDefault(ttl, SessionTTLDefault)
	var opened api.Session
	rep, err := c.do(ctx, post("/v1/sessions", api.OpenSession{Name: name, TTLMs: millis(ttl)}, &opened))
	if err != nil {
		return nil, fmt.Errorf("open a session: %w", err)
	}
	s := &Session{client: c, lease: newLease(opened.ID, ttl, rep.sent), joined: make(chan struct{})}
	ctx, s.stop = context.WithCancel(c.life)
	c.joined.Go(func() {
		defer close(s.joined)
		s.run(ctx)
	})
	return s, nil
}

// ID names the session at the coordinator.
func (s *Session) ID() string { return s.lease.session }

// Done is closed when the session is over: closed, or gone at the coordinator. See Err.
func (s *Session) Done() <-chan struct{} { return s.lease.done }

// Err says why the session is over: ErrSessionClosed, ErrSessionGone, or nil while it is not.
func (s *Session) Err() error { return s.lease.err() }

// Lock takes the exclusive lock of a name, or waits for it. See [App.Lock].
func (s *Session) Lock(ctx context.Context, name string, opts ...LockOption) (*Lock, error) {
	return s.client.acquire(ctx, s.lease, name, opts)
}

// Close ends the session and with it all its locks, here at once and at the coordinator within ctx, else when the TTL has passed.
func (s *Session) Close(ctx context.Context) error {
	s.stop()
	<-s.joined
	already := s.lease.err()
	s.lease.end(ErrSessionClosed)
	if already != nil {
		return nil
	}
	_, err := s.client.do(ctx, call{method: http.MethodDelete, path: "/v1/sessions/" + s.lease.session, keyed: true})
	if err != nil && !errors.Is(err, ErrSessionGone) {
		return fmt.Errorf("close the session: %w", err)
	}
	return nil
}

func (s *Session) run(ctx context.Context) {
	ticker := time.NewTicker(s.lease.ttl / keepalivesPerTTL)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := s.keepalive(ctx)
		switch {
		case errors.Is(err, ErrSessionGone):
			s.client.log.Warn("session is gone", "session", s.lease.session)
			s.lease.end(ErrSessionGone)
			return
		case err != nil && ctx.Err() == nil:
			s.client.log.Warn("keepalive failed", "session", s.lease.session, "error", err)
		}
	}
}

func (s *Session) keepalive(ctx context.Context) error {
	var leases api.SessionLeases
	r := keepaliveCall("/v1/sessions/keepalive", s.lease.ttl, api.KeepaliveSessions{IDs: []string{s.lease.session}}, &leases)
	rep, err := s.client.do(ctx, r)
	if err != nil {
		return err
	}
	if len(leases.Sessions) != 1 || leases.Sessions[0].Gone {
		return ErrSessionGone
	}
	s.client.renew(ctx, s.lease, rep.sent, leases.Sessions[0].RemainingMs)
	return nil
}

// keepaliveCall carries no key: a keepalive may be repeated, and its result must not be an old one.
func keepaliveCall(path string, ttl time.Duration, body, answer any) call {
	return call{method: http.MethodPost, path: path, body: body, answer: answer,
		timeout: ttl / keepaliveTimeoutsPerTTL, retryFor: ttl / keepalivesPerTTL}
}

// renew extends a lease, and releases what was given up while it looked lost. Otherwise this session itself would stand in the way when
// it asks for such a lock again.
func (c *Client) renew(ctx context.Context, l *lease, sent time.Time, remainingMs uint64) {
	for _, lock := range l.renew(sent, time.Duration(remainingMs)*time.Millisecond) {
		if err := c.release(ctx, l.session, lock.name, lock.token); err != nil && !errors.Is(err, ErrNotHolder) {
			c.log.Warn("a lock that was given up could not be released", "lock", lock.name, "error", err)
		}
	}
}

func millis(d time.Duration) uint64 { return uint64(max(0, d.Milliseconds())) }
