package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client/quiescetest"
)

// keepalives lists what an instance's keepalives said.
func keepalives(t *testing.T, coordinator *quiescetest.Coordinator, id string) []api.KeepaliveInstance {
	t.Helper()
	var all []api.KeepaliveInstance
	for _, r := range coordinator.Requests("/v1/instances/" + id + "/keepalive") {
		var body api.KeepaliveInstance
		must(t, json.Unmarshal(r.Body, &body))
		all = append(all, body)
	}
	return all
}

// parked waits until a keepalive waits for news: it knows the index of the last change.
func parked(t *testing.T, coordinator *quiescetest.Coordinator, id string) {
	t.Helper()
	eventually(t, "a keepalive is parked", func() bool {
		all := keepalives(t, coordinator, id)
		if len(all) == 0 {
			return false
		}
		last := all[len(all)-1]
		var service api.Service
		must(t, coordinator.Call(http.MethodGet, "/v1/services/orders", nil, &service))
		return last.WaitMs > 0 && last.After == max(coordinator.Status(id).Index, service.Index)
	})
}

func TestNews_ReachesTheInstanceWithoutWaitingForAKeepalive(t *testing.T) {
	t.Parallel()
	coordinator, app, id, _ := readyApp(t, LeaseTTL(time.Minute)) // keepalives are 12 s apart
	for _, step := range []struct {
		what  string
		do    func() error
		heard func() bool
	}{
		{"read-only", func() error { return coordinator.ReadOnly("orders", true) }, app.ReadOnly},
		{"pause", func() error { return coordinator.Pause(id) }, func() bool { return app.Paused() && probe(app.Readiness()) == 503 }},
		{"resume", func() error { return coordinator.Unpause(id) }, func() bool { return !app.Paused() && probe(app.Readiness()) == 200 }},
		{"writes again", func() error { return coordinator.ReadOnly("orders", false) }, func() bool { return !app.ReadOnly() }},
		{"grant", func() error { return coordinator.Drain(id) }, func() bool { return probe(app.Readiness()) == 503 }},
	} {
		parked(t, coordinator, id)
		began := time.Now()
		must(t, step.do())
		eventually(t, step.what, step.heard)
		if took := time.Since(began); took > time.Second { // milliseconds, and what a loaded machine takes
			t.Errorf("%s took %v", step.what, took)
		}
	}
}

func TestNews_PausedInstanceServesWhatComesAndWritesAreRefusedWhileReadOnly(t *testing.T) {
	t.Parallel()
	coordinator, app, _, _ := readyApp(t)
	handler := app.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	must(t, app.Pause(t.Context(), "maintenance"))
	if !app.Paused() || probe(app.Readiness()) != http.StatusServiceUnavailable || probe(handler) != http.StatusTeapot {
		t.Error("a paused instance is not ready and serves")
	}
	must(t, app.Resume(t.Context(), "done"))
	if app.Paused() || probe(app.Readiness()) != http.StatusOK {
		t.Error("not ready after Resume")
	}
	must(t, coordinator.ReadOnly("orders", true))
	eventually(t, "read-only", app.ReadOnly)
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
	if w.Code != http.StatusServiceUnavailable || probe(handler) != http.StatusTeapot {
		t.Errorf("a write is answered with %d, a read with %d", w.Code, probe(handler))
	}
}

func TestPause_IsRefusedWhenTheBudgetHasNoRoom(t *testing.T) {
	t.Parallel()
	coordinator, app, _, _ := readyApp(t)
	other := join(t, app.options.config.Addrs[0], Name("other"))
	run(other)
	eventually(t, "both ready", func() bool { return coordinator.Instances()[1].State == api.StateReady })
	must(t, other.Pause(t.Context(), "first"))
	var refused *Error
	if err := app.Pause(t.Context(), "second"); !errors.As(err, &refused) || refused.Code != api.CodeBudgetExhausted {
		t.Errorf("the second pause: %v", err)
	}
	if app.Paused() || probe(app.Readiness()) != http.StatusOK {
		t.Error("out of service although it was refused")
	}
	coordinator.Hang()
	if err := join(t, "127.0.0.1:1").Pause(t.Context(), "alone"); !errors.Is(err, ErrNotRegistered) {
		t.Errorf("without a coordinator: %v", err)
	}
	coordinator.Resume()
}

