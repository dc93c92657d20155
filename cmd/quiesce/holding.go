package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/cmd/quiesce/guard"
)

const (
	extendsPerTTL = 20 // how often the guard is told how long the lease lasts
	checksPerTTL  = 3  // how often the cluster is asked whether somebody took the locks away
)

// lastTry is for a session that may be over already.
const lastTry = 100 * time.Millisecond

// holding is the locks while their command runs.
type holding struct {
	*lockRun
	client  *client.Client
	session *client.Session
	locks   *client.Locks

	why string // the command had to end; empty while it need not
}

// attend lasts until the command has ended.
func (h *holding) attend(child *guard.Child, signals *signals, tty *terminal) {
	ctx, cancel := context.WithCancel(context.Background())
	taken := make(chan string, 1)
	var joined sync.WaitGroup
	joined.Go(func() { h.watch(ctx, taken) })
	defer joined.Wait()
	defer cancel()
	extend := time.NewTicker(h.ttl / extendsPerTTL)
	defer extend.Stop()
	done, revoked := h.locks.Done(), h.locks.Revoked()
	for {
		select {
		case <-child.Ended():
			return
		case <-extend.C:
			child.Extend(guard.In(h.session.Remaining()))
			tty.look(child)
		case s := <-signals.heard:
			child.Signal(s.(syscall.Signal))
		case by := <-child.Stopped():
			if tty.stopped(by) {
				h.say("a command that holds a lock is not stopped: it goes on")
			}
		case <-revoked:
			revoked = nil
			h.revoke(child)
		case <-done:
			done = nil
			h.lose(child, h.reason())
		case name := <-taken:
			h.lose(child, fmt.Sprintf("lock %q was taken away by force", name))
		}
	}
}

// revoke asks the command to end, in the time that the operator gives it.
func (h *holding) revoke(child *guard.Child) {
	asked := h.locks.Revocation()
	h.why = "the lock was revoked"
	if asked.Reason != "" {
		h.why += " (" + asked.Reason + ")"
	}
	left := max(0, time.Until(asked.Until))
	h.say("%s: the command has %s to end", h.why, left.Round(time.Millisecond))
	child.End(left)
}

// lose ends the command at once. The guard has seen it coming, unless the lock did not go with the time.
func (h *holding) lose(child *guard.Child, why string) {
	if h.why == "" {
		h.why = why
	}
	child.End(0)
	child.Kill()
}

func (h *holding) reason() string {
	switch err := h.session.Err(); {
	case errors.Is(err, client.ErrSessionGone):
		return "the session is gone"
	case errors.Is(h.locks.Err(), client.ErrLockRevoked):
		return "the lock was revoked"
	}
	return "the lease could not be renewed in time"
}

// watch asks the cluster from time to time whether the locks are still this session's: a forced release tells the holder nothing.
func (h *holding) watch(ctx context.Context, taken chan<- string) {
	ticker := time.NewTicker(h.ttl / checksPerTTL)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, name := range h.names {
			var answer api.LockValidity
			ask := api.ValidateLock{Name: name, Token: h.locks.Token(name)}
			if err := h.client.Call(ctx, http.MethodPost, "/v1/locks/validate", ask, &answer); err == nil && !answer.Valid {
				taken <- name
				return
			}
		}
	}
}

// finish gives the locks back and makes the exit code of what happened.
func (h *holding) finish(ctx context.Context, child *guard.Child) error {
	outcome, err := child.Outcome()
	if err != nil {
		// What the command started may still run, so the lock is not given back: it lapses.
		return fmt.Errorf("%w; %s goes with its session, within %s", err, h.quoted(), h.ttl)
	}
	if err := h.giveBack(ctx); err != nil && !outcome.Cut {
		h.say("%s could not be given back and goes with its session: %s", h.quoted(), sentenceOf(err))
	}
	if outcome.Fault != "" {
		return &exitError{outcome.Code, fmt.Errorf("%s: %s", h.command[0], outcome.Fault)}
	}
	if outcome.Cut && h.why == "" {
		h.why = h.reason() // the guard did not wait to be told
	}
	if h.why != "" {
		return &exitError{exitLost, fmt.Errorf("%s: %s; the command was ended (%s)", h.quoted(), h.why, ending(outcome))}
	}
	if outcome.Rest > 0 && guard.Rest(h.rest) == guard.EndRest {
		h.say("the command left processes behind, which were ended: %d", outcome.Rest)
	}
	if outcome.Signal != 0 {
		return silently(128 + outcome.Signal)
	}
	if outcome.Code != 0 {
		return silently(outcome.Code)
	}
	return nil
}

func ending(o guard.Outcome) string {
	if o.Signal != 0 {
		return syscall.Signal(o.Signal).String()
	}
	return fmt.Sprintf("exit code %d", o.Code)
}

// giveBack ends the session, and so everything that it holds or waits for, in one entry. Trying for longer than it would last anyway is in
// vain.
func (h *holding) giveBack(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, min(h.cli.timeout, max(h.session.Remaining(), lastTry)))
	defer cancel()
	return h.session.Close(ctx)
}
