package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quiescehq/quiesce/api"
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

	visits    visits
	reads     reads
	classes   classes
	databases databases
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

// Route is what a web framework knows of a request before the gate sees it.
type Route struct {
	Pattern string // as it was registered, such as /orders/:id; names the request when it is left over
	Reads   bool   // although its method is one that writes
}

// Admit lets a request in or refuses it: the building block of [App.Handler] and of adapters for web frameworks. When it answers true,
// serve the returned request and call the function afterwards, in a defer. When it answers false the refusal has been written.
func (a *App) Admit(w http.ResponseWriter, r *http.Request, route Route) (*http.Request, func(), bool) {
	return a.admit(w, r, route, nil)
}

func (a *App) admit(w http.ResponseWriter, r *http.Request, route Route, router *http.ServeMux) (*http.Request, func(), bool) {
	if exempt(r.URL.Path) {
		return r, func() {}, true
	}
	mode, ok := a.gate.enter()
	if !ok {
		refusedDraining.write(w)
		return nil, nil, false
	}
	if mode == gateLameDuck {
		w.Header().Set("Connection", "close")
	}
	if a.readOnly() && !safe(r.Method) && !route.Reads && !a.gate.reads.match(r) {
		a.gate.leave()
		refusedReadOnly.write(w)
		return nil, nil, false
	}
	v := &visit{method: r.Method, host: r.Host, path: r.URL.Path, pattern: route.Pattern, router: router, since: time.Now()}
	a.gate.visits.add(v)
	hard := a.gate.hard.Load().ctx
	ctx, cancel := context.WithCancelCause(context.WithValue(r.Context(), visitKey{}, v))
	stop := context.AfterFunc(hard, func() { cancel(context.Cause(hard)) })
	return r.WithContext(ctx), func() {
		stop()
		cancel(context.Canceled)
		a.gate.visits.remove(v)
		a.gate.leave()
	}, true
}

// safe are the methods that ask for no change (RFC 9110, 9.2.1).
func safe(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions || method == http.MethodTrace
}

// Reads declares requests that only read although their method is one that writes, such as a search by POST, by patterns in the form of
// [http.ServeMux]: "POST /search". They are served while the service is read-only. It panics on a pattern that is not valid or was given
// before, like ServeMux. For routes of Gin see package ginquiesce.
func (a *App) Reads(patterns ...string) {
	for _, p := range patterns {
		a.gate.reads.add(p)
	}
}

// reads are patterns of requests. A ServeMux of its own matches them, so that a pattern means what it means elsewhere.
type reads struct {
	mu  sync.RWMutex
	mux *http.ServeMux
}

func (s *reads) add(pattern string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mux == nil {
		s.mux = http.NewServeMux()
	}
	s.mux.Handle(pattern, http.NotFoundHandler())
}

func (s *reads) match(r *http.Request) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.mux == nil {
		return false
	}
	_, pattern := s.mux.Handler(r)
	return pattern != ""
}

// turnedAway is an answer that says no for the instance, before the application has seen the request.
type turnedAway struct {
	code   api.Code
	detail string
	closes bool // another instance can serve the request now; the client only has to open a new connection
}

var (
	refusedDraining = turnedAway{code: api.CodeDraining, detail: "this instance is stopping; another one can serve the request", closes: true}
	refusedReadOnly = turnedAway{code: "read_only", detail: "the service takes no changes at present"}
	refusedFull     = turnedAway{code: "overloaded", detail: "too many requests of this kind are under way"}
	refusedCircuit  = turnedAway{code: "circuit_open", detail: "what this request needs does not work at present"}
)

func turnedAwayFor(err error) turnedAway {
	if errors.Is(err, ErrCircuitOpen) {
		return refusedCircuit
	}
	return refusedFull
}

// refusalRetrySeconds is short: what refuses may be over, or somewhere else not so.
const refusalRetrySeconds = "1"

func (f turnedAway) write(w http.ResponseWriter) {
	h := w.Header()
	if f.closes {
		h.Set("Connection", "close")
	}
	h.Set("Retry-After", refusalRetrySeconds)
	h.Set("Content-Type", api.ContentProblem)
	w.WriteHeader(http.StatusServiceUnavailable)
	body := api.Problem{Type: "urn:quiesce:problem:" + string(f.code), Title: http.StatusText(http.StatusServiceUnavailable), Status: http.StatusServiceUnavailable,
		Code: f.code, Detail: f.detail, RetryAfterMs: 1000}
	_ = json.NewEncoder(w).Encode(body) // the client may be gone; nobody is left to tell
}

// Handler puts the gate in front of next. Every request but /healthz, /readyz and /metrics is counted while it runs. While the instance
// stops, answers carry "Connection: close", and later new requests get 503 with Retry-After; while the service is read-only, so do those
// that write: see [App.Reads]. If next is an [http.ServeMux], what is left over is named by its patterns, otherwise by path.
func (a *App) Handler(next http.Handler) http.Handler {
	router, _ := next.(*http.ServeMux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		admitted, leave, ok := a.admit(w, r, Route{}, router)
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
