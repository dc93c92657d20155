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
	"github.com/quiescehq/quiesce/cluster_test/rolling"
)

const (
	boardParks = 2 * time.Second
	seenWithin = 30 * time.Second // of a loaded machine: how long it takes is checked where it is a promise
)

var errUnseen = errors.New("not seen")

// board shows all instances of a cluster as they are, by one long poll for however many wait. Any goroutine may ask.
type board struct {
	c *harness.Cluster

	mu      sync.Mutex
	now     map[string]api.Instance
	changed chan struct{}
}

func watchInstances(t *testing.T, c *harness.Cluster) *board {
	t.Helper()
	b := &board{c: c, changed: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	var joined sync.WaitGroup
	joined.Go(func() { b.run(ctx) })
	t.Cleanup(func() { cancel(); joined.Wait() })
	return b
}

func (b *board) run(ctx context.Context) {
	caller := b.c.Caller()
	index := uint64(0)
	for ctx.Err() == nil {
		var page api.Instances
		answer, err := caller.Do(ctx, harness.Request{Method: http.MethodGet, Parks: boardParks,
			Path: fmt.Sprintf("/v1/instances?limit=1000&index=%d&wait_ms=%d", index, boardParks.Milliseconds())})
		if err != nil || answer.Into(&page) != nil {
			continue
		}
		index = page.Index
		b.show(page.Instances)
	}
}

func (b *board) show(all []api.Instance) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = make(map[string]api.Instance, len(all))
	for _, v := range all {
		b.now[v.ID] = v
	}
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *board) look(holds func(map[string]api.Instance) bool) (bool, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return holds(b.now), b.changed
}

// await waits until something holds of all instances.
func (b *board) await(what string, within time.Duration, holds func(map[string]api.Instance) bool) error {
	limit := time.NewTimer(within)
	defer limit.Stop()
	for {
		seen, changed := b.look(holds)
		if seen {
			return nil
		}
		select {
		case <-changed:
		case <-limit.C:
			return fmt.Errorf("%w in %s: %s", errUnseen, within, what)
		}
	}
}

// awaitOne waits until something holds of one instance.
func (b *board) awaitOne(id, what string, within time.Duration, holds func(api.Instance) bool) (last api.Instance, err error) {
	err = b.await(what, within, func(all map[string]api.Instance) bool {
		last = all[id]
		return last.ID != "" && holds(last)
	})
	if err != nil {
		err = fmt.Errorf("%w; it is %s in phase %q", err, last.State, last.Phase)
	}
	return last, err
}

func inState(state string) func(api.Instance) bool {
	return func(v api.Instance) bool { return v.State == state }
}

// sayOf sends something that an instance, or an operator, says of it, and wants it to be heard.
func sayOf(c *harness.Cluster, id, what string, body any) error {
	return request(c, http.MethodPost, "/v1/instances/"+id+"/"+what, body, nil)
}

// request is Cluster.Must for any goroutine.
func request(c *harness.Cluster, method, path string, body, into any) error {
	ctx, cancel := context.WithTimeout(context.Background(), harness.ReadyWithin)
	defer cancel()
	answer, err := c.Caller().Do(ctx, harness.Request{Method: method, Path: path, Body: body})
	if err == nil {
		err = answer.Into(into)
	}
	if err != nil {
		err = fmt.Errorf("%s %s: %w", method, path, err)
	}
	return err
}

// declare puts a service with times of its own, in milliseconds.
func declare(c *harness.Cluster, name string, maxUnavailable uint32, settle, restartHold, lostHold uint64) error {
	return request(c, http.MethodPut, "/v1/services/"+name,
		api.PutService{MaxUnavailable: maxUnavailable, SettleMs: &settle, RestartHoldMs: &restartHold, LostHoldMs: &lostHold}, nil)
}

// actor is an instance that a test plays over HTTP. Its session outlives the test, unless ttl says otherwise.
type actor struct {
	api.Registered
	c *harness.Cluster
}

// patientGraceMs is of an instance whose drain may take as long as a test.
const patientGraceMs = 600_000

func enter(c *harness.Cluster, service, name string, ttl time.Duration) (*actor, error) {
	a := &actor{c: c}
	err := request(c, http.MethodPost, "/v1/instances", api.RegisterInstance{Service: service, Name: name, LeaseTTLMs: uint64(ttl.Milliseconds()),
		GraceMs: patientGraceMs, Phases: []api.PhaseTime{{Phase: "reject", LimitMs: patientGraceMs}}}, &a.Registered)
	if err == nil {
		err = a.say("ready")
	}
	return a, err
}

// say tells something that needs no more than the incarnation.
func (a *actor) say(what string) error {
	return sayOf(a.c, a.ID, what, api.Incarnation{Incarnation: a.Incarnation})
}

func (a *actor) drain(intent string) error {
	return sayOf(a.c, a.ID, "drain", api.DrainInstance{Incarnation: a.Incarnation, Intent: intent})
}

// startApp starts the application for tests as an instance of a service, and gives its id.
func startApp(t *testing.T, c *harness.Cluster, dir, service, name string, grace time.Duration, variables ...string) (*rolling.App, string) {
	t.Helper()
	a := rolling.StartApp(t, rolling.AppProgram, dir, name, append(append(rolling.Environment(c, grace), "APP_SERVICE="+service), variables...)...)
	return a, registeredAs(t, a)
}

func registeredAs(t *testing.T, a *rolling.App) string {
	t.Helper()
	var line struct{ ID string }
	harness.Eventually(t, seenWithin, a.Name+" to be registered", func() error {
		if !a.Line("registered", &line) {
			return errUnseen
		}
		return nil
	})
	return line.ID
}

// together runs a function for each of some things at once and tells the test what went wrong.
func together[T any](t *testing.T, all []T, run func(T) error) {
	t.Helper()
	var joined sync.WaitGroup
	errs := make([]error, len(all))
	for i, one := range all {
		joined.Go(func() { errs[i] = run(one) })
	}
	joined.Wait()
	for i, err := range errs {
		if err != nil {
			t.Errorf("%v: %v", all[i], err)
		}
	}
}
