package client

import (
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// checkFirstGate is the obvious gate, and the wrong one: it looks at the mode and counts afterwards.
type checkFirstGate struct {
	inFlight  atomic.Int64
	rejecting atomic.Bool
}

// falseDrains runs many drains against one request each, and counts those that saw nobody in flight while the handler ran.
func falseDrains(rounds int, enter func(round int, yield func()) (ok bool), drained func(round int) bool) int {
	wrong := 0
	for round := range rounds {
		var inside, finished sync.WaitGroup
		inside.Add(1)
		var entered atomic.Bool
		release := make(chan struct{})
		reached := make(chan struct{})
		finished.Go(func() {
			defer inside.Done()
			if enter(round, func() { close(reached); <-release }) {
				entered.Store(true)
			}
		})
		<-reached
		sawNone := drained(round) // in the window between the two steps of enter
		close(release)
		inside.Wait()
		if sawNone && entered.Load() {
			wrong++
		}
		finished.Wait()
	}
	return wrong
}

func TestGate_ZeroInFlightMeansThatNoHandlerRuns(t *testing.T) {
	t.Parallel()
	const rounds = 2_000
	gates := make([]*gate, rounds)
	for i := range gates {
		gates[i] = newGate()
	}
	wrong := falseDrains(rounds,
		func(round int, yield func()) bool {
			gates[round].yield = yield
			_, ok := gates[round].enter()
			return ok
		},
		func(round int) bool {
			gates[round].set(gateReject)
			return gates[round].inFlight.Load() == 0
		})
	if wrong != 0 {
		t.Errorf("%d of %d drains saw nobody while a handler ran", wrong, rounds)
	}
}

// The control shows that the harness above can see the mistake.
func TestGate_ControlCheckBeforeCountIsCaught(t *testing.T) {
	t.Parallel()
	const rounds = 2_000
	gates := make([]checkFirstGate, rounds)
	wrong := falseDrains(rounds,
		func(round int, yield func()) bool {
			g := &gates[round]
			if g.rejecting.Load() {
				return false
			}
			yield()
			g.inFlight.Add(1)
			return true
		},
		func(round int) bool {
			gates[round].rejecting.Store(true)
			return gates[round].inFlight.Load() == 0
		})
	if wrong != rounds {
		t.Errorf("caught %d of %d", wrong, rounds)
	}
}

func TestGate_NoHandlerRunsAfterTheWaitUnderLoad(t *testing.T) {
	t.Parallel()
	for range 200 {
		a := &App{gate: newGate()}
		a.gate.yield = runtime.Gosched
		var running atomic.Int64
		handler := a.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			running.Add(1)
			runtime.Gosched()
			running.Add(-1)
		}))
		stop := make(chan struct{})
		var clients sync.WaitGroup
		for range 4 {
			clients.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
					}
				}
			})
		}
		a.gate.set(gateReject)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if n := a.gate.wait(ctx); n != 0 {
			t.Errorf("%d in flight for ever", n)
		}
		for range 100 {
			if n := running.Load(); n != 0 {
				t.Fatalf("%d handlers run after the drain saw none", n)
			}
		}
		cancel()
		close(stop)
		clients.Wait()
	}
}

func TestGate_AnswersByMode(t *testing.T) {
	t.Parallel()
	a := &App{gate: newGate()}
	handler := a.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusOK) }))
	for _, tc := range []struct {
		name   string
		mode   gateMode
		path   string
		status int
		closes bool
	}{
		{"open", gateOpen, "/", 200, false},
		{"lame duck serves and says goodbye", gateLameDuck, "/", 200, true},
		{"reject refuses", gateReject, "/", 503, true},
		{"probes pass", gateReject, "/healthz", 200, false},
		{"metrics pass", gateReject, "/metrics", 200, false},
		{"only whole paths pass", gateReject, "/healthz/x", 503, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a.gate.set(tc.mode)
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, tc.path, nil))
			if w.Code != tc.status || (w.Header().Get("Connection") == "close") != tc.closes {
				t.Errorf("status %d, headers %v", w.Code, w.Header())
			}
			if tc.status == 503 && w.Header().Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			if n := a.gate.inFlight.Load(); n != 0 {
				t.Errorf("%d in flight afterwards", n)
			}
		})
	}
}

func TestGate_ReadOnlyRefusesWhatWritesAndServesWhatReads(t *testing.T) {
	t.Parallel()
	a := newGateApp(t)
	a.Reads("POST /search", "POST /reports/{id}/preview")
	handler := a.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusOK) }))
	for _, tc := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/orders", 200}, {"HEAD", "/orders", 200}, {"OPTIONS", "/orders", 200},
		{"POST", "/orders", 503}, {"PUT", "/orders/1", 503}, {"PATCH", "/orders/1", 503}, {"DELETE", "/orders/1", 503}, {"BREW", "/pot", 503},
		{"POST", "/search", 200}, {"PUT", "/search", 503}, {"POST", "/reports/7/preview", 200}, {"POST", "/reports/7", 503},
		{"POST", "/healthz", 200},
	} {
		for _, readOnly := range []bool{false, true} {
			a.writesNo.Store(readOnly)
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(tc.method, tc.path, nil))
			want := tc.status
			if !readOnly {
				want = 200
			}
			if w.Code != want {
				t.Errorf("%s %s, read-only %t: %d", tc.method, tc.path, readOnly, w.Code)
			}
			if w.Code == 503 && (w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), `"code":"read_only"`)) {
				t.Errorf("%s %s: %v %s", tc.method, tc.path, w.Header(), w.Body)
			}
			if n := a.gate.inFlight.Load(); n != 0 {
				t.Errorf("%d in flight afterwards", n)
			}
		}
	}
}

func TestGate_PanickingHandlerIsCountedOut(t *testing.T) {
	t.Parallel()
	a := &App{gate: newGate()}
	handler := a.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("on purpose") }))
	func() {
		defer func() { _ = recover() }()
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	}()
	if n := a.gate.inFlight.Load(); n != 0 {
		t.Errorf("%d in flight after a panic", n)
	}
}
