package cluster_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
)

const (
	shortTTL    = 3 * time.Second
	lateBy      = 5 * time.Second // what a loaded machine may add to 2 × TTL
	lockWait    = time.Minute
	grantWithin = 20 * time.Second
)

// Waiters stand in line through different followers; the holder falls silent.
func TestLock_ExpiryGrantsToWaitersInOrderThroughFollowers(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	followers := c.Others(c.Leader())
	opened := time.Now()
	silent := openSession(c, shortTTL)
	const name = "expiry"
	token := acquire(c, silent, name)
	first, second := openSession(c, longSession), openSession(c, longSession)
	firstGrant := park(t, c, followers[0], first, name)
	awaitQueue(c, name, first)
	secondGrant := park(t, c, followers[1], second, name)
	awaitQueue(c, name, first, second)

	granted := firstGrant.await(t, grantWithin)
	took := time.Since(opened)
	t.Logf("a lease of %s ended after %s", shortTTL, took.Round(time.Millisecond))
	if took < shortTTL || took > 2*shortTTL+lateBy {
		t.Errorf("a lease of %s ended after %s", shortTTL, took)
	}
	if granted <= token {
		t.Errorf("the second grant has token %d, the first had %d", granted, token)
	}
	if secondGrant.answered() {
		t.Error("the second in line did not wait for the first")
	}
	refused, err := c.Send(t.Context(), followers[0], harness.Request{Method: http.MethodPost, Path: "/v1/locks/release", Key: "late",
		Body: api.ReleaseLocks{Session: silent, Locks: []api.Grant{{Name: name, Token: token}}}})
	if err != nil || refused.Status == http.StatusOK || refused.Status == http.StatusNoContent {
		t.Errorf("the silent holder could release: %d %v", refused.Status, err)
	}
	release(c, first, name, granted)
	if next := secondGrant.await(t, grantWithin); next <= granted {
		t.Errorf("the third grant has token %d, the second had %d", next, granted)
	}
}

// A ticket is a place in the log, not a connection: it survives the leader that gave it.
func TestLock_TicketKeepsItsPlaceWhenTheLeaderIsKilled(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	const name = "ticket"
	holder, first, second := openSession(c, longSession), openSession(c, longSession), openSession(c, longSession)
	token := acquire(c, holder, name)
	firstTicket, secondTicket := ticket(t, c, first, name), ticket(t, c, second, name)
	leader := c.Leader()
	parked := reattach(t, c, c.Others(leader)[0], secondTicket)
	leader.Kill()
	awaitQueue(c, name, first, second)
	if status := attach(c, firstTicket); status != http.StatusAccepted {
		t.Errorf("a ticket whose turn has not come answers %d", status)
	}
	release(c, holder, name, token)
	granted := reattach(t, c, c.Leader(), firstTicket).await(t, grantWithin)
	if granted <= token {
		t.Errorf("token %d after %d", granted, token)
	}
	if again := reattach(t, c, c.Leader(), firstTicket).await(t, grantWithin); again != granted {
		t.Errorf("asked again, the ticket answers token %d instead of %d", again, granted)
	}
	awaitQueue(c, name, second)
	leader.Start()
	c.AwaitReady(leader)
	release(c, first, name, granted)
	if next := parked.await(t, grantWithin); next <= granted {
		t.Errorf("token %d after %d", next, granted)
	}
}

// grant is an acquire under way.
type grant struct {
	done  chan struct{}
	token uint64
	err   error
}

func (g *grant) answered() bool {
	select {
	case <-g.done:
		return true
	default:
		return false
	}
}

func (g *grant) await(t *testing.T, within time.Duration) uint64 {
	t.Helper()
	limit := time.NewTimer(within)
	defer limit.Stop()
	select {
	case <-g.done:
	case <-limit.C:
		t.Fatalf("no grant within %s", within)
	}
	if g.err != nil {
		t.Fatal(g.err)
	}
	return g.token
}

