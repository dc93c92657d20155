package client

import "context"

// attempt is what ends as the instance stops. When a drain is undone, what has ended begins anew, and what has not goes on: so what was
// taken from an earlier attempt stays ended, and nobody is disturbed whom the drain had not reached.
type attempt struct {
	draining   chan struct{} // closed when lameduck begins
	work       *ending       // ends when reject begins: App.Context, streams
	background *ending       // ends when consumers begins: App.Go
	undone     chan struct{} // closed when the drain was undone
}

func newAttempt() *attempt {
	return &attempt{draining: make(chan struct{}), work: newEnding(), background: newEnding(), undone: make(chan struct{})}
}

func (at *attempt) renewed() *attempt {
	next := &attempt{draining: at.draining, work: at.work.renewed(), background: at.background.renewed(), undone: make(chan struct{})}
	if at.begun() {
		next.draining = make(chan struct{})
	}
	return next
}

func (at *attempt) begun() bool {
	select {
	case <-at.draining:
		return true
	default:
		return false
	}
}

// Draining is closed when the drain begins: the instance is no longer ready, and still serves for a while. A drain can be undone: then the
// channel stays closed, and Draining gives a new one.
func (a *App) Draining() <-chan struct{} { return a.present.Load().draining }

// Context ends when the instance stops taking new work. Its cause is a *StopError. Background work that takes on new tasks should stop
// with it; what must be finished belongs into Flush, whose context is another. A context that a drain has ended stays ended when the drain
// is undone, and Context gives a new one: [App.Go] starts its work again by itself.
func (a *App) Context() context.Context { return a.present.Load().work.ctx }

// serving tells whether new traffic is welcome.
func (a *App) serving() bool {
	return !a.present.Load().begun() && a.isReady.Load() && !a.paused.Load()
}

// beginDrain says that traffic is not welcome any more. A drain calls it once.
func (a *App) beginDrain() {
	a.gate.duck()
	close(a.present.Load().draining)
}

// serveOn makes the instance serve as if nobody had asked it to stop. What new requests use is renewed before the gate lets them in.
func (a *App) serveOn() {
	old := a.present.Load()
	a.tasks.renew()
	a.leftovers.renew()
	a.hijacked.renew()
	a.gate.hard.Store(a.gate.hard.Load().renewed())
	a.present.Store(old.renewed())
	a.background.resume()
	a.gate.set(gateOpen)
	if a.member.isFenced() { // meanwhile; whoever fences first says so and then shuts the gate
		a.gate.set(gateReject)
	}
	close(old.undone)
}
