package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/cmd/quiesce/guard"
)

const (
	// stopsHeld is more than what counts: the first signal drains, the second forces.
	stopsHeld = 4
	// markLabel has a text that no other run has, so that the instance is found among those of its name.
	markLabel = "quiesce.run"
	// identifyFor bounds the questions that the command does not need the answers to.
	identifyFor = time.Second
	// leaveFor bounds the word that the command has ended by itself. The lease says the same later.
	leaveFor = 3 * time.Second
)

// errKilled says that the command would not end.
var errKilled = errors.New("the command did not end in time and was killed")

// serving is a command that runs as an instance.
type serving struct {
	*serviceRun
	signals *signals
	mark    string         // this run's, see markLabel
	stops   chan os.Signal // for the app
	app     *client.App
	child   *guard.Child

	stopping atomic.Bool // the command was asked to end
	killed   atomic.Bool
	died     atomic.Bool // the command ended without being asked
}

// serve lasts until the command has ended, and the instance with it.
func (s *serving) serve(parent context.Context) error {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	child, err := guard.Start(guardCommand(), s.spec(s.environment(ctx)))
	if err != nil {
		s.leave(ctx)
		s.app.Close()
		return err
	}
	s.child = child
	if err := s.tasks(); err != nil {
		child.End(0)
		<-child.Ended()
		s.leave(ctx)
		s.app.Close()
		return err
	}
	var joined sync.WaitGroup
	joined.Go(func() { s.listen(ctx) })
	joined.Go(func() { s.open(ctx) })
	joined.Go(func() { s.flag(ctx) })
	joined.Go(func() { s.watch(ctx) })
	code := s.app.Run()
	cancel()
	joined.Wait()
	child.End(0) // after a second signal it may still run
	<-child.Ended()
	return s.finish(code)
}

// tasks make the command part of the drain. It is asked to end when new requests would be refused, and has the time of all phases up to the
// point of no return.
func (s *serving) tasks() error {
	return errors.Join(
		s.app.On(client.PhaseReject, "command", func(ctx context.Context) error {
			s.stopping.Store(true)
			s.child.Stop(s.signal, s.grace) // the guard kills it then, also if this drain is undone or this program is gone
			return s.await(ctx)
		}),
		s.app.On(client.PhaseConsumers, "command", s.await),
		s.app.On(client.PhaseTransactions, "command", s.await),
		s.app.On(client.PhaseFlush, "command", func(ctx context.Context) error {
			if err := s.await(ctx); err != nil || s.hasEnded() {
				return err
			}
			s.killed.Store(true)
			s.child.End(0)
			s.child.Kill()
			return errKilled
		}))
}

// await gives the command the time of a phase. That it needs the next as well is no fault.
func (s *serving) await(ctx context.Context) error {
	select {
	case <-s.child.Ended():
	case <-ctx.Done():
	}
	return nil
}

func (s *serving) hasEnded() bool {
	select {
	case <-s.child.Ended():
		return true
	default:
		return false
	}
}

// toCommand are the signals that mean nothing to this program.
var toCommand = []os.Signal{syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGWINCH}

// listen hands signals to the app, which drains, or to the command.
func (s *serving) listen(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case sig := <-s.signals.heard:
			if sig == syscall.SIGTERM || sig == syscall.SIGINT {
				s.stop(sig)
			} else {
				s.child.Signal(sig.(syscall.Signal))
			}
		case by := <-s.child.Stopped():
			s.cli.say(fmt.Sprintf("the command was stopped (%s): it has no terminal to read from, give it </dev/null", by))
		}
	}
}

func (s *serving) stop(sig os.Signal) {
	select {
	case s.stops <- sig:
	default: // more than count
	}
}

// open says that the instance is ready when the gate says so of the command.
func (s *serving) open(ctx context.Context) {
	if s.gate.await(ctx) != nil || s.hasEnded() {
		return
	}
	s.app.Ready()
	notify("READY=1")
}

// flagEvery is how late a pause can be seen; a drain is seen at once.
const flagEvery = 200 * time.Millisecond

