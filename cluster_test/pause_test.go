package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
)

const (
	pauseRounds  = 3
	pausedAsks   = 20 // of each kind, waiting for the paused node when it wakes up
	wakefulAsks  = 400 * time.Millisecond
	askPace      = 2 * time.Millisecond
	electWithin  = 30 * time.Second
	longSession  = 10 * time.Minute
	resumeWithin = 20 * time.Second
)

// A leader that is stopped past an election and resumed still believes that it leads. What reaches it after its successor has committed
// must not be answered from what it knows. The requests are sent while it is stopped, so that they are the first thing that it sees: the
// system accepts connections for a stopped process.
func TestPause_ResumedLeaderAnswersNothingOld(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	for round := range pauseRounds {
		old := c.Leader()
		w := newPauseRound(t, c, round)
		old.Pause()
		w.change(old)
		asks := w.begin(old)
		old.Resume()
		asks.joined.Wait()
		asks.report(t, round)
		c.AwaitReady(old)
		harness.Eventually(t, resumeWithin, old.ID+" to follow", func() error {
			status, err := c.Status()
			if err == nil && status.Leader == old.ID {
				err = fmt.Errorf("%s leads", old.ID)
			}
			return err
		})
		c.AwaitWhole()
	}
	c.AwaitSameState()
}

// pauseRound is a lock that changes hands and a session that is closed while the leader is stopped.
type pauseRound struct {
	t         *testing.T
	c         *harness.Cluster
	lock      string
	gone, has string // sessions: the first is closed and its lock is taken by the second
	token     uint64
}

func newPauseRound(t *testing.T, c *harness.Cluster, round int) *pauseRound {
	t.Helper()
	w := &pauseRound{t: t, c: c, lock: fmt.Sprintf("pause/%d", round)}
	w.gone, w.has = openSession(c, longSession), openSession(c, longSession)
	w.token = acquire(c, w.gone, w.lock)
	return w
}

// change makes the new leader commit what the old one cannot know.
func (w *pauseRound) change(old *harness.Node) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), electWithin)
	defer cancel()
	caller := w.c.Caller(w.c.Others(old)...)
	closed, err := caller.Do(ctx, harness.Request{Method: http.MethodDelete, Path: "/v1/sessions/" + w.gone})
	if err = errors.Join(err, closed.Into(nil)); err != nil {
		w.t.Fatal(err)
	}
	var got api.Acquired
	taken, err := caller.Do(ctx, harness.Request{Method: http.MethodPost, Path: "/v1/locks/acquire", Body: api.AcquireLocks{Session: w.has, Locks: []api.LockWanted{{Name: w.lock}}}})
	if err = errors.Join(err, taken.Into(&got)); err != nil {
		w.t.Fatal(err)
	}
	w.token = got.Grants[0].Token
}

// pauseAsks are the answers of the resumed node.
type pauseAsks struct {
	joined sync.WaitGroup

	mu     sync.Mutex
	wrong  []string
	right  int // truthful answers: through the new leader
	open   int // refusals that leave the question open
	staled int // old values of reads that allow them: the node was indeed behind
}

// begin asks the stopped node, and goes on asking for a moment. It returns when the first questions are under way.
func (w *pauseRound) begin(old *harness.Node) *pauseAsks {
	asks := &pauseAsks{}
	ask := func() {
		asks.joined.Go(func() { asks.note(w.read(old)) })
		asks.joined.Go(func() { asks.note(w.keepalive(old)) })
		asks.joined.Go(func() { asks.note(w.validate(old)) })
		asks.joined.Go(func() { asks.noteStale(w.readStale(old)) })
	}
	for range pausedAsks {
		ask()
	}
	asks.joined.Go(func() {
		until := time.NewTimer(wakefulAsks)
		defer until.Stop()
		ticker := time.NewTicker(askPace)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				ask()
			case <-until.C:
				return
			}
		}
	})
	return asks
}

