package client

import (
	"context"
	"net/http"
	"os"
	"syscall"
	"time"
)

// StopError is why an instance stops: the cause of its contexts.
type StopError struct {
	Reason string
	Signal os.Signal // nil when no signal asked
	Fenced bool      // another incarnation has taken over, or the coordinator counted this one as lost

	at      time.Time // when it came
	intent  Intent    // instead of the instance's, or ""
	granted bool      // the drain was asked for elsewhere and is granted
	failed  bool      // of itself
}

func (e *StopError) Error() string { return "the instance stops: " + e.Reason }

// Exit codes of Run. A second signal makes it 128 plus the signal's number.
const (
	ExitClean     = 0
	ExitFailed    = 1  // a server could not listen or broke down
	ExitLeftovers = 75 // something could not be finished, or this incarnation was over: see the log
)

// lastReportFor bounds what a second signal still allows.
const lastReportFor = 200 * time.Millisecond

// Run serves until the instance is asked to stop, by SIGTERM, SIGINT, Drain or the coordinator, and drains it then. A drain that is undone
// ends in serving on. It returns the exit code for os.Exit. A second signal ends the drain at once. Close what the requests used, such as
// database pools, after it, or by a task in phase close after TaskServers.
func (a *App) Run(list ...*http.Server) int {
	defer a.Close()
	s, err := listen(list)
	if err != nil {
		a.log.Error("cannot serve", "error", err)
		a.leaveEarly()
		return ExitFailed
	}
	s.serve(func(err error) {
		a.requestStop(&StopError{Reason: err.Error(), failed: true})
	})
	for i, l := range s.open {
		a.log.Info("listening", "server", i, "addr", l.Addr().String())
	}
	if !a.options.manualReady {
		a.Ready()
	}
	for why := a.awaitStop(); why != nil; {
		code, over, signalled := a.drainOn(why, s)
		if over {
			return code
		}
		if why = signalled; why == nil { // else a signal came while the drain was being undone
			why = a.awaitStop()
		}
	}
	s.abort()
	return ExitFailed
}

// awaitStop returns the reason to stop: the first signal, or somebody else's. After Close it is nil.
func (a *App) awaitStop() *StopError {
	select {
	case <-a.life.Done():
		return nil
	case why := <-a.signals.heard:
		return why
	case why := <-a.stops:
		return why
	}
}

// drainOn drains in a goroutine of its own, so that signals are heard meanwhile. It is not over if the drain was undone.
func (a *App) drainOn(why *StopError, s *servers) (code int, over bool, signalled *StopError) {
	a.log.Info("stopping", "reason", why.Reason)
	ctx, force := context.WithCancelCause(context.Background())
	defer force(context.Canceled)
	d := a.beginStop(ctx, why, s)
	defer d.reports.cancel()
	done := make(chan struct{})
	a.joined.Go(func() {
		defer close(done)
		d.run()
	})
	hurried := why.Signal != nil
	for {
		select {
		case <-done:
			return d.exitCode(), !d.wasUndone(), signalled
		case next := <-a.signals.heard:
			switch {
			case hurried || signalled != nil:
				force(&StopError{Reason: "second " + next.Reason, Signal: next.Signal})
				return a.forced(next.Signal, d), true, nil
			case d.hurry(next): // the platform's first word in a drain that others wanted
				hurried = true
				a.joined.Go(d.askAgain)
			default:
				signalled = next
			}
		}
	}
}

// beginStop makes the drain that keepalives speak to.
func (a *App) beginStop(force context.Context, why *StopError, s *servers) *drain {
	d := a.newDrain(force, why, s)
	a.member.drainBegins(d, why.granted)
	return d
}

// forgetStops forgets what was asked while a drain was under way that is undone: but not what keeps the instance from serving.
func (a *App) forgetStops() {
	select {
	case why := <-a.stops:
		if why.failed || why.Fenced {
			a.requestStop(why)
		}
	default:
	}
}

// forced ends everything that listens, with a last word to the coordinator if it hears it quickly.
func (a *App) forced(sig os.Signal, d *drain) int {
	a.log.Warn("forced to stop", "signal", sig.String())
	ctx, cancel := context.WithTimeout(context.Background(), lastReportFor)
	defer cancel()
	if phase, ok := d.phase.Load().(Phase); ok && a.member.reachable() {
		if err := d.reports.send(ctx, phase, a.readCounters()); err != nil {
			a.log.Warn("the last report was not heard", "error", err)
		}
	}
	d.servers.abort()
	return signalExit(sig)
}

func signalExit(sig os.Signal) int {
	number, ok := sig.(syscall.Signal)
	if !ok {
		return ExitFailed
	}
	return 128 + int(number)
}

// leaveEarly takes back the registration of a process that never served.
func (a *App) leaveEarly() {
	if !a.member.reachable() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), reportFor)
	defer cancel()
	if err := a.member.leave(ctx); err != nil {
		a.log.Warn("left without a word; the lease will say it", "error", err)
	}
}
