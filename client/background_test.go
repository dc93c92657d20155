package client

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/client/quiescetest"
)

func TestGo_WorkEndsInPhaseConsumersAndIsWaitedFor(t *testing.T) {
	t.Parallel()
	app, signals := joinAlone(t)
	var d diary
	must(t, app.Go("reader", func(ctx context.Context) error {
		<-ctx.Done()
		if app.Context().Err() == nil {
			t.Error("told to end before new work was refused")
		}
		<-time.After(20 * time.Millisecond) // brings its message to an end
		d.note("reader")
		return ctx.Err()
	}))
	must(t, app.On(PhaseTransactions, "after", d.notes("transactions")))
	must(t, app.On(PhaseConsumers, "late", func(context.Context) error {
		return nil
	}, After(TaskBackground)))
	code := run(app)
	signals.SendSIGTERM()
	if got := exitCode(t, code); got != ExitClean {
		t.Errorf("exit code %d", got)
	}
	if got := d.read(); len(got) != 2 || got[0] != "reader" {
		t.Errorf("happened: %v", got)
	}
	if err := app.Go("late", func(context.Context) error { return nil }); !errors.Is(err, ErrStopping) {
		t.Errorf("work after the drain: %v", err)
	}
}

func TestGo_WhatDoesNotEndOrFailsAsItEndsIsLeftOver(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	for name, tc := range map[string]struct {
		work func(ctx context.Context) error
		code int
	}{
		"its context's error": {func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }, ExitClean},
		"another error":       {func(ctx context.Context) error { <-ctx.Done(); return errors.New("on purpose") }, ExitLeftovers},
		"a panic":             {func(ctx context.Context) error { <-ctx.Done(); panic("on purpose") }, ExitLeftovers},
		"no end":              {func(context.Context) error { <-release; return nil }, ExitLeftovers},
		"an error before":     {func(context.Context) error { return errors.New("on purpose") }, ExitClean},
	} {
		t.Run(name, func(t *testing.T) {
			app, signals := joinAlone(t)
			must(t, app.Go(name, tc.work))
			code := run(app)
			signals.SendSIGTERM()
			if got := exitCode(t, code); got != tc.code {
				t.Errorf("exit code %d, want %d", got, tc.code)
			}
		})
	}
}

func TestGo_EssentialWorkThatFailsDrainsTheInstance(t *testing.T) {
	t.Parallel()
	coordinator, app, id, code := readyApp(t)
	for _, work := range []func(context.Context) error{
		func(context.Context) error { return errors.New("not needed") },
		func(context.Context) error { panic("not needed") },
	} {
		must(t, app.Go("optional", work))
	}
	eventually(t, "both failed", func() bool { return app.background.count() == 0 })
	if probe(app.Readiness()) != http.StatusOK {
		t.Error("work that is not essential stopped the instance")
	}
	must(t, app.Go("essential", func(context.Context) error { panic("on purpose") }, Essential()))
	if got := exitCode(t, code); got != ExitFailed {
		t.Errorf("exit code %d", got)
	}
	if v := coordinator.Status(id); v.State != "left" {
		t.Errorf("in the end it is %s", v.State)
	}
}

// There is no room in the budget, but an instance that is broken must not serve on until there is.
func TestGo_WhatIsBrokenDoesNotWaitForRoom(t *testing.T) {
	t.Parallel()
	coordinator, app, id, code := readyApp(t, Grace(GraceMin), LameDuck(1))
	other := join(t, app.options.config.Addrs[0], Name("other"))
	run(other)
	eventually(t, "both ready", func() bool { return coordinator.Instances()[1].State == "ready" })
	must(t, coordinator.Pause(coordinator.Instances()[1].ID))
	must(t, app.Go("essential", func(context.Context) error { return errors.New("on purpose") }, Essential()))
	if got := exitCode(t, code); got != ExitFailed {
		t.Errorf("exit code %d", got)
	}
	if v := coordinator.Status(id); !v.Overdraft {
		t.Errorf("%+v", v)
	}
}

func TestGo_IsBounded(t *testing.T) {
	t.Parallel()
	signals := make(quiescetest.Signals, 2)
	_, app, _, code := readyApp(t, Signals(signals))
	wait := func(ctx context.Context) error { <-ctx.Done(); return nil }
	for range backgroundMax {
		must(t, app.Go("one of many", wait))
	}
	if err := app.Go("one more", wait); !errors.Is(err, ErrConfig) {
		t.Errorf("number %d: %v", backgroundMax+1, err)
	}
	signals.SendSIGTERM()
	if got := exitCode(t, code); got != ExitClean {
		t.Errorf("exit code %d", got)
	}
}
