package cluster_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/cluster_test/harness"
)

const (
	loadPace    = 15 * time.Millisecond // of one worker: enough to notice a gap, not enough to be the cause of one
	loadRetry   = 60 * time.Second
	loadTTL     = 10 * time.Minute // no lease of the load ends by itself
	acksMin     = 60               // a load that did less has shown nothing
	lockListMax = 1_000

	complaintsMax = 3 // of one kind: the first tell enough
)

// load takes locks without end, each with a name of its own, and keeps them: every acknowledgement can be checked afterwards. Half of the
// workers use package client, the others begin at a node each and go through it for as long as it answers.
type load struct {
	t      *testing.T
	c      *harness.Cluster
	prefix string
	stop   context.CancelFunc
	joined sync.WaitGroup

	mu       sync.Mutex
	acks     []ack
	failures []error
}

// ack is an acknowledged lock.
type ack struct {
	name, session string
	token         uint64
	at            time.Time
}

// startLoad begins a load on all nodes and returns when it is under way.
func startLoad(t *testing.T, c *harness.Cluster) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{t: t, c: c, prefix: "load-" + rand.Text() + "/", stop: cancel}
	t.Cleanup(func() { cancel(); l.joined.Wait() })
	for i, n := range c.Nodes {
		l.joined.Go(func() { l.raw(ctx, n) })
		l.joined.Go(func() { l.sdk(ctx, i) })
	}
	l.awaitMore(acksMin)
	return l
}

// awaitMore waits for n more acknowledgements.
func (l *load) awaitMore(n int) {
	l.t.Helper()
	before := l.count()
	harness.Eventually(l.t, loadRetry, "the load to go on", func() error {
		if got := l.count() - before; got < n {
			return fmt.Errorf("%d of %d acknowledgements; failures: %v", got, n, l.failed())
		}
		return nil
	})
}

// end stops the load and fails the test if any request failed. It returns the longest time without an acknowledgement.
func (l *load) end() (gap time.Duration) {
	l.t.Helper()
	l.stop()
	l.joined.Wait()
	failed := l.failed()
	for _, err := range failed[:min(len(failed), complaintsMax)] {
		l.t.Errorf("%d requests of idempotent clients failed, such as: %v", len(failed), err)
	}
	slices.SortFunc(l.acks, func(a, b ack) int { return a.at.Compare(b.at) })
	for i := 1; i < len(l.acks); i++ {
		gap = max(gap, l.acks[i].at.Sub(l.acks[i-1].at))
	}
	l.t.Logf("%d acknowledged writes, longest gap %s", len(l.acks), gap.Round(time.Millisecond))
	return gap
}

// check fails the test unless all that was acknowledged is there, under the token that the client was told, and none was given twice.
func (l *load) check() {
	l.t.Helper()
	held := locksUnder(l.c, l.prefix)
	tokens := map[uint64]string{}
	for _, a := range l.acks {
		got, ok := held[a.name]
		if !ok || len(got.Holders) != 1 || got.Holders[0].Token != a.token || got.Holders[0].Session != a.session {
			l.t.Errorf("acknowledged %+v, the cluster has %+v", a, got)
		}
		if other := tokens[a.token]; other != "" {
			l.t.Errorf("token %d was given for %s and for %s", a.token, other, a.name)
		}
		tokens[a.token] = a.name
	}
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acks)
}

func (l *load) failed() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.failures)
}

func (l *load) note(ctx context.Context, a ack, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		l.acks = append(l.acks, a)
	case ctx.Err() == nil:
		l.failures = append(l.failures, err)
	}
}

// raw goes through one node as long as that answers.
func (l *load) raw(ctx context.Context, first *harness.Node) {
	caller := l.c.Caller(first)
	do := func(path string, body, into any) error {
		ctx, cancel := context.WithTimeout(ctx, loadRetry)
		defer cancel()
		answer, err := caller.Do(ctx, harness.Request{Method: http.MethodPost, Path: path, Body: body})
		if err != nil {
			return err
		}
		return answer.Into(into)
	}
	var session api.Session
	if err := do("/v1/sessions", api.OpenSession{Name: "load", TTLMs: uint64(loadTTL.Milliseconds())}, &session); err != nil {
		l.note(ctx, ack{}, err)
		return
	}
	l.pace(ctx, "raw-"+first.ID, func(name string) (ack, error) {
		var got api.Acquired
		err := do("/v1/locks/acquire", api.AcquireLocks{Session: session.ID, Locks: []api.LockWanted{{Name: name}}}, &got)
		if err == nil && len(got.Grants) != 1 {
			err = fmt.Errorf("the answer holds %d grants", len(got.Grants))
		}
		if err != nil {
			return ack{}, err
		}
		return ack{name: name, session: session.ID, token: got.Grants[0].Token}, nil
	})
}

// sdk uses package client, which follows the leader.
func (l *load) sdk(ctx context.Context, i int) {
	addrs := l.c.Addrs()
	calls, err := client.New(client.Config{Addrs: append(addrs[i:], addrs[:i]...), RetryFor: loadRetry})
	if err != nil {
		l.note(ctx, ack{}, err)
		return
	}
	defer calls.Close()
	session, err := calls.OpenSession(ctx, "load", loadTTL)
	if err != nil {
		l.note(ctx, ack{}, err)
		return
	}
	l.pace(ctx, fmt.Sprintf("sdk-%d", i), func(name string) (ack, error) {
		lock, err := session.Lock(ctx, name, client.NoWait())
		if err != nil {
			return ack{}, err
		}
		return ack{name: name, session: session.ID(), token: lock.Token()}, nil
	})
}

func (l *load) pace(ctx context.Context, worker string, take func(name string) (ack, error)) {
	ticker := time.NewTicker(loadPace)
	defer ticker.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		a, err := take(fmt.Sprintf("%s%s/%d", l.prefix, worker, i))
		a.at = time.Now()
		l.note(ctx, a, err)
	}
}

// locksUnder reads all held locks whose names begin with prefix.
func locksUnder(c *harness.Cluster, prefix string) map[string]api.Lock {
	held := map[string]api.Lock{}
	for cursor := ""; ; {
		var page api.Locks
		c.Must(harness.Request{Method: http.MethodGet,
			Path: fmt.Sprintf("/v1/locks?prefix=%s&limit=%d&cursor=%s", prefix, lockListMax, cursor)}, &page)
		for _, lock := range page.Locks {
			held[lock.Name] = lock
		}
		if cursor = page.Cursor; cursor == "" {
			return held
		}
	}
}
