package cluster_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
)

// What the tests of faults share: the tokens that were given, a holder that lives, and holders that died.

const (
	holderTTL   = 4 * time.Second
	keepEvery   = 250 * time.Millisecond
	releasePoll = 20 * time.Millisecond
)

// ledger is every token that anybody was told of.
type ledger struct {
	mu     sync.Mutex
	given  map[uint64]string
	high   uint64
	last   time.Time     // a token was given
	silent time.Duration // in which none was, though they are asked for all the time: nobody led
	faults []string
}

// note takes a token that was given for a lock, asked for after a moment at which none above floor had been seen.
func (l *ledger) note(token uint64, name string, floor uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.given == nil {
		l.given = map[uint64]string{}
	}
	if other, twice := l.given[token]; twice {
		l.faults = append(l.faults, fmt.Sprintf("token %d was given for %s and for %s", token, other, name))
	}
	if token <= floor {
		l.faults = append(l.faults, fmt.Sprintf("token %d was given for %s after somebody had seen %d", token, name, floor))
	}
	now := time.Now()
	if gap := now.Sub(l.last); !l.last.IsZero() && gap > silence {
		l.silent += gap
	}
	l.given[token], l.high, l.last = name, max(l.high, token), now
}

// silence is longer than drawers leave between their requests.
const silence = 10 * loadPace

// leaderless is how long nobody can have led so far.
func (l *ledger) leaderless() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.silent
}

// highest is the greatest token that anybody has seen.
func (l *ledger) highest() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.high
}

func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.given)
}

func (l *ledger) check(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, fault := range l.faults[:min(len(l.faults), complaintsMax)] {
		t.Error(fault)
	}
	t.Logf("%d tokens, the last %d", len(l.given), l.high)
}

// take acquires a free lock through any node, and enters its token.
func (l *ledger) take(c *harness.Cluster, session, name string) uint64 {
	floor := l.highest()
	token := acquire(c, session, name)
	l.note(token, name, floor)
	return token
}

// ask sends one request until it is answered, through the given node first.
func ask(ctx context.Context, k *harness.Caller, method, path string, body, into any) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, loadRetry)
	defer cancel()
	answer, err := k.Do(ctx, harness.Request{Method: method, Path: path, Body: body})
	if err == nil {
		err = answer.Into(into)
	}
	return answer.Status, err
}

// draw takes new locks without end through one node, for a session that outlives the test.
func (l *ledger) draw(ctx context.Context, c *harness.Cluster, first *harness.Node, session string) {
	caller := c.Caller(first)
	pace := time.NewTicker(loadPace)
	defer pace.Stop()
	for {
		select {
		case <-pace.C:
		case <-ctx.Done():
			return
		}
		name, floor := "drawn/"+rand.Text(), l.highest()
		var got api.Acquired
		_, err := ask(ctx, caller, http.MethodPost, "/v1/locks/acquire", api.AcquireLocks{Session: session, Locks: []api.LockWanted{{Name: name}}}, &got)
		switch {
		case ctx.Err() != nil:
		case err != nil || len(got.Grants) != 1:
			l.mu.Lock()
			l.faults = append(l.faults, fmt.Sprintf("%s: %+v %v", name, got, err))
			l.mu.Unlock()
		default:
			l.note(got.Grants[0].Token, name, floor)
		}
	}
}

// living is a session that is kept alive, and a lock that it holds all the while.
type living struct {
	t             *testing.T
	c             *harness.Cluster
	session, lock string
	token         uint64
	stop          func()

	mu    sync.Mutex
	kept  int
	fault error
}

func keepAlive(t *testing.T, c *harness.Cluster, tokens *ledger, ttl time.Duration) *living {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &living{t: t, c: c, session: openSession(c, ttl), lock: "live/" + rand.Text()}
	acknowledged := time.Now()
	l.token = tokens.take(c, l.session, l.lock)
	var joined sync.WaitGroup
	l.stop = func() { cancel(); joined.Wait() }
	t.Cleanup(l.stop)
	joined.Go(func() { l.keep(ctx, ttl, acknowledged) })
	return l
}

func (l *living) keep(ctx context.Context, ttl time.Duration, acknowledged time.Time) {
	caller := l.c.Caller()
	every := time.NewTicker(keepEvery)
	defer every.Stop()
	for {
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
		sent := time.Now()
		var leases api.SessionLeases
		status, err := ask(ctx, caller, http.MethodPost, "/v1/sessions/keepalive", api.KeepaliveSessions{IDs: []string{l.session}}, &leases)
		l.mu.Lock()
		switch {
		case ctx.Err() != nil:
		case status == http.StatusGone && sent.Sub(acknowledged) < ttl:
			l.fault = fmt.Errorf("gone %s after a keepalive was sent that was acknowledged, the TTL is %s", sent.Sub(acknowledged), ttl)
		case err != nil:
			l.fault = fmt.Errorf("a keepalive, %s after the last: %w", sent.Sub(acknowledged), err)
		default:
			l.kept++
			acknowledged = sent
		}
		failed := l.fault != nil
		l.mu.Unlock()
		if failed {
			return
		}
	}
}