// note takes an answer: 0 when it left the question open.
func (a *pauseAsks) note(status int, wrong string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case wrong != "":
		a.wrong = append(a.wrong, wrong)
	case status == http.StatusOK || status == http.StatusGone:
		a.right++
	default:
		a.open++
	}
}

func (a *pauseAsks) noteStale(stale bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if stale {
		a.staled++
	}
}

func (a *pauseAsks) report(t *testing.T, round int) {
	t.Helper()
	for _, wrong := range a.wrong[:min(len(a.wrong), complaintsMax)] {
		t.Errorf("round %d: %s (and so on, %d in all)", round, wrong, len(a.wrong))
	}
	t.Logf("round %d: %d true answers, %d left open; %d reads that may be stale were", round, a.right, a.open, a.staled)
	if a.right+a.open < 3*pausedAsks {
		t.Errorf("round %d: only %d questions were asked", round, a.right+a.open)
	}
}

func (w *pauseRound) read(old *harness.Node) (int, string) {
	var page api.Locks
	answer, err := w.c.Send(w.t.Context(), old, harness.Request{Method: http.MethodGet, Path: "/v1/locks?name=" + w.lock})
	if err != nil || answer.Into(&page) != nil {
		return 0, ""
	}
	if len(page.Locks) != 1 || len(page.Locks[0].Holders) != 1 || page.Locks[0].Holders[0].Token != w.token {
		return answer.Status, fmt.Sprintf("a read answered %+v after token %d was given", page.Locks, w.token)
	}
	return answer.Status, ""
}

func (w *pauseRound) readStale(old *harness.Node) bool {
	var page api.Locks
	answer, err := w.c.Send(w.t.Context(), old, harness.Request{Method: http.MethodGet, Path: "/v1/locks?consistency=stale&name=" + w.lock})
	return err == nil && answer.Into(&page) == nil && len(page.Locks) == 1 && len(page.Locks[0].Holders) == 1 && page.Locks[0].Holders[0].Token != w.token
}

func (w *pauseRound) validate(old *harness.Node) (int, string) {
	var v api.LockValidity
	answer, err := w.c.Send(w.t.Context(), old, harness.Request{Method: http.MethodPost, Path: "/v1/locks/validate", Body: api.ValidateLock{Name: w.lock, Token: w.token}})
	if err != nil || answer.Into(&v) != nil {
		return 0, ""
	}
	if !v.Valid {
		return answer.Status, fmt.Sprintf("validate denied the holder: %+v", v)
	}
	return answer.Status, ""
}

func (w *pauseRound) keepalive(old *harness.Node) (int, string) {
	var leases api.SessionLeases
	answer, err := w.c.Send(w.t.Context(), old, harness.Request{Method: http.MethodPost, Path: "/v1/sessions/keepalive", Body: api.KeepaliveSessions{IDs: []string{w.gone}}})
	if err != nil {
		return 0, ""
	}
	if answer.Into(&leases) == nil && (len(leases.Sessions) != 1 || !leases.Sessions[0].Gone) {
		return answer.Status, fmt.Sprintf("a keepalive was acknowledged after its session was closed: %+v", leases)
	}
	return answer.Status, ""
}

func openSession(c *harness.Cluster, ttl time.Duration) string {
	var s api.Session
	c.Must(harness.Request{Method: http.MethodPost, Path: "/v1/sessions", Body: api.OpenSession{TTLMs: uint64(ttl.Milliseconds())}}, &s)
	return s.ID
}

// acquire takes a free lock and returns its token.
func acquire(c *harness.Cluster, session, name string) uint64 {
	var got api.Acquired
	c.Must(harness.Request{Method: http.MethodPost, Path: "/v1/locks/acquire", Body: api.AcquireLocks{Session: session, Locks: []api.LockWanted{{Name: name}}}}, &got)
	if len(got.Grants) != 1 {
		return 0
	}
	return got.Grants[0].Token
}
