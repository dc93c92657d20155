package client

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client/quiescetest"
)

// readyApp is an instance that serves, and its id.
func readyApp(t *testing.T, opts ...Option) (coordinator *quiescetest.Coordinator, app *App, id string, code <-chan int) {
	t.Helper()
	coordinator, addr := start(t)
	app = join(t, addr, append([]Option{Grace(GraceDefault)}, opts...)...)
	code = run(app)
	eventually(t, "ready", func() bool { return coordinator.Instances()[0].State == api.StateReady })
	return coordinator, app, coordinator.Instances()[0].ID, code
}

// holds gives a task that says when it has begun, and goes on until it is released or told to end.
func holds(app *App, p Phase, opts ...TaskOption) (began chan struct{}, release chan struct{}, err error) {
	began, release = make(chan struct{}, 8), make(chan struct{})
	return began, release, app.On(p, "holds", func(ctx context.Context) error {
		began <- struct{}{}
		select {
		case <-release:
		case <-ctx.Done():
		}
		return nil
	}, opts...)
}

func TestUndo_InEveryPhaseBeforeTheLocksTheInstanceServesAgain(t *testing.T) {
	t.Parallel()
	for _, p := range []Phase{PhaseLameDuck, PhaseReject, PhaseConsumers, PhaseTransactions, PhaseFlush} {
		t.Run(string(p), func(t *testing.T) {
			t.Parallel()
			coordinator, app, id, code := readyApp(t, LameDuck(3*time.Second))
			if p != PhaseLameDuck {
				app.budget.limit[PhaseLameDuck] = 10 * time.Millisecond // the rest of its phases is long enough to be undone in
			}
			handler := app.Handler(http.NotFoundHandler())
			began, release, err := holds(app, p)
			must(t, err)
			lock, err := app.Lock(within(t, 10*time.Second), "kept")
			must(t, err)
			draining := app.Draining()

			must(t, coordinator.Drain(id))
			<-began
			<-draining
			if probe(app.Readiness()) != http.StatusServiceUnavailable {
				t.Error("ready while it drains")
			}
			must(t, coordinator.Undo(id))
			eventually(t, "ready again", func() bool { return probe(app.Readiness()) == http.StatusOK })
			if got := probe(handler); got != http.StatusNotFound {
				t.Errorf("a request after the undo is answered with %d", got)
			}
			select {
			case <-app.Draining():
				t.Error("Draining gives the channel of the drain that was undone")
			default:
			}
			if app.Context().Err() != nil || lock.Err() != nil {
				t.Errorf("after the undo: %v, %v", app.Context().Err(), lock.Err())
			}
			eventually(t, "the coordinator has it ready", func() bool { return coordinator.Instances()[0].State == api.StateReady })

			must(t, coordinator.Drain(id)) // and it can drain again
			<-began
			must(t, coordinator.Undo(id))
			eventually(t, "ready once more", func() bool { return probe(app.Readiness()) == http.StatusOK })
			select {
			case c := <-code:
				t.Fatalf("exited with %d", c)
			default:
			}
			app.requestStop(&StopError{Reason: "test", failed: true}) // what was asked meanwhile is forgotten, this is not
			<-began
			close(release)
			if got := exitCode(t, code); got != ExitFailed {
				t.Errorf("exit code %d", got)
			}
			if v := coordinator.Status(id); v.State != api.StateLeft {
				t.Errorf("in the end it is %s", v.State)
			}
		})
	}
}

func TestUndo_WhatTheDrainEndedBeginsAnewAndTheRestIsNotDisturbed(t *testing.T) {
	t.Parallel()
	coordinator, app, id, _ := readyApp(t)
	var d diary
	must(t, app.On(PhaseConsumers, "first", d.notes("stop first"), Undo(d.notes("start first"))))
	must(t, app.On(PhaseConsumers, "second", d.notes("stop second"), After("first"), Undo(d.notes("start second"))))
	must(t, app.On(PhaseClose, "never", d.notes("never"), Undo(d.notes("never"))))
	works := make(chan context.Context, 8)
	must(t, app.Go("reader", func(ctx context.Context) error {
		works <- ctx
		<-ctx.Done()
		return ctx.Err()
	}))
	first := <-works
	old := app.Context()
	began, _, err := holds(app, PhaseFlush)
	must(t, err)

	must(t, coordinator.Drain(id))
	<-began
	must(t, coordinator.Undo(id))
	second := <-works
	eventually(t, "ready again", func() bool { return probe(app.Readiness()) == http.StatusOK })
	if first.Err() == nil || second.Err() != nil {
		t.Errorf("the reader's contexts: %v, then %v", first.Err(), second.Err())
	}
	var why *StopError
	if !errors.As(context.Cause(old), &why) || app.Context().Err() != nil {
		t.Errorf("the old context ended with %v, the new one with %v", context.Cause(old), app.Context().Err())
	}
	must(t, app.On(PhaseReject, "new", d.notes("new"))) // the phase is still to come again
	if want := []string{"stop first", "stop second", "start second", "start first"}; !slices.Equal(d.read(), want) {
		t.Errorf("happened: %v, want %v", d.read(), want)
	}
}

