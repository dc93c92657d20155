package client

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/quiescehq/quiesce/api"
)

const (
	keepalivesPerTTL = 3
	// keepaliveTimeout is a part of the TTL too: a node that hangs must leave time to ask another one.
	keepaliveTimeoutsPerTTL = 6
	// keepaliveSlack is how much earlier than due a session is renewed when others are: so those that were opened at different times come
	// to share a request.
	keepaliveSlack = 12 // TTL / keepaliveSlack
	// keepalivesOut is how many requests are on their way at a time.
	keepalivesOut = 4
)

// keeper renews the leases of all sessions of a client, up to api.KeepaliveIDsMax with one request. Its goroutine runs while there is a
// session.
type keeper struct {
	client *Client
	wake   chan struct{} // holds one
	slots  chan struct{}

	mu      sync.Mutex
	kept    map[*lease]*kept
	running bool
	closed  bool
}

// kept is a lease and when it is to be renewed.
type kept struct {
	lease *lease
	due   time.Time
	away  bool // a request for it is on its way
}

func newKeeper(c *Client) *keeper {
	return &keeper{client: c, wake: make(chan struct{}, 1), slots: make(chan struct{}, keepalivesOut), kept: map[*lease]*kept{}}
}

func (k *keeper) add(l *lease) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return ErrClosed
	}
	k.kept[l] = &kept{lease: l, due: time.Now().Add(jittered(l.ttl / keepalivesPerTTL))}
	if !k.running {
		k.running = true
		k.client.joined.Go(k.run)
	}
	k.nudge()
	return nil
}

func (k *keeper) remove(l *lease) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.kept, l)
	k.nudge()
}

// close refuses later sessions, so that Client.Close can wait for the goroutines.
func (k *keeper) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
}

func (k *keeper) nudge() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *keeper) run() {
	for {
		due, wait, some := k.collect(time.Now())
		if !some {
			return
		}
		for part := range slices.Chunk(due, api.KeepaliveIDsMax) {
			k.slots <- struct{}{} // each is bounded in time, so there is room again
			k.client.joined.Go(func() {
				defer func() { <-k.slots }()
				k.renew(part)
			})
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-k.wake:
		case <-k.client.life.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// collect takes the sessions that are due, shortest TTL first, and tells when the next ones will be. Without any session it ends the
// running.
func (k *keeper) collect(now time.Time) (due []*kept, wait time.Duration, some bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.kept) == 0 {
		k.running = false
		return nil, 0, false
	}
	soonest := time.Duration(1<<63 - 1)
	for _, s := range k.kept {
		if !s.away {
			soonest = min(soonest, s.due.Sub(now))
		}
	}
	if soonest > 0 {
		return nil, soonest, true
	}
	for _, s := range k.kept {
		if !s.away && s.due.Sub(now) <= s.lease.ttl/keepaliveSlack {
			s.away = true
			due = append(due, s)
		}
	}
	slices.SortFunc(due, func(a, b *kept) int { return cmp.Compare(a.lease.ttl, b.lease.ttl) })
	return due, 0, true
}

// renew sends one keepalive for some sessions, the first of which has the shortest TTL.
func (k *keeper) renew(some []*kept) {
	ids := make([]string, len(some))
	for i, s := range some {
		ids[i] = s.lease.session
	}
	var leases api.SessionLeases
	rep, err := k.client.do(k.client.life, k.client.keepaliveCall("/v1/sessions/keepalive", some[0].lease.ttl, api.KeepaliveSessions{IDs: ids}, &leases))
	switch {
	case errors.Is(err, ErrSessionGone): // all of them
		leases.Sessions = make([]api.SessionLease, len(some))
		for i := range some {
			leases.Sessions[i].Gone = true
		}
	case err == nil && len(leases.Sessions) != len(some):
		err = fmt.Errorf("client: %d sessions were answered with %d leases", len(some), len(leases.Sessions))
		leases.Sessions = nil
	}
	if err != nil && leases.Sessions == nil && k.client.life.Err() == nil {
		k.client.log.Warn("keepalive failed", "sessions", len(some), "error", err)
	}
	for i, answer := range leases.Sessions {
		k.hear(some[i].lease, rep.sent, answer)
	}
	k.schedule(some, leases.Sessions == nil)
}

func (k *keeper) hear(l *lease, sent time.Time, answer api.SessionLease) {
	if !answer.Gone {
		k.client.renewed(l.renew(sent, time.Duration(answer.RemainingMs)*time.Millisecond, answer.Revoked))
		return
	}
	if l.err() == nil {
		k.client.log.Warn("session is gone", "session", l.session)
	}
	l.end(ErrSessionGone)
	k.remove(l)
}

// schedule draws one moment for all sessions of a TTL, so that those that share a request go on sharing it.
func (k *keeper) schedule(some []*kept, failed bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now, factor := time.Now(), early()
	for _, s := range some {
		period := s.lease.ttl / keepalivesPerTTL
		if failed { // that has taken a while already
			period = min(period, backoffMax)
		}
		s.due, s.away = now.Add(time.Duration(float64(period)*factor)), false
	}
	k.nudge()
}

// keepaliveCall carries no key: a keepalive may be repeated, and its result must not be an old one.
func (c *Client) keepaliveCall(path string, ttl time.Duration, body, answer any) call {
	return call{method: http.MethodPost, path: path, body: body, answer: answer,
		timeout: min(c.requestTimeout, ttl/keepaliveTimeoutsPerTTL), retryFor: min(c.retryFor, ttl/keepalivesPerTTL)}
}