func TestKeepalive_SaysWhatTheInstanceHasAndWaitsForNews(t *testing.T) {
	t.Parallel()
	coordinator, app, id, _ := readyApp(t)
	app.Counter("dirty keys", func() uint64 { return 1 }) // refused: it would spoil each keepalive
	app.Counter("dirty_keys", func() uint64 { return 7 })
	for _, ids := range [][]uint64{{9, 3}, {5}} {
		app.addConnections(func() []api.SourceConnections { return []api.SourceConnections{{Source: "main", IDs: ids}} })
	}
	app.member.nudge()
	eventually(t, "reported", func() bool { return coordinator.Status(id).Connections == 3 })
	all := keepalives(t, coordinator, id)
	last := all[len(all)-1]
	if last.Counters["dirty_keys"] != 7 || len(last.Counters) != 3 || !slices.Equal(last.Connections[0].IDs, []uint64{3, 5, 9}) {
		t.Errorf("said %+v", last)
	}
}

// impatient is the way to a coordinator that does not know of waiting: it answers at once, and that nothing is new.
type impatient struct{ http.RoundTripper }

func (i impatient) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/keepalive") {
		var said api.KeepaliveInstance
		if err := json.NewDecoder(r.Body).Decode(&said); err != nil {
			return nil, err
		}
		said.WaitMs = 0
		body, err := json.Marshal(said)
		if err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	return i.RoundTripper.RoundTrip(r)
}

func TestKeepalive_ACoordinatorThatDoesNotWaitIsNotHammered(t *testing.T) {
	t.Parallel()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	coordinator, _, id, _ := readyApp(t, LeaseTTL(2*time.Second), With(Config{HTTPClient: &http.Client{Transport: impatient{transport}}}))
	eventually(t, "settled down", func() bool {
		all := keepalives(t, coordinator, id)
		return len(all) > 0 && all[len(all)-1].After == coordinator.Status(id).Index
	})
	before := len(keepalives(t, coordinator, id))
	<-time.After(2 * time.Second)
	if n := len(keepalives(t, coordinator, id)) - before; n < 2 || n > 6 {
		t.Errorf("%d keepalives in a TTL", n)
	}
}

func TestKeepalive_NewsThatDoNotEndAreHeardAtASteadyPace(t *testing.T) {
	t.Parallel()
	var p parking
	var sum time.Duration
	for range 20 {
		sum += p.after(time.Second, time.Millisecond, true, 4*time.Second)
	}
	if sum < 3*time.Second {
		t.Errorf("20 keepalives in %v", sum)
	}
	if d := p.after(time.Second, time.Second, true, 4*time.Second); d != 0 {
		t.Errorf("after a full wait the next one follows in %v", d)
	}
	if d := p.after(time.Second, 0, true, 4*time.Second); d > 50*time.Millisecond {
		t.Errorf("the first news are followed up in %v", d)
	}
}

// A node that is stopped while a keepalive waits there leaves enough of the lease to ask it, or another one, again.
func TestKeepalive_ANodeThatHangsWhileItWaitsDoesNotCostTheLocks(t *testing.T) {
	t.Parallel()
	coordinator, app, id, _ := readyApp(t, LeaseTTL(2*time.Second))
	lock, err := app.Lock(within(t, 10*time.Second), "kept")
	must(t, err)
	parked(t, coordinator, id)
	path := "/v1/instances/" + id + "/keepalive"
	for range 3 {
		sent := len(coordinator.Requests(path))
		coordinator.DelayNext(1, time.Minute, path)
		eventually(t, "given up", func() bool { return len(coordinator.Requests(path)) >= sent+2 })
		eventually(t, "heard again", func() bool { return len(coordinator.Requests(path)) >= sent+3 })
	}
	if err := lock.Err(); err != nil {
		t.Errorf("the lock: %v", err)
	}
}

func TestNews_AnAnswerThatWasOvertakenIsNotHeeded(t *testing.T) {
	t.Parallel()
	coordinator, app, id, _ := readyApp(t)
	parked(t, coordinator, id)
	sent := time.Now()
	must(t, app.Pause(t.Context(), "maintenance"))
	before := app.member.index
	if changed := app.member.hear(sent, api.InstanceLease{State: api.StateReady, Index: before + 100}); !changed {
		t.Error("the next keepalive would wait")
	}
	if !app.Paused() || app.member.index == before+100 {
		t.Error("an answer from before the pause has ended it")
	}
}
