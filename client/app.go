package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quiescehq/quiesce/api"
)

const (
	// joinFor is how long Join waits for a coordinator before it lets the application start without.
	joinFor = 2 * time.Second
	// countersMax leaves room for the counters that are always reported.
	countersMax = api.CountersMax - 2
)

// ErrStopping says that the instance is too far in its drain for what was asked.
var ErrStopping = errors.New("client: the instance is stopping")

// ErrNotRegistered says that the coordinator does not know this instance (yet), so that nothing can be locked in its name.
var ErrNotRegistered = errors.New("client: the instance is not registered with the coordinator")

// StopError is why an instance stops: the cause of its contexts.
type StopError struct {
	Reason string
	Signal os.Signal // nil when no signal asked
	Fenced bool      // another incarnation has taken over, or the coordinator counted this one as lost

	granted bool // the drain was asked for elsewhere and is granted
	failed  bool // of itself
}

func (e *StopError) Error() string { return "the instance stops: " + e.Reason }

// App is this process as an instance of a service.
type App struct {
	locking
	client  *Client
	log     *slog.Logger
	options options
	budget  budget
	gate    *gate
	member  *member

	tasks       tasks
	connections connections

	mu       sync.Mutex
	counters []counter

	isReady  atomic.Bool
	writesNo atomic.Bool // the service is read-only
	sealed   atomic.Bool // no more locks
	draining chan struct{}
	work     context.Context
	endWork  context.CancelCauseFunc

	signals chan os.Signal
	stops   chan *StopError // holds one; the first reason is the one that counts
	stop    context.CancelFunc
	joined  sync.WaitGroup
	closed  sync.Once
}

type counter struct {
	name string
	read func() uint64
}

// Join makes this process an instance of a service: it registers, keeps its lease alive and takes over SIGTERM and SIGINT. A coordinator
// that is down does not keep the application from starting (see Required); one that refuses does. Follow it with Run, which ends what Join
// began, or with Close.
func Join(service string, opts ...Option) (*App, error) {
	o, err := collect(opts)
	if err != nil {
		return nil, err
	}
	budget, err := newBudget(o.grace, o.lameDuck)
	if err != nil {
		return nil, err
	}
	client, err := New(o.config)
	if err != nil {
		return nil, err
	}
	a := &App{client: client, log: client.log.With("service", service, "instance", o.name), options: o, budget: budget, gate: newGate(),
		draining: make(chan struct{}), signals: make(chan os.Signal, 4), stops: make(chan *StopError, 1)}
	a.locking = locking{client: client, current: a.lockLease}
	a.work, a.endWork = context.WithCancelCause(context.Background())
	a.member = newMember(a, service)
	if err := a.member.join(context.Background()); err != nil {
		client.Close()
		return nil, fmt.Errorf("join %s as %s: %w", service, o.name, err)
	}
	// Not NotifyContext: it would swallow the second signal.
	signal.Notify(a.signals, syscall.SIGTERM, syscall.SIGINT)
	var ctx context.Context
	ctx, a.stop = context.WithCancel(context.Background())
	a.joined.Go(func() { a.member.run(ctx) })
	return a, nil
}

// Client gives the client that the instance talks through.
func (a *App) Client() *Client { return a.client }

// Ready says that the instance serves. Until it is registered this is remembered.
func (a *App) Ready() {
	a.isReady.Store(true)
	a.member.becomeReady()
}

func (a *App) serving() bool {
	select {
	case <-a.draining:
		return false
	default:
		return a.isReady.Load()
	}
}

// Draining is closed when the drain begins: the instance is no longer ready, and still serves for a while.
func (a *App) Draining() <-chan struct{} { return a.draining }

// Context ends when the instance stops taking new work. Its cause is a *StopError. Background work that takes on new tasks should stop
// with it; what must be finished belongs into Flush, whose context is another.
func (a *App) Context() context.Context { return a.work }

// rejecting tells whether new requests, and what is like them, are refused: from phase reject on, or because the instance is fenced.
func (a *App) rejecting() bool { return gateMode(a.gate.mode.Load()) == gateReject }

// ReadOnly tells whether the service is read-only at present: its instances are to refuse writes.
func (a *App) ReadOnly() bool { return a.readOnly() }

func (a *App) readOnly() bool { return a.writesNo.Load() }

// Counter adds a number that is reported to the coordinator while the instance stops, such as keys that are not flushed. At most 14
// count; read must not block.
func (a *App) Counter(name string, read func() uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.counters) < countersMax {
		a.counters = append(a.counters, counter{name: name, read: read})
	}
}

// lockLease is the instance's own lease: what it locks belongs to that.
func (a *App) lockLease() (*lease, error) {
	if a.sealed.Load() {
		return nil, ErrStopping
	}
	l := a.member.currentLease()
	if l == nil {
		return nil, ErrNotRegistered
	}
	return l, nil
}

// Enqueue tells that rows of a mapping have changed. See [Client.Enqueue].
func (a *App) Enqueue(ctx context.Context, mapping string, pks ...any) ([]EventToken, error) {
	return a.client.Enqueue(ctx, mapping, pks...)
}

// Close ends the instance without a drain and without a word to the coordinator, which will count it as lost when the lease is over. It
// is for programs that end before Run.
func (a *App) Close() {
	a.closed.Do(func() {
		signal.Stop(a.signals)
		a.stop()
		a.joined.Wait()
		a.member.end()
		a.gate.cancel(ErrClosed)
		a.endWork(ErrClosed)
		a.client.Close()
	})
}

// requestStop hands a reason to Run. Later ones are dropped.
func (a *App) requestStop(why *StopError) {
	select {
	case a.stops <- why:
	default:
	}
}

// readCounters is what is reported of the instance now.
func (a *App) readCounters() map[string]uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	counters := map[string]uint64{"in_flight": uint64(max(0, a.gate.inFlight.Load()))}
	if l := a.member.currentLease(); l != nil {
		counters["locks_held"] = uint64(l.count())
	}
	for _, c := range a.counters {
		counters[c.name] = c.read()
	}
	return counters
}

// instanceCall is one of the short calls about the instance itself.
func instanceCall(path string, body, answer any) call {
	return call{method: http.MethodPost, path: path, body: body, answer: answer, keyed: true, timeout: time.Second}
}