// check fails the test unless the holder is the holder still, under its token.
func (l *living) check() {
	l.t.Helper()
	l.mu.Lock()
	fault := l.fault
	l.mu.Unlock()
	if fault != nil {
		l.t.Fatalf("the live holder: %v", fault)
	}
	var v api.LockValidity
	l.c.Must(harness.Request{Method: http.MethodPost, Path: "/v1/locks/validate", Body: api.ValidateLock{Name: l.lock, Token: l.token}}, &v)
	if !v.Valid {
		l.t.Fatalf("the live holder lost its lock: %+v", v)
	}
}

func (l *living) end() {
	l.t.Helper()
	l.check()
	l.stop()
	if l.kept == 0 {
		l.t.Error("no keepalive was acknowledged")
	}
	l.t.Logf("%d keepalives were acknowledged", l.kept)
}

// dead is a session whose keepalives have stopped, and a lock that it has.
type dead struct {
	t      *testing.T
	c      *harness.Cluster
	lock   string
	ttl    time.Duration
	before time.Time // its last keepalive was sent
	after  time.Time // and answered
	heir   *heir     // who gets the lock then
}

// heir waits for a lock for as long as it takes, through whatever becomes of leaders and connections.
type heir struct {
	done  chan struct{}
	token uint64
	at    time.Time // it was told of its grant
	err   error
}

func inherit(t *testing.T, c *harness.Cluster, session, name string) *heir {
	h := &heir{done: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); <-h.done })
	go func() {
		defer close(h.done)
		h.wait(ctx, c.Caller(), api.AcquireLocks{Session: session, Locks: []api.LockWanted{{Name: name}}, WaitMs: uint64(lockWait.Milliseconds())})
	}()
	return h
}

func (h *heir) wait(ctx context.Context, caller *harness.Caller, ask api.AcquireLocks) {
	for {
		var got api.Acquired
		answer, err := caller.Do(ctx, harness.Request{Method: http.MethodPost, Path: "/v1/locks/acquire", Body: ask, Parks: lockWait})
		if err == nil {
			err = answer.Into(&got)
		}
		switch {
		case err == nil && len(got.Grants) == 1:
			h.token, h.at = got.Grants[0].Token, time.Now()
			return
		case err != nil || got.Ticket == 0:
			h.err = fmt.Errorf("answered %d %s: %w", answer.Status, answer.Body, err)
			return
		}
		ask = api.AcquireLocks{Ticket: got.Ticket, WaitMs: uint64(lockWait.Milliseconds())}
	}
}

func (h *heir) granted() bool {
	select {
	case <-h.done:
		return true
	default:
		return false
	}
}

// leaveDead makes a session, takes a lock for it, renews it once, so that its term has seen it alive, and lets it die. Somebody waits for
// its lock.
func leaveDead(t *testing.T, c *harness.Cluster, tokens *ledger, ttl time.Duration) *dead {
	t.Helper()
	d := &dead{t: t, c: c, lock: "dead/" + rand.Text(), ttl: ttl}
	session, heir := openSession(c, ttl), openSession(c, longSession)
	tokens.take(c, session, d.lock)
	d.before = time.Now()
	c.Must(harness.Request{Method: http.MethodPost, Path: "/v1/sessions/keepalive", Body: api.KeepaliveSessions{IDs: []string{session}}}, nil)
	d.after = time.Now()
	d.heir = inherit(t, c, heir, d.lock)
	return d
}

// awaitEnd waits until its lock has passed on. leaderless is how much of the time no leader was there, by a generous count.
func (d *dead) awaitEnd(leaderless time.Duration) {
	d.t.Helper()
	latest := 2*d.ttl + leaderless + lateBy
	limit := time.NewTimer(time.Until(d.after.Add(latest)))
	defer limit.Stop()
	select {
	case <-d.heir.done:
	case <-limit.C:
		d.t.Fatalf("%s after its last keepalive a dead holder with a TTL of %s has its lock", latest, d.ttl)
	}
	if d.heir.err != nil {
		d.t.Fatalf("who waited for the lock of a dead holder: %v", d.heir.err)
	}
	took := d.heir.at.Sub(d.before)
	d.t.Logf("a dead holder with a TTL of %s lost its lock after %s, up to %s of them without a leader", d.ttl, took.Round(time.Millisecond), leaderless.Round(time.Millisecond))
	if took < d.ttl {
		d.t.Errorf("a holder lost its lock %s after its last keepalive was sent, the TTL is %s", took, d.ttl)
	}
}

// gone tells whether a session has ended.
func gone(t *testing.T, c *harness.Cluster, session string) bool {
	t.Helper()
	var leases api.SessionLeases
	status, err := ask(t.Context(), c.Caller(), http.MethodPost, "/v1/sessions/keepalive", api.KeepaliveSessions{IDs: []string{session}}, &leases)
	if status != http.StatusOK && status != http.StatusGone {
		t.Fatal(errors.Join(err, fmt.Errorf("a keepalive answered %d", status)))
	}
	return status == http.StatusGone
}
