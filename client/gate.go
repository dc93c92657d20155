package client

import (
	"context"
	"net/http"
	"sync/atomic"
)

type gateMode int32

const (
	gateOpen     gateMode = iota
	gateLameDuck          // serve, and tell each client to close its connection
	gateReject            // refuse, and tell each client to come back elsewhere
)

// gate counts the requests under way and refuses new ones once it rejects.
//
// A request is counted before the mode is looked at. The other order has a window in which a request that saw an open gate is not yet
// counted: a drain that reads zero there closes the pools under a running handler.
type gate struct {
	inFlight atomic.Int64
	mode     atomic.Int32
	changed  chan struct{} // holds one hint that inFlight fell while rejecting

	hard  atomic.Pointer[ending] // of the handlers that still run when a drain gives up waiting; a new one when the drain is undone
	yield func()                 // test seam between counting and looking; nil outside tests
}

func newGate() *gate {
	g := &gate{changed: make(chan struct{}, 1)}
	g.hard.Store(newEnding())
	return g
}

// cancel ends the contexts of the requests under way.
func (g *gate) cancel(why error) { g.hard.Load().end(why) }

func (g *gate) set(m gateMode) { g.mode.Store(int32(m)) }

// duck makes an open gate a lame duck. A gate that rejects already, because the instance was fenced, stays shut.
func (g *gate) duck() { g.mode.CompareAndSwap(int32(gateOpen), int32(gateLameDuck)) }

// enter counts a request in. If it answers false the request was not admitted, and is not counted.
func (g *gate) enter() (gateMode, bool) {
	g.inFlight.Add(1)
	if g.yield != nil {
		g.yield()
	}
	mode := gateMode(g.mode.Load())
	if mode == gateReject {
		g.leave()
		return mode, false
	}
	return mode, true
}

func (g *gate) leave() {
	g.inFlight.Add(-1)
	if gateMode(g.mode.Load()) != gateReject {
		return
	}
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// wait returns the number of requests still under way when there are none or ctx ends. Only after set(gateReject) does zero mean that
// no handler runs and none will.
func (g *gate) wait(ctx context.Context) int64 {
	for {
		n := g.inFlight.Load()
		if n == 0 {
			return 0
		}
		select {
		case <-ctx.Done():
			return n
		case <-g.changed:
		}
	}
}

// exempt tells whether a path passes the gate uncounted: probes and metrics are answered to the end.
func exempt(path string) bool {
	return path == "/healthz" || path == "/readyz" || path == "/metrics"
}

// Admit lets a request in or refuses it: the building block of [App.Handler] and of adapters for web frameworks. When it answers true,
// serve the returned request and call the function afterwards, in a defer. When it answers false the refusal has been written.
func (a *App) Admit(w http.ResponseWriter, r *http.Request) (*http.Request, func(), bool) {
	if exempt(r.URL.Path) {
		return r, func() {}, true
	}
	mode, ok := a.gate.enter()
	if !ok {
		refuse(w)
		return nil, nil, false
	}
	if mode == gateLameDuck {
		w.Header().Set("Connection", "close")
	}
	hard := a.gate.hard.Load().ctx
	ctx, cancel := context.WithCancelCause(r.Context())
	stop := context.AfterFunc(hard, func() { cancel(context.Cause(hard)) })
	return r.WithContext(ctx), func() {
		stop()
		cancel(context.Canceled)
		a.gate.leave()
	}, true
}

// refusalRetrySeconds is short: another instance can serve the request now, the client only has to open a new connection.
const refusalRetrySeconds = "1"

func refuse(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Connection", "close")
	h.Set("Retry-After", refusalRetrySeconds)
	h.Set("Content-Type", "application/problem+json")
	w.WriteHeader(http.StatusServiceUnavailable)
	// The client may be gone; nobody is left to tell.
	_, _ = w.Write([]byte(`{"status":503,"code":"draining","title":"Service Unavailable","detail":"this instance is stopping; another one can serve the request"}` + "\n"))
}

// Handler puts the gate in front of next. Every request but /healthz, /readyz and /metrics is counted while it runs; while the instance
// stops, answers carry "Connection: close", and later new requests get 503 with Retry-After.
func (a *App) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		admitted, leave, ok := a.Admit(w, r)
		if !ok {
			return
		}
		defer leave()
		next.ServeHTTP(w, admitted)
	})
}

// Liveness answers 200 as long as the process can answer, also while it drains: a platform that kills a draining instance defeats the drain.
func (a *App) Liveness() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
	})
}

// Readiness answers 200 while new traffic is welcome: after [App.Ready], until the drain begins. A coordinator that is down does not
// change it: the instance serves without one.
func (a *App) Readiness() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if a.serving() {
			w.WriteHeader(http.StatusOK)
			return
		}
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
}
