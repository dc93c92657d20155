package client

import (
	"context"
	"net/http"
	"os"
	"syscall"
	"time"
)

// Exit codes of Run. A second signal makes it 128 plus the signal's number.
const (
	ExitClean     = 0
	ExitFailed    = 1  // a server could not listen or broke down
	ExitLeftovers = 75 // something could not be finished, or this incarnation was over: see the log
)

// lastReportFor bounds what a second signal still allows.
const lastReportFor = 200 * time.Millisecond

// Run serves until the instance is asked to stop, by SIGTERM, SIGINT or the coordinator, and drains it then. It returns the exit code for
// os.Exit. A second signal ends the drain at once. Close what the requests used, such as database pools, after it.
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
	return a.drainOn(a.awaitStop(), s)
}

// awaitStop returns the reason to stop: the first signal, or somebody else's.
func (a *App) awaitStop() *StopError {
	select {
	case sig := <-a.signals:
		return &StopError{Reason: "signal " + sig.String(), Signal: sig}
	case why := <-a.stops:
		return why
	}
}

// drainOn drains in a goroutine of its own, so that signals are heard meanwhile.
func (a *App) drainOn(why *StopError, s *servers) int {
	a.log.Info("stopping", "reason", why.Reason)
	ctx, force := context.WithCancelCause(context.Background())
	defer force(context.Canceled)
	d := &drain{app: a, why: why, killAt: time.Now().Add(a.options.grace), servers: s, reports: a.newReporter(why.Reason)}
	defer d.reports.stop()
	done := make(chan struct{})
	a.joined.Go(func() {
		defer close(done)
		d.run(ctx)
	})
	signalled := why.Signal != nil
	for {
		select {
		case <-done:
			return d.exitCode()
		case sig := <-a.signals:
			if !signalled { // the drain was the coordinator's wish; this is the platform's first word
				signalled = true
				continue
			}
			force(&StopError{Reason: "second signal " + sig.String(), Signal: sig})
			return a.forced(sig, d)
		}
	}
}

func (d *drain) exitCode() int {
	switch {
	case d.why.failed:
		return ExitFailed
	case d.left > 0 || d.app.member.isFenced():
		return ExitLeftovers
	}
	return ExitClean
}

// forced ends everything that listens, with a last word to the coordinator if it hears it quickly.
func (a *App) forced(sig os.Signal, d *drain) int {
	a.log.Warn("forced to stop", "signal", sig.String())
	ctx, cancel := context.WithTimeout(context.Background(), lastReportFor)
	defer cancel()
	if phase, ok := d.phase.Load().(Phase); ok && a.member.reachable() {
		if err := a.member.report(ctx, phase, a.readCounters(), "second signal"); err != nil {
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
