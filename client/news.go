package client

import (
	"context"
	"errors"
	"time"

	"github.com/quiescehq/quiesce/api"
)

// What the instance hears of itself, and what it does about it.

// learnLocked notes what the coordinator says that the instance's state is.
func (m *member) learnLocked(state string) {
	m.app.paused.Store(state == api.StatePaused)
	if m.state == state {
		return
	}
	m.state = state
	m.tellLocked()
}

// tellLocked wakes those that wait for another state.
func (m *member) tellLocked() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// isQueued tells whether the instance waits for its grant. The channel is closed when that may have changed.
func (m *member) isQueued() (bool, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state == api.StateQueued && !m.fenced, m.changed
}

// drainBegins makes what is heard from now on the drain's business. It is known if the coordinator granted it before anybody asked here.
func (m *member) drainBegins(d *drain, known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drain, m.known = d, known
}

// drainOver is said of a drain that was undone.
func (m *member) drainOver() {
	m.mu.Lock()
	m.drain, m.known = nil, false
	m.index = 0 // the next keepalive is answered at once: the instance may have been asked to drain again meanwhile
	m.mu.Unlock()
	m.nudge()
}

func (m *member) drainKnown() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known
}

// hear takes in the answer to a keepalive. One that was sent before the instance's last command was answered may be overtaken by that: it
// says nothing, and as its index is not noted, the next one is answered at once.
func (m *member) hear(sent time.Time, got api.InstanceLease) (changed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if sent.Before(m.stateSince) {
		return true
	}
	changed = got.Index != m.index
	m.index = got.Index
	m.learnLocked(got.State)
	m.app.writesNo.Store(got.ReadOnly)
	switch {
	case m.drain == nil && got.Directive == api.DirectiveDrain:
		m.app.requestStop(&StopError{Reason: "the coordinator granted a drain", granted: true})
	case m.drain != nil && m.known && serves(got.State):
		m.drain.undo()
	}
	return changed
}

// serves tells whether a state is one to which a drain is undone.
func serves(state string) bool {
	return state == api.StateReady || state == api.StatePaused || state == api.StateRegistered
}

// Paused tells whether the instance is out of service for a while, at its own wish or an operator's: it is not ready, and serves what
// comes all the same.
func (a *App) Paused() bool { return a.paused.Load() }

// Pause takes the instance out of service until Resume, if the budget of its service allows it: otherwise the error is an *Error with code
// budget_exhausted, which names the Blockers. Without a coordinator nothing is paused.
func (a *App) Pause(ctx context.Context, reason string) error {
	return a.member.wish(ctx, "pause", reason)
}

// Resume takes it back into service.
func (a *App) Resume(ctx context.Context, reason string) error {
	return a.member.wish(ctx, "resume", reason)
}

func (m *member) wish(ctx context.Context, what, reason string) error {
	if !m.reachable() {
		return ErrNotRegistered
	}
	_, err := m.command(ctx, what, 0, func(incarnation uint64) any {
		return api.InstanceWish{Incarnation: incarnation, Reason: cut(reason, api.ReasonBytesMax)}
	})
	return err
}

// Drain asks for a drain, as a signal does but with nobody who kills: the instance waits for its grant for as long as that takes, and an
// operator can undo the drain. An intent of "" is the instance's own. It returns when the drain has begun, or with ErrUndone if it was
// undone before; when ctx ends earlier, the drain is still asked for. Run must be running, or follow.
func (a *App) Drain(ctx context.Context, intent Intent) error {
	if err := intent.check(); err != nil {
		return err
	}
	at := a.present.Load()
	if !at.begun() {
		a.requestStop(&StopError{Reason: "the application asked", intent: intent})
	}
	var err error
	select {
	case <-at.draining:
	case <-at.undone:
		err = ErrUndone
	case <-a.life.Done():
		err = ErrClosed
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if at.begun() && !errors.Is(err, ErrUndone) {
		return nil
	}
	return err
}
