package quiescetest_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/client/quiescetest"
)

// application runs one in the test's process.
func application(t *testing.T, addr string, opts ...client.Option) (app *client.App, signals quiescetest.Signals, code <-chan int) {
	t.Helper()
	signals = make(quiescetest.Signals, 2)
	app, err := client.Join("orders", append([]client.Option{client.Addrs(addr), client.Name("one"), client.Signals(signals),
		client.LameDuck(10 * time.Millisecond)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(app.Close)
	exited := make(chan int, 1)
	go func() { exited <- app.Run() }()
	return app, signals, exited
}

func declared(t *testing.T) (*quiescetest.Coordinator, string) {
	t.Helper()
	coordinator, addr := quiescetest.Start(t)
	var at uint64
	if err := coordinator.PutService("orders", api.PutService{MaxUnavailable: 1, SettleMs: &at, RestartHoldMs: &at}); err != nil {
		t.Fatal(err)
	}
	return coordinator, addr
}

func TestSignals_AnApplicationDrainsInsideOfItsTest(t *testing.T) {
	t.Parallel()
	coordinator, addr := declared(t)
	_, signals, code := application(t, addr)
	eventually(t, "ready", func() bool { return coordinator.Instances()[0].State == api.StateReady })
	signals.SendSIGTERM()
	if got := <-code; got != client.ExitClean {
		t.Errorf("exit code %d", got)
	}
	v := coordinator.Status(coordinator.Instances()[0].ID)
	if v.State != api.StateLeft || !slices.Contains(coordinator.Instances()[0].Phases, "flush") {
		t.Errorf("%+v", v)
	}
}

func TestControl_DoesWhatOperatorsDo(t *testing.T) {
	t.Parallel()
	coordinator, addr := declared(t)
	app, _, code := application(t, addr)
	eventually(t, "ready", func() bool { return coordinator.Instances()[0].State == api.StateReady })
	id := coordinator.Instances()[0].ID
	release := make(chan struct{})
	if err := app.On(client.PhaseFlush, "holds", func(ctx context.Context) error {
		select {
		case <-release:
		case <-ctx.Done():
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		what  string
		do    func() error
		holds func() bool
	}{
		{"paused", func() error { return coordinator.Pause(id) }, app.Paused},
		{"back", func() error { return coordinator.Unpause(id) }, func() bool { return !app.Paused() }},
		{"read-only", func() error { return coordinator.ReadOnly("orders", true) }, app.ReadOnly},
		{"writing", func() error { return coordinator.ReadOnly("orders", false) }, func() bool { return !app.ReadOnly() }},
		{"draining", func() error { return coordinator.Drain(id) }, func() bool { return coordinator.Status(id).Phase == "flush" }},
		{"undone", func() error { return coordinator.Undo(id) }, func() bool { return coordinator.Status(id).State == api.StateReady }},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		eventually(t, step.what, step.holds)
	}
	var refused *api.Problem
	if err := coordinator.Undo(id); !errors.As(err, &refused) || refused.Code != api.CodeInstanceState {
		t.Errorf("an undo of nothing: %v", err)
	}
	if v := coordinator.Status("nobody"); v.ID != "" {
		t.Errorf("an unknown instance: %+v", v)
	}
	var service api.Service
	if err := coordinator.Call(http.MethodGet, "/v1/services/orders", nil, &service); err != nil || service.MaxUnavailable != 1 || service.SettleMs != 0 {
		t.Errorf("read-only mode changed the rules: %+v, %v", service, err)
	}

	eventually(t, "the application serves again", func() bool { return app.Context().Err() == nil })
	plan, err := coordinator.StartPlan(api.PlanRules{Intent: api.PlanShutdown, Services: []string{"orders"}, AllowZero: true})
	if err != nil {
		t.Fatal(err)
	}
	close(release)
	if got := <-code; got != client.ExitClean {
		t.Errorf("exit code %d", got)
	}
	eventually(t, "the plan is through", func() bool {
		p, err := coordinator.Plan(plan)
		return err == nil && p.State == api.PlanSucceeded
	})
	if n := len(coordinator.Requests("/v1/plans")); n != 0 {
		t.Errorf("%d calls of the test itself are on record", n)
	}
}
