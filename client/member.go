package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/quiescehq/quiesce/api"
)

// reportFor bounds one report of a drain: a coordinator that is away must not use up the time that the work needs.
const reportFor = time.Second

// member is what the coordinator knows of this instance: its registration, its lease, and what it was told.
type member struct {
	app      *App
	wake     chan struct{} // holds one
	refusals int           // of registrations; this and the next of join and then run, one after the other
	asked    time.Time     // first, under the key of now
	parking  parking       // of run

	mu          sync.Mutex
	service     string
	id          string
	incarnation uint64
	lease       *lease // nil until registered
	state       string // as last heard
	stateSince  time.Time
	changed     chan struct{} // closed when the state changes
	drain       *drain        // under way, or nil
	known       bool          // the coordinator knows of the drain under way
	index       uint64        // of the last keepalive that was heeded
	ready       bool          // to be told
	toldReady   bool
	fenced      bool
	leaving     bool
	seq         uint64             // of reports
	interrupt   context.CancelFunc // of the keepalive that is parked
}

func newMember(a *App, service string) *member {
	return &member{app: a, service: service, wake: make(chan struct{}, 1), changed: make(chan struct{})}
}

// join tries to register for a moment. Only a refusal, or silence when a coordinator is required, is an error.
func (m *member) join(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, joinFor)
	defer cancel()
	err := m.register(ctx)
	if errors.Is(err, ErrUnavailable) || errors.Is(err, ErrOutcomeUnknown) {
		if m.app.options.required {
			return err
		}
		m.app.log.Warn("starting without the coordinator", "error", err)
		return nil
	}
	return err
}

// register has one key for all its attempts, however far apart. An attempt that was given up may still be on its way, held by a node that
// hangs: under a key of its own it would be another instance of the same name, and fence the one that runs by then.
func (m *member) register(ctx context.Context) error {
	o := m.app.options
	var got api.Registered
	ask := instanceCall("/v1/instances", api.RegisterInstance{
		Service: m.service, Name: o.name, LeaseTTLMs: millis(o.leaseTTL), GraceMs: millis(o.grace), Phases: m.app.budget.times(),
		Platform: o.platform, Address: o.address, Labels: o.labels}, &got)
	ask.keyed, ask.fixedKey = false, fmt.Sprintf("%s.join-%d", m.app.client.id, m.refusals)
	if m.asked.IsZero() {
		m.asked = time.Now()
	}
	_, err := m.app.client.do(ctx, ask)
	if refused := (*Error)(nil); errors.As(err, &refused) {
		m.refusals++ // its key would answer the same for as long as it is kept
		m.asked = time.Time{}
	}
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.id, m.incarnation, m.index = got.ID, got.Incarnation, 0
	m.learnLocked(api.StateRegistered)
	m.lease = newLease(got.Session, o.leaseTTL, m.asked) // over by now, perhaps: then the keepalive that comes next renews it
	m.app.log.Info("registered", "id", got.ID, "incarnation", got.Incarnation)
	return nil
}

func (m *member) currentLease() *lease {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lease
}

func (m *member) becomeReady() {
	m.mu.Lock()
	m.ready = true
	m.mu.Unlock()
	m.nudge()
}

func (m *member) mustTellReady() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ready && !m.toldReady && m.drain == nil
}

func (m *member) tellReady(ctx context.Context) error {
	_, err := m.command(ctx, "ready", unreachableFor, func(incarnation uint64) any { return api.Incarnation{Incarnation: incarnation} })
	var refused *Error
	if errors.As(err, &refused) && refused.Code == api.CodeInstanceState {
		err = nil // it is stopping already; the keepalive says so
	}
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.toldReady = true
	return nil
}

// address gives the path of one of the instance's commands, and the incarnation that goes with it.
func (m *member) address(command string) (string, uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return "/v1/instances/" + m.id + "/" + command, m.incarnation
}

func (m *member) isFenced() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fenced
}

// saysFenced tells whether an answer means that this incarnation is over, whatever the reason.
func saysFenced(err error) bool {
	var refused *Error
	return errors.Is(err, ErrFenced) || errors.Is(err, ErrStaleIncarnation) || errors.Is(err, ErrSessionGone) ||
		errors.As(err, &refused) && refused.Code == api.CodeInstanceNotFound
}

// fence takes notice that this incarnation is over: somebody may do its work already.
func (m *member) fence(why error) {
	m.mu.Lock()
	m.fenced = true
	m.tellLocked()
	m.mu.Unlock()
	m.app.log.Error("this incarnation is over", "error", why)
	m.app.gate.set(gateReject)
	m.end()
	m.app.requestStop(&StopError{Reason: "this incarnation is over", Fenced: true})
}

// reachable tells whether there is anybody to report to.
func (m *member) reachable() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lease != nil && !m.fenced
}

// askDrain asks for the grant, or how the asking stands.
func (m *member) askDrain(ctx context.Context, body api.DrainInstance) (api.InstanceStatus, error) {
	status, err := m.command(ctx, "drain", unreachableFor, func(incarnation uint64) any {
		body.Incarnation = incarnation
		return body
	})
	if err != nil {
		return status, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known = m.drain != nil
	return status, nil
}

// report says how far the drain is.
func (m *member) report(ctx context.Context, body api.ReportPhase) error {
	_, err := m.command(ctx, "phase", reportFor, func(incarnation uint64) any {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.seq++
		body.Incarnation, body.Seq = incarnation, m.seq
		return body
	})
	return err
}

// command says something of the instance and hears its state.
func (m *member) command(ctx context.Context, name string, retryFor time.Duration, body func(incarnation uint64) any) (status api.InstanceStatus, err error) {
	path, incarnation := m.address(name)
	ask := instanceCall(path, body(incarnation), &status)
	ask.retryFor = retryFor
	if _, err := m.app.client.do(ctx, ask); err != nil {
		return status, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.learnLocked(status.State)
	m.stateSince = time.Now()
	return status, nil
}

// leave says that the instance may exit, and that it does. The second ends its session and with it whatever locks it still has.
func (m *member) leave(ctx context.Context) error {
	m.mu.Lock()
	m.leaving = true // from now on it is no news that this incarnation is over
	m.mu.Unlock()
	for _, command := range []string{"drained", "left"} {
		path, incarnation := m.address(command)
		_, err := m.app.client.do(ctx, instanceCall(path, api.Incarnation{Incarnation: incarnation}, nil))
		var refused *Error
		if command == "drained" && errors.As(err, &refused) && refused.Code == api.CodeInstanceState {
			continue // the drain was never granted, because nobody could be asked: leaving is all that is left to say
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// end gives up the lease on this side.
func (m *member) end() {
	if l := m.currentLease(); l != nil {
		l.end(ErrStopping)
	}
}
