package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quiescehq/quiesce/api"
)

const (
	// joinFor is how long Join waits for a coordinator before it lets the application start without.
	joinFor = 2 * time.Second
	// countersMax leaves room for the counters that every instance has.
	countersMax = api.CountersMax - 3
)

// ErrStopping says that the instance is too far in its drain for what was asked.
var ErrStopping = errors.New("client: the instance is stopping")

// ErrUndone says that a drain was taken back: the instance serves on.
var ErrUndone = errors.New("client: the drain was undone")

// ErrNotRegistered says that the coordinator does not know this instance (yet), so that nothing can be locked in its name.
var ErrNotRegistered = errors.New("client: the instance is not registered with the coordinator")

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
	background  *background
	hijacked    hijackedSet
	leftovers   leftovers
	connections connections

	mu       sync.Mutex
	counters []counter

	present  atomic.Pointer[attempt]
	isReady  atomic.Bool
	paused   atomic.Bool
	writesNo atomic.Bool // the service is read-only
	sealed   atomic.Bool // no more locks

	signals *signals
	stops   chan *StopError // holds one; the first reason is the one that counts
	life    context.Context // until Close
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
		stops: make(chan *StopError, 1)}
	a.locking = locking{client: client, current: a.lockLease}
	a.present.Store(newAttempt())
	a.background = newBackground(a)
	a.member = newMember(a, service)
	a.life, a.stop = context.WithCancel(context.Background())
	a.signals = newSignals(o.signals) // before anybody hears of the instance: one that dies of a signal in between would be lost
	a.joined.Go(func() { a.signals.run(a.life) })
	if err := a.member.join(context.Background()); err != nil {
		a.signals.stop()
		a.stop()
		a.joined.Wait()
		client.Close()
		return nil, fmt.Errorf("join %s as %s: %w", service, o.name, err)
	}
	a.joined.Go(func() { a.member.run(a.life) })
	return a, nil
}

// Client gives the client that the instance talks through.
func (a *App) Client() *Client { return a.client }

// Ready says that the instance serves. Until it is registered this is remembered.
func (a *App) Ready() {
	a.isReady.Store(true)
	a.member.becomeReady()
}

// rejecting tells whether new requests, and what is like them, are refused: from phase reject on, or because the instance is fenced.
func (a *App) rejecting() bool { return gateMode(a.gate.mode.Load()) == gateReject }

// ReadOnly tells whether the service is read-only at present: its instances are to refuse writes.
func (a *App) ReadOnly() bool { return a.readOnly() }

func (a *App) readOnly() bool { return a.writesNo.Load() }

// Counter adds a number that is reported to the coordinator, such as keys that are not flushed: with every keepalive, and while the
// instance stops, in its history. Names have up to 64 visible ASCII characters. At most 13 count; read must not block.
func (a *App) Counter(name string, read func() uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	visible := func(r rune) bool { return r > ' ' && r <= '~' }
	if len(a.counters) >= countersMax || name == "" || len(name) > api.IDBytesMax || strings.TrimFunc(name, visible) != "" {
		a.log.Error("a counter will not be reported: there are too many, or its name is not valid", "counter", name)
		return
	}
	a.counters = append(a.counters, counter{name: name, read: read})
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
// is for programs that end before Run; one that is under way returns with ExitFailed, once a drain that has begun is through.
func (a *App) Close() {
	a.closed.Do(func() {
		a.signals.stop()
		a.stop()
		a.joined.Wait()
		a.member.end()
		a.gate.cancel(ErrClosed)
		at := a.present.Load()
		at.work.end(ErrClosed)
		if !at.background.over() { // else a drain has waited for it
			at.background.end(ErrClosed)
			ctx, cancel := context.WithTimeout(context.Background(), a.budget.limit[PhaseConsumers])
			defer cancel()
			if _, err := a.background.wait(ctx); err != nil {
				a.log.Error("left over", "what", TaskBackground, "error", err)
			}
		}
		a.client.Close()
	})
}

// requestStop hands a reason to Run. Later ones are dropped.
func (a *App) requestStop(why *StopError) {
	why.at = time.Now()
	select {
	case a.stops <- why:
	default:
	}
}

// readCounters is what is reported of the instance now.
func (a *App) readCounters() map[string]uint64 {
	counters := map[string]uint64{"in_flight": uint64(max(0, a.gate.inFlight.Load()))}
	if l := a.member.currentLease(); l != nil {
		counters["locks_held"] = uint64(l.count())
	}
	if n := a.background.count(); n > 0 {
		counters["background"] = uint64(n)
	}
	a.mu.Lock()
	own := slices.Clone(a.counters)
	a.mu.Unlock()
	for _, c := range own {
		counters[c.name] = c.read()
	}
	return counters
}

// instanceCall is one of the short calls about the instance itself.
func instanceCall(path string, body, answer any) call {
	return call{method: http.MethodPost, path: path, body: body, answer: answer, keyed: true, timeout: time.Second}
}