// flag keeps the draining file as it should be, until the end.
func (s *serving) flag(ctx context.Context) {
	ticker := time.NewTicker(flagEvery)
	defer ticker.Stop()
	there := false
	for {
		draining := s.app.Draining() // another one after a drain that was undone
		wanted := isClosed(draining)
		if wanted {
			notify("STOPPING=1")
			draining = nil
		}
		wanted = wanted || s.app.Paused()
		if s.drainFile != "" && wanted != there {
			there = s.putFlag(wanted)
		}
		select {
		case <-ctx.Done():
			return
		case <-draining:
		case <-ticker.C:
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// putFlag makes the file or removes it, and tells whether it is there.
func (s *serving) putFlag(wanted bool) bool {
	var err error
	if wanted {
		err = os.WriteFile(s.drainFile, nil, 0o644) //nolint:gosec // another program's readiness probe reads it
	} else if err = os.Remove(s.drainFile); errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if err != nil {
		s.cli.say("the draining file: " + err.Error())
		return !wanted // try again
	}
	return wanted
}

// watch ends the instance when the command has ended without being asked to: it serves no more, so nobody is to be asked.
func (s *serving) watch(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-s.child.Ended():
	}
	// A drain that is under way goes on to its end by itself, unless it is undone: then there is no command any more to serve on.
	for s.stopping.Load() && isClosed(s.app.Draining()) {
		if pauseUntil(ctx, time.Now().Add(flagEvery)) != nil {
			return
		}
	}
	s.died.Store(true)
	if s.leave(ctx) {
		return // the app hears that this incarnation is over
	}
	s.stop(syscall.SIGTERM)
	s.stop(syscall.SIGTERM)
}

// leave says that the instance has left. Its place is kept for the next run.
func (s *serving) leave(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, leaveFor)
	defer cancel()
	self, found := s.identify(ctx)
	if !found {
		return false
	}
	return s.app.Client().Call(ctx, http.MethodPost, instancePath(self.ID)+"/left", api.Incarnation{Incarnation: self.Incarnation}, nil) == nil
}

// identify finds this run's instance in the cluster, if the cluster knows it yet.
func (s *serving) identify(ctx context.Context) (api.Instance, bool) {
	query := url.Values{"service": {s.service}, "limit": {fmt.Sprint(api.PageMax)}}
	for range pagesMax {
		var page api.Instances
		if err := s.app.Client().Call(ctx, http.MethodGet, withQuery("/v1/instances", query), nil, &page); err != nil {
			return api.Instance{}, false
		}
		for _, i := range page.Instances {
			if i.Labels[markLabel] == s.mark {
				return i, true
			}
		}
		if page.Cursor == "" {
			return api.Instance{}, false
		}
		query.Set("cursor", page.Cursor)
	}
	return api.Instance{}, false
}

// environment is what the command sees. It must not think that the service manager talks to it.
func (s *serving) environment(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, identifyFor)
	defer cancel()
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, envNotify+"=") {
			env = append(env, v)
		}
	}
	env = append(env, client.EnvAddrs+"="+strings.Join(s.cli.addrs, ","), client.EnvInstance+"="+s.name, envService+"="+s.service)
	if self, found := s.identify(ctx); found {
		env = append(env, envInstanceID+"="+self.ID)
	}
	return env
}

// finish makes the exit code of what happened. Code is the app's.
func (s *serving) finish(code int) error {
	var stop *client.StopError
	fenced := errors.As(context.Cause(s.app.Context()), &stop) && stop.Fenced && !s.died.Load()
	outcome, err := s.child.Outcome()
	switch {
	case err != nil:
		return err
	case outcome.Fault != "":
		return &exitError{outcome.Code, fmt.Errorf("%s: %s", s.command[0], outcome.Fault)}
	case code > 128 && !s.died.Load():
		return silently(code)
	case fenced:
		return &exitError{exitLost, fmt.Errorf("%s/%s was over for the cluster, which has another of its name or counted it as lost; the command was ended (%s)", s.service, s.name, ending(outcome))}
	case s.killed.Load() || outcome.Cut && outcome.Signal == int(syscall.SIGKILL):
		return &exitError{exitNotInTime, errKilled}
	case outcome.Signal != 0:
		return silently(128 + outcome.Signal)
	case outcome.Code != 0:
		return silently(outcome.Code)
	}
	return nil
}