func TestUndo_InTheQueueDisturbsNothing(t *testing.T) {
	t.Parallel()
	coordinator, app, id, _ := readyApp(t)
	taken := join(t, app.options.config.Addrs[0], Name("other"))
	run(taken)
	eventually(t, "both ready", func() bool { return coordinator.Instances()[1].State == api.StateReady })
	must(t, coordinator.Pause(coordinator.Instances()[1].ID)) // takes up the budget
	work, draining := app.Context(), app.Draining()
	asked := make(chan error, 2)
	go func() { asked <- app.Drain(within(t, 10*time.Second), Restart) }()
	eventually(t, "queued", func() bool { return coordinator.Status(id).State == api.StateQueued })
	go func() { asked <- app.Drain(within(t, 10*time.Second), Restart) }()
	eventually(t, "asked twice", func() bool { return len(app.stops) == 1 })
	if got := probe(app.Readiness()); got != http.StatusOK {
		t.Errorf("in the queue readiness is %d", got)
	}
	must(t, coordinator.Undo(id))
	for range 2 {
		if err := <-asked; !errors.Is(err, ErrUndone) {
			t.Errorf("Drain returns %v", err)
		}
	}
	parked(t, coordinator, id)
	if n := len(drainsAsked(t, coordinator, id)); n != 1 || coordinator.Status(id).State != api.StateReady {
		t.Errorf("asked %d times, and is %s: what was undone is asked for again", n, coordinator.Status(id).State)
	}
	if work.Err() != nil || app.Context() != work || app.Draining() != draining {
		t.Error("what had not ended was replaced")
	}

	go func() { asked <- app.Drain(within(t, 10*time.Second), Remove) }()
	eventually(t, "queued again", func() bool { return coordinator.Status(id).State == api.StateQueued })
	must(t, coordinator.Unpause(coordinator.Instances()[1].ID))
	if err := <-asked; err != nil {
		t.Errorf("Drain returns %v", err)
	}
	eventually(t, "left", func() bool { return coordinator.Status(id).State == api.StateLeft })
	if v := coordinator.Status(id); v.Intent != api.IntentRemove {
		t.Errorf("left with intent %q", v.Intent)
	}
}

func TestUndo_NeverHappensToOneThatItsPlatformKills(t *testing.T) {
	t.Parallel()
	signals := make(quiescetest.Signals, 2)
	coordinator, app, id, code := readyApp(t, Signals(signals))
	began, release, err := holds(app, PhaseFlush)
	must(t, err)
	signals.SendSIGTERM()
	<-began
	var p *api.Problem
	if err := coordinator.Undo(id); !errors.As(err, &p) || p.Code != api.CodeNotUndoable {
		t.Errorf("undo: %v", err)
	}
	app.member.mu.Lock()
	d := app.member.drain
	app.member.mu.Unlock()
	d.undo() // as if it had heard so all the same
	close(release)
	if got := exitCode(t, code); got != ExitClean {
		t.Errorf("exit code %d", got)
	}
}

// deafen keeps an instance from hearing news: the keepalive that is parked ends, and those that follow break.
func deafen(t *testing.T, coordinator *quiescetest.Coordinator, app *App, id string) {
	t.Helper()
	path := "/v1/instances/" + id + "/keepalive"
	sent := len(coordinator.Requests(path))
	coordinator.DropNext(1_000, path)
	app.member.nudge()
	eventually(t, "deaf", func() bool { return len(coordinator.Requests(path)) > sent })
}

// The news that the drain was undone is on its way as the instance comes to the point of no return.
func TestUndo_IsHeardAtThePointOfNoReturnAtTheLatest(t *testing.T) {
	t.Parallel()
	coordinator, app, id, _ := readyApp(t, LeaseTTL(time.Minute))
	began, release, err := holds(app, PhaseFlush)
	must(t, err)
	lock, err := app.Lock(within(t, 10*time.Second), "kept")
	must(t, err)
	must(t, coordinator.Drain(id))
	<-began
	deafen(t, coordinator, app, id)
	must(t, coordinator.Undo(id))
	close(release)
	eventually(t, "ready again", func() bool { return probe(app.Readiness()) == http.StatusOK })
	if lock.Err() != nil {
		t.Errorf("the lock was given back: %v", lock.Err())
	}
	coordinator.ClearFaults()
}

func TestUndo_ACoordinatorThatIsAwayDoesNotHoldUpThePointOfNoReturn(t *testing.T) {
	t.Parallel()
	coordinator, app, id, code := readyApp(t)
	began, release, err := holds(app, PhaseFlush)
	must(t, err)
	must(t, coordinator.Drain(id))
	<-began
	coordinator.Hang()
	close(release)
	at := time.Now()
	if got := exitCode(t, code); got != ExitClean {
		t.Errorf("exit code %d", got)
	}
	if took := time.Since(at); took > 4*time.Second { // a second for the answer that does not come, and one each for locks and leave
		t.Errorf("took %v", took)
	}
}

func TestUndo_RequestsAfterItAreNotCancelledWithThoseBefore(t *testing.T) {
	t.Parallel()
	coordinator, app, id, _ := readyApp(t, Grace(GraceMin), LameDuck(1))
	app.budget.limit[PhaseFlush] = GraceDefault
	began, ended := make(chan struct{}), make(chan struct{})
	slow := app.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
	}))
	go func() {
		defer close(ended)
		probe(slow)
	}()
	<-began
	flushing, _, err := holds(app, PhaseFlush)
	must(t, err)
	must(t, coordinator.Drain(id))
	<-flushing
	<-ended
	must(t, coordinator.Undo(id))
	eventually(t, "ready again", app.serving)
	probe(app.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
			t.Errorf("a new request: %v", context.Cause(r.Context()))
		case <-time.After(100 * time.Millisecond): // the end would have come from a goroutine of its own
		}
	})))
}
