package cluster_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/client/fence"
	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/cluster_test/rolling"
	"github.com/quiescehq/quiesce/cluster_test/services"
)

const (
	crowd         = 5
	crowdGrace    = 6 * time.Second
	exitTolerance = 500 * time.Millisecond // for the end of a process on a loaded machine
	cutGrace      = 4 * time.Second
	briefly       = 600 * time.Millisecond
)

// member is one of several instances that are signalled at the same instant.
type member struct {
	*rolling.App
	id     string
	took   time.Duration // from the signal to the exit
	queued time.Duration // from the signal until it was seen to wait; 0 if it was not
}

func (m *member) String() string { return m.Name }

// A machine shuts down: every instance of a service gets SIGTERM at the same instant. They go one after the other, in the order in which they
// asked, for as long as the time allows; then the budget is overdrawn, no earlier than it must be, and all are gone before they would be killed.
func TestShutdown_AllAtOnceGoInOrderAndInTime(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{})
	if err := declare(c, "crowd", 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	b, dir := watchInstances(t, c), t.TempDir()
	members := make([]*member, crowd)
	for i := range members {
		members[i] = &member{App: rolling.BeginApp(t, rolling.AppProgram, dir, fmt.Sprintf("crowd-%d", i+1),
			append(rolling.Environment(c, crowdGrace), "APP_SERVICE=crowd", "QUIESCE_INTENT=remove", "QUIESCE_LAME_DUCK=300ms")...)}
	}
	for _, m := range members {
		m.id = registeredAs(t, m.App)
	}
	if err := b.await("all to be available", seenWithin, func(all map[string]api.Instance) bool {
		settled := 0
		for _, v := range all {
			if v.Settled {
				settled++
			}
		}
		return settled == crowd
	}); err != nil {
		t.Fatal(err)
	}
	signalled := time.Now()
	for _, m := range members {
		if err := m.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	together(t, members, func(m *member) error {
		seen, err := b.awaitOne(m.id, "to be signalled", seenWithin, func(v api.Instance) bool { return v.State != api.StateReady })
		if err != nil {
			return err
		}
		if seen.State == api.StateQueued {
			m.queued = time.Since(signalled)
		}
		err = eventually(seenWithin, "its end", func() bool { return !m.Running() })
		m.took = time.Since(signalled)
		return err
	})
	for _, m := range members {
		if code := m.Wait(t, time.Second); code != client.ExitClean && code != client.ExitLeftovers || m.took > crowdGrace+exitTolerance {
			t.Errorf("%s: exit code %d after %s", m.Name, code, m.took)
		}
	}
	judgeCrowd(t, c, members)
}

// judgeCrowd looks at the log: who was granted when, and why.
func judgeCrowd(t *testing.T, c *harness.Cluster, members []*member) {
	t.Helper()
	lives, err := rolling.Lives(c, "crowd")
	if err != nil {
		t.Fatal(err)
	}
	var s api.Service
	c.Must(harness.Request{Method: http.MethodGet, Path: "/v1/services/crowd"}, &s)
	granted, wrong := rolling.Overspent(lives, s)
	for _, why := range wrong {
		t.Error(why)
	}
	if granted == 0 || int(s.Drains.Overdrafts)+granted != crowd || s.Drains.Lost+s.Drains.Forced != 0 {
		t.Errorf("%d grants within the budget; the record is %+v", granted, s.Drains)
	}
	for _, v := range lives {
		for _, w := range lives {
			if !v.Overdraft && !w.Overdraft && v.Ticket < w.Ticket && v.Grant > w.Grant {
				t.Errorf("%s asked before %s and was granted after it", v.Name, w.Name)
			}
		}
		if !v.Overdraft {
			continue
		}
		// The ticket says how long the platform waits, less what it took to take it: so the wait is as long as it may be.
		least := crowdGrace - crowdGrace/25 // the slack of package client
		for _, p := range v.Phases {
			least -= time.Duration(p.LimitMs) * time.Millisecond
		}
		for _, m := range members {
			if m.id == v.ID {
				least -= m.queued
			}
		}
		if waited := time.Duration(v.Waited()) * time.Millisecond; waited < least-10*time.Millisecond {
			t.Errorf("%s overdrew the budget after %s, and could have waited %s", v.Name, waited, least)
		}
	}
}

// A process is stopped for longer than its lease, in the middle of a request that holds a lock. It is lost, another one takes the lock and writes.
// When it goes on its write is refused, and it ends with the code for what is left over. One that is stopped for a moment is not even noticed.
func TestShutdown_StoppedProcessIsFenced(t *testing.T) {
	t.Parallel()
	pair := services.Require(t)
	c := harness.Start(t, harness.Options{Nodes: 1})
	db, err := sql.Open("mysql", pair.MySQLDSN)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	for _, statement := range []string{"CREATE TABLE guarded (id INT PRIMARY KEY, writes INT NOT NULL, " + fence.ColumnSchema + ")", "INSERT INTO guarded VALUES (1, 0, 0)"} {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	b, dir := watchInstances(t, c), t.TempDir()
	long, longID := startApp(t, c, dir, "stopped", "long", crowdGrace, "APP_DSN="+pair.MySQLDSN, "QUIESCE_LEASE_TTL=1s")
	brief, briefID := startApp(t, c, dir, "stopped", "brief", crowdGrace, "QUIESCE_LEASE_TTL=10s")
	for _, id := range []string{longID, briefID} {
		if _, err := b.awaitOne(id, "to be ready", seenWithin, inState(api.StateReady)); err != nil {
			t.Fatal(err)
		}
	}
	go func() { _, _ = postTo(t.Context(), long.Base+"/late?lock=guarded&after=200ms") }() // ends with the process
	if err := eventually(seenWithin, "the lock to be taken", func() bool { return long.Line("locked", nil) }); err != nil {
		t.Fatal(err)
	}
	stop(t, long)
	stop(t, brief)
	rest(t.Context(), briefly)
	if err := brief.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}

	if _, err := b.awaitOne(longID, "to be lost", seenWithin, inState(api.StateLost)); err != nil {
		t.Fatal(err)
	}
	var session api.Session
	var got api.Acquired
	c.Must(harness.Request{Method: http.MethodPost, Path: "/v1/sessions", Body: api.OpenSession{Name: "next", TTLMs: uint64(longSession.Milliseconds())}}, &session)
	c.Must(harness.Request{Method: http.MethodPost, Path: "/v1/locks/acquire", Body: api.AcquireLocks{Session: session.ID, Locks: []api.LockWanted{{Name: "guarded"}}}}, &got)
	guarded, err := fence.NewTable(fence.Spec{Table: "guarded"})
	if err != nil {
		t.Fatal(err)
	}
	if err := guarded.Row(1).Do(t.Context(), db, got.Grants[0].Token, nil); err != nil {
		t.Fatal(err)
	}
	if err := long.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if code := long.Wait(t, crowdGrace+exitTolerance); code != client.ExitLeftovers {
		t.Errorf("the one that was lost exits with %d", code)
	}
	var late struct{ Outcome string }
	var writes int
	if err := db.QueryRowContext(t.Context(), "SELECT writes FROM guarded").Scan(&writes); err != nil {
		t.Fatal(err)
	}
	if !long.Line("late write", &late) || !strings.Contains(late.Outcome, "fence") || writes != 0 {
		t.Errorf("the late write ended with %q, %d writes are there", late.Outcome, writes)
	}

	if status, err := postTo(t.Context(), brief.Base+"/orders"); err != nil || status != http.StatusCreated {
		t.Errorf("the one that was stopped for a moment answers %d, %v", status, err)
	}
	if now, err := b.awaitOne(briefID, "to be ready", 0, inState(api.StateReady)); err != nil {
		t.Errorf("%v: %+v", err, now)
	}
	if err := brief.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := brief.Wait(t, crowdGrace+exitTolerance); code != client.ExitClean {
		t.Errorf("the one that was stopped for a moment exits with %d", code)
	}
}

func stop(t *testing.T, a *rolling.App) {
	t.Helper()
	if err := a.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
}

func postTo(ctx context.Context, url string) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	if err != nil {
		return 0, err
	}
	request.Close = true
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	return answer.StatusCode, answer.Body.Close()
}