// park asks for a lock through one node and waits there for as long as the node lets it.
func park(t *testing.T, c *harness.Cluster, through *harness.Node, session, name string) *grant {
	return wait(t, c, through, api.AcquireLocks{Session: session, Locks: []api.LockWanted{{Name: name}}, WaitMs: uint64(lockWait.Milliseconds())})
}

// reattach takes up a wait.
func reattach(t *testing.T, c *harness.Cluster, through *harness.Node, ticket uint64) *grant {
	return wait(t, c, through, api.AcquireLocks{Ticket: ticket, WaitMs: uint64(lockWait.Milliseconds())})
}

func wait(t *testing.T, c *harness.Cluster, through *harness.Node, ask api.AcquireLocks) *grant {
	g := &grant{done: make(chan struct{})}
	t.Cleanup(func() { <-g.done }) // the nodes, which end earlier, cannot hold it
	caller := c.Caller(through)
	go func() {
		defer close(g.done)
		var got api.Acquired
		answer, err := caller.Do(t.Context(), harness.Request{Method: http.MethodPost, Path: "/v1/locks/acquire", Body: ask, Parks: lockWait})
		if err = errors.Join(err, answer.Into(&got)); err == nil && len(got.Grants) != 1 {
			err = fmt.Errorf("answered %d %s", answer.Status, answer.Body)
		}
		if g.err = err; err == nil {
			g.token = got.Grants[0].Token
		}
	}()
	return g
}

// attach asks how a ticket stands, and answers the status.
func attach(c *harness.Cluster, ticket uint64) int {
	var got api.Acquired
	c.Must(harness.Request{Method: http.MethodPost, Path: "/v1/locks/acquire", Body: api.AcquireLocks{Ticket: ticket, WaitMs: 1}}, &got)
	if len(got.Grants) == 0 {
		return http.StatusAccepted
	}
	return http.StatusOK
}

// ticket takes a place in a queue without waiting in it: an operation of a batch never parks.
func ticket(t *testing.T, c *harness.Cluster, session, name string) uint64 {
	t.Helper()
	ask, err := json.Marshal(api.AcquireLocks{Session: session, Locks: []api.LockWanted{{Name: name}}, WaitMs: uint64(lockWait.Milliseconds())})
	if err != nil {
		t.Fatal(err)
	}
	// The batch itself has no key; its operation has.
	var answer api.BatchAnswer
	ctx := t.Context()
	sent, err := c.Send(ctx, c.Leader(), harness.Request{Method: http.MethodPost, Path: "/v1/batch",
		Body: api.Batch{Ops: []api.BatchOp{{Op: api.OpAcquire, Key: "ticket-" + session, Body: ask}}}})
	if err = errors.Join(err, sent.Into(&answer)); err != nil {
		t.Fatal(err)
	}
	var got api.Acquired
	if err := json.Unmarshal(answer.Results[0].Body, &got); err != nil || got.Ticket == 0 {
		t.Fatalf("no ticket: %+v, %v", answer.Results[0], err)
	}
	return got.Ticket
}

func awaitQueue(c *harness.Cluster, name string, sessions ...string) {
	c.Await("the queue of "+name, func() error {
		var page api.Locks
		c.Must(harness.Request{Method: http.MethodGet, Path: "/v1/locks?name=" + name}, &page)
		var waiting []string
		for _, lock := range page.Locks {
			for _, w := range lock.Queue {
				waiting = append(waiting, w.Session)
			}
		}
		if fmt.Sprint(waiting) != fmt.Sprint(sessions) {
			return fmt.Errorf("%v are waiting, not %v", waiting, sessions)
		}
		return nil
	})
}

func release(c *harness.Cluster, session, name string, token uint64) {
	c.Must(harness.Request{Method: http.MethodPost, Path: "/v1/locks/release",
		Body: api.ReleaseLocks{Session: session, Locks: []api.Grant{{Name: name, Token: token}}}}, nil)
}
