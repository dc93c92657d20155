package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client/quiescetest"
)

// diary notes what happened in which order.
type diary struct {
	mu   sync.Mutex
	list []string
}

func (d *diary) note(what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = append(d.list, what)
}

func (d *diary) read() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.list)
}

// notes gives a task that notes its name.
func (d *diary) notes(name string) func(context.Context) error {
	return func(context.Context) error {
		d.note(name)
		return nil
	}
}

// joinAlone makes an instance whose coordinator is not there, with signals of its own: what it does depends on nobody.
func joinAlone(t *testing.T, opts ...Option) (*App, quiescetest.Signals) {
	t.Helper()
	signals := make(quiescetest.Signals, 2)
	return join(t, "127.0.0.1:1", append([]Option{Signals(signals)}, opts...)...), signals
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestTask_PhasesComeInOrderAndTasksAfterThoseTheyName(t *testing.T) {
	t.Parallel()
	app, signals := joinAlone(t)
	var d diary
	phases := []Phase{PhaseLameDuck, PhaseReject, PhaseConsumers, PhaseTransactions, PhaseFlush, PhaseLocks, PhaseClose}
	for _, p := range slices.Backward(phases) {
		must(t, app.On(p, "b", d.notes(string(p)+" b"), After("a", "nobody")))
		must(t, app.On(p, "a", d.notes(string(p)+" a")))
	}
	must(t, app.On(PhaseClose, "pool", d.notes("pool"), After(TaskServers, "b")))
	code := run(app)
	signals.SendSIGTERM()
	if got := exitCode(t, code); got != ExitClean {
		t.Errorf("exit code %d", got)
	}
	var want []string
	for _, p := range phases {
		want = append(want, string(p)+" a", string(p)+" b")
	}
	if got := d.read(); !slices.Equal(got, append(want, "pool")) {
		t.Errorf("in the order %v", got)
	}
}

func TestTask_ThoseOfAPhaseRunSideBySide(t *testing.T) {
	t.Parallel()
	app, signals := joinAlone(t)
	met := make(chan struct{})
	must(t, app.On(PhaseFlush, "a", func(ctx context.Context) error {
		select {
		case met <- struct{}{}:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}))
	must(t, app.On(PhaseFlush, "b", func(ctx context.Context) error {
		select {
		case <-met:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}))
	code := run(app)
	signals.SendSIGTERM()
	if got := exitCode(t, code); got != ExitClean {
		t.Errorf("exit code %d", got)
	}
}

func TestTask_WhatCannotRunIsRefused(t *testing.T) {
	t.Parallel()
	app, _ := joinAlone(t)
	nothing := func(context.Context) error { return nil }
	must(t, app.On(PhaseFlush, "a", nothing, After("b")))
	must(t, app.On(PhaseFlush, "b", nothing, After("c")))
	must(t, app.On(PhaseClose, "c", nothing, After("a"))) // another phase
	for name, err := range map[string]error{
		"a circle":        app.On(PhaseFlush, "c", nothing, After("a")),
		"itself":          app.On(PhaseFlush, "d", nothing, After("d")),
		"before a grant":  app.On(PhaseAnnounce, "e", nothing),
		"the last word":   app.On(PhaseLeave, "f", nothing),
		"no such phase":   app.On("lunch", "g", nothing),
		"a circle of two": app.On(PhaseFlush, "c", nothing, After("x", "b")),
	} {
		if !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range tasksMax - 3 {
		must(t, app.On(PhaseFlush, fmt.Sprint(i), nothing))
	}
	if err := app.On(PhaseFlush, "one more", nothing); !errors.Is(err, ErrConfig) {
		t.Errorf("task number %d: %v", tasksMax+1, err)
	}
}

func TestTask_CanBeAddedDuringTheDrainForAPhaseThatIsStillToCome(t *testing.T) {
	t.Parallel()
	app, signals := joinAlone(t)
	var d diary
	must(t, app.On(PhaseConsumers, "adds", func(context.Context) error {
		for _, p := range []Phase{PhaseReject, PhaseConsumers} {
			if err := app.On(p, "too late", d.notes("too late")); !errors.Is(err, ErrStopping) {
				t.Errorf("phase %s: %v", p, err)
			}
		}
		return app.On(PhaseFlush, "in time", d.notes("in time"))
	}))
	code := run(app)
	signals.SendSIGTERM()
	if got := exitCode(t, code); got != ExitClean || !slices.Equal(d.read(), []string{"in time"}) {
		t.Errorf("exit code %d after %v", got, d.read())
	}
}

func TestTask_OneThatDoesNotHeedItsContextIsLeftBehindAtItsLimit(t *testing.T) {
	t.Parallel()
	app, signals := joinAlone(t, Grace(GraceDefault))
	release, ended := make(chan struct{}), make(chan struct{})
	var d diary
	must(t, app.On(PhaseFlush, "stuck", func(ctx context.Context) error {
		defer close(ended)
		<-ctx.Done()
		d.note("told")
		<-release
		return nil
	}, Within(50*time.Millisecond)))
	must(t, app.On(PhaseFlush, "next", d.notes("next"), After("stuck")))
	code := run(app)
	began := time.Now()
	signals.SendSIGTERM()
	if got := exitCode(t, code); got != ExitLeftovers || !slices.Equal(d.read(), []string{"told", "next"}) {
		t.Errorf("exit code %d after %v", got, d.read())
	}
	if took := time.Since(began); took > 3*time.Second { // of the 4 s that the phase has, half a second beyond its own 50 ms
		t.Errorf("took %v", took)
	}
	close(release)
	<-ended
}

func TestTask_ThatHasNoTimeLeftDoesNotBegin(t *testing.T) {
	t.Parallel()
	app, signals := joinAlone(t)
	must(t, app.On(PhaseFlush, "slow", func(ctx context.Context) error { <-ctx.Done(); return nil }))
	must(t, app.On(PhaseFlush, "after", func(context.Context) error { t.Error("began without time"); return nil }, After("slow")))
	code := run(app)
	signals.SendSIGTERM()
	if got := exitCode(t, code); got != ExitLeftovers {
		t.Errorf("exit code %d", got)
	}
}

func TestRun_SecondSignalEndsEveryPhase(t *testing.T) {
	t.Parallel()
	for _, p := range []Phase{PhaseLameDuck, PhaseReject, PhaseConsumers, PhaseTransactions, PhaseFlush, PhaseLocks, PhaseClose} {
		t.Run(string(p), func(t *testing.T) {
			t.Parallel()
			coordinator, addr := start(t)
			signals := make(quiescetest.Signals, 2)
			opts := []Option{Signals(signals), Grace(GraceDefault)}
			if p == PhaseLameDuck {
				opts = append(opts, LameDuck(3*time.Second))
			}
			app := join(t, addr, opts...)
			reached, ended := make(chan struct{}), make(chan struct{})
			must(t, app.On(p, "holds", func(ctx context.Context) error {
				defer close(ended)
				close(reached)
				<-ctx.Done()
				return nil
			}))
			code := run(app)
			signals.SendSIGTERM()
			<-reached
			reports := len(coordinator.Instances()[0].Phases)
			began := time.Now()
			signals.SendSIGTERM()
			if got := exitCode(t, code); got != 128+int(syscall.SIGTERM) {
				t.Errorf("exit code %d", got)
			}
			if took := time.Since(began); took > time.Second { // 200 ms are promised; the rest is for a loaded machine
				t.Errorf("took %v", took)
			}
			<-ended
			if v := coordinator.Instances()[0]; len(v.Phases) <= reports || v.State == api.StateLeft {
				t.Errorf("no last report: %+v", v)
			}
		})
	}
}