// An instance cannot reach the cluster any more, or not yet. It leaves all the same, in the time that it has, and leaves nothing behind that
// would count.
func TestShutdown_WithoutTheClusterEndsInTime(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{Nodes: 1})
	between, dir := newRelay(t, c.Nodes[0].HTTPAddr), t.TempDir()
	b := watchInstances(t, c)
	environment := []string{"QUIESCE_ADDRS=" + between.addr, "QUIESCE_GRACE=" + cutGrace.String(), "APP_SERVICE=cut", "QUIESCE_LEASE_TTL=1s"}
	serves := rolling.StartApp(t, rolling.AppProgram, dir, "serves", environment...)
	id := registeredAs(t, serves)
	if _, err := b.awaitOne(id, "to be ready", seenWithin, inState(api.StateReady)); err != nil {
		t.Fatal(err)
	}
	between.cut()
	ended := []*member{
		{App: serves},
		{App: rolling.BeginApp(t, rolling.AppProgram, dir, "starts", environment...)}, // waits in Join for an answer
	}
	if err := eventually(seenWithin, "the second to start", func() bool { return ended[1].Line("starting", nil) }); err != nil {
		t.Fatal(err)
	}
	rest(t.Context(), briefly) // its registration is on its way, and will be heard when it has gone
	signalled := time.Now()
	together(t, ended, func(m *member) error {
		if err := m.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		err := eventually(seenWithin, "its end", func() bool { return !m.Running() })
		m.took = time.Since(signalled)
		return err
	})
	if code := serves.Wait(t, time.Second); code != client.ExitClean && code != client.ExitLeftovers || ended[0].took > cutGrace+exitTolerance {
		t.Errorf("the instance that was cut off exits with %d after %s", code, ended[0].took)
	}
	if ended[1].took > cutGrace+exitTolerance {
		t.Errorf("the instance that had no answer yet ends after %s", ended[1].took)
	}
	between.heal()
	if err := b.await("nobody to be left", seenWithin, func(all map[string]api.Instance) bool {
		for _, v := range all {
			if v.State != api.StateLost && v.State != api.StateLeft {
				return false
			}
		}
		return len(all) > 0
	}); err != nil {
		t.Error(err)
	}
	rest(t.Context(), 2*time.Second) // what was on its way has arrived by now
	var s api.Service
	c.Must(harness.Request{Method: http.MethodGet, Path: "/v1/services/cut"}, &s)
	for state, n := range s.Live {
		if n > 0 {
			t.Errorf("%d instances are %s", n, state)
		}
	}
}
