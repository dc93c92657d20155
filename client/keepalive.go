package client

import (
	"context"
	"errors"
	"time"

	"github.com/quiescehq/quiesce/api"
)

const (
	// parkPerTTL makes a keepalive wait for news for a quarter of the TTL at most. A node that hangs in that time is given up after another
	// sixth, which leaves a quarter of the TTL to ask another one before this side must count its locks as lost.
	parkPerTTL = 4
	// newsPause is the least time between an answer that came early and the next keepalive. It doubles with each further one up to
	// newsPauseMax, so that a service whose instances all change does not keep everyone asking.
	newsPause    = 10 * time.Millisecond
	newsPauseMax = 250 * time.Millisecond
)

// parking is how it goes with keepalives that wait for news.
type parking struct {
	failed bool // the last one: the next one is answered at once
	early  int  // answers in a row that came before their time
}

var errNudged = errors.New("client: there is something to tell")

// nudge makes run look at once whether there is something to tell.
func (m *member) nudge() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.interrupt != nil {
		m.interrupt()
	}
}

// run keeps the coordinator's view up to date, and this side's of the coordinator, until ctx ends or the instance is fenced.
func (m *member) run(ctx context.Context) {
	for {
		next, err := m.step(ctx)
		if saysFenced(err) {
			if !m.isLeaving() {
				m.fence(err)
			}
			return
		}
		if err != nil && ctx.Err() == nil {
			m.app.log.Warn("the coordinator cannot be told", "error", err)
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-m.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// step tells what is to be told, and when to come again.
func (m *member) step(ctx context.Context) (next time.Duration, err error) {
	select {
	case <-m.wake: // what it stands for is looked at here
	default:
	}
	again := jittered(min(m.app.options.leaseTTL/keepalivesPerTTL, backoffMax)) // a failure has taken its time already
	if m.currentLease() == nil {
		if err := m.register(ctx); err != nil {
			return again, err
		}
		m.parking = parking{}
	}
	if m.mustTellReady() {
		if err := m.tellReady(ctx); err != nil {
			return again, err
		}
	}
	return m.keepalive(ctx)
}

// keepalive renews the lease at once and hears of news when there are some.
func (m *member) keepalive(ctx context.Context) (next time.Duration, err error) {
	ctx, done := m.interruptible(ctx)
	defer done()
	l, p := m.currentLease(), &m.parking
	path, body := m.keepaliveBody()
	var wait time.Duration
	if !p.failed && len(m.wake) == 0 {
		wait = jittered(l.ttl / parkPerTTL)
	}
	body.WaitMs = millis(wait)
	var got api.InstanceLease
	ask := m.app.client.keepaliveCall(path, l.ttl, body, &got)
	if wait > 0 {
		ask.parks, ask.retryFor = wait, 1 // another attempt is to be answered at once
	}
	rep, err := m.app.client.do(ctx, ask)
	if err != nil {
		p.failed = true
		if errors.Is(context.Cause(ctx), errNudged) {
			p.failed = false
			return 0, nil
		}
		if wait > 0 && !saysFenced(err) {
			return 0, nil // the next one says so, if it is not answered either
		}
		return jittered(min(l.ttl/keepalivesPerTTL, backoffMax)), err
	}
	m.app.client.renewed(l.renew(rep.sent, time.Duration(got.DeadlineInMs)*time.Millisecond, got.Revoked))
	return p.after(wait, time.Since(rep.sent), m.hear(rep.sent, got), l.ttl), nil
}

// after is when the next keepalive is to follow one that was answered.
func (p *parking) after(wait, took time.Duration, news bool, ttl time.Duration) time.Duration {
	retried := p.failed
	p.failed = false
	switch {
	case retried: // whatever stood in the way may do so again
		return jittered(min(ttl/keepalivesPerTTL, backoffMax))
	case took >= wait/2:
		p.early = 0
		return 0
	case !news: // this coordinator does not wait
		return jittered(ttl / keepalivesPerTTL)
	}
	p.early++
	return min(newsPauseMax, newsPause<<min(p.early, 10))
}

// interruptible gives the context of a keepalive that nudge can end.
func (m *member) interruptible(parent context.Context) (ctx context.Context, done func()) {
	ctx, cancel := context.WithCancelCause(parent)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.interrupt = func() { cancel(errNudged) }
	return ctx, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.interrupt = nil
		cancel(context.Canceled)
	}
}

// keepaliveBody is what a keepalive says, but for how long it waits.
func (m *member) keepaliveBody() (path string, body api.KeepaliveInstance) {
	body.Counters = m.app.readCounters()
	body.Connections = m.app.connections.read() // always: the coordinator knows what is new, and what it could not log
	path, body.Incarnation = m.address("keepalive")
	m.mu.Lock()
	defer m.mu.Unlock()
	body.After = m.index
	return path, body
}

func (m *member) isLeaving() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.leaving
}
