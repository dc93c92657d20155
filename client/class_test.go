package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// newGateApp is an instance without a coordinator: what the gate and the classes need of it.
func newGateApp(t *testing.T) *App {
	t.Helper()
	return &App{gate: newGate(), log: testLogger(t)}
}

// wire is a breaker that does as it is told and remembers what it hears.
type wire struct {
	mu      sync.Mutex
	refuses error
	heard   []error
}

func (b *wire) Allow() (func(error), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refuses != nil {
		return nil, b.refuses
	}
	return func(err error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.heard = append(b.heard, err)
	}, nil
}

// last is what it heard, in a word.
func (b *wire) last() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case len(b.heard) == 0:
		return "nothing"
	case b.heard[len(b.heard)-1] == nil:
		return "success"
	case b.heard[len(b.heard)-1] == ErrNotCounted:
		return "neither"
	}
	return "failure"
}

func TestClass_GivesWorkItsDeadlineAndSaysWhoseItWas(t *testing.T) {
	t.Parallel()
	app := newGateApp(t)
	for name, want := range map[string]time.Duration{ClassLocal: 100 * time.Millisecond, ClassService: 800 * time.Millisecond, ClassExternal: 3 * time.Second} {
		began := time.Now()
		err := app.Class(name, 0).Do(t.Context(), func(ctx context.Context) error {
			deadline, ok := ctx.Deadline()
			if got := deadline.Sub(began); !ok || got < want || got > want+50*time.Millisecond {
				t.Errorf("%s: a deadline in %v, not %v", name, got, want)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	var cause *ClassError
	err := app.Class("quick", time.Millisecond).Do(t.Context(), func(ctx context.Context) error {
		<-ctx.Done()
		return context.Cause(ctx)
	})
	if !errors.As(err, &cause) || cause.Class != "quick" || !errors.Is(err, ErrClassDeadline) {
		t.Errorf("the cause is %v", err)
	}
}

func TestClass_RefusesAtOnceAboveItsLimitAndCountsOnlyWhatRuns(t *testing.T) {
	t.Parallel()
	const callers, room = 1_000, 100
	c := newGateApp(t).Class("crowd", time.Minute)
	var most atomic.Int64
	var refused atomic.Int64
	release := make(chan struct{})
	var all, decided sync.WaitGroup
	decided.Add(callers)
	for range callers {
		all.Go(func() {
			err := c.Do(t.Context(), func(context.Context) error {
				if n := c.InFlight(); n > most.Load() {
					most.Store(n)
				}
				decided.Done()
				<-release
				return nil
			})
			if errors.Is(err, ErrClassFull) {
				refused.Add(1)
				decided.Done()
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	decided.Wait()
	if r, m := refused.Load(), most.Load(); r != callers-room || m > room {
		t.Errorf("%d of %d refused, at most %d in flight", r, callers, m)
	}
	close(release)
	all.Wait()
	if n := c.InFlight(); n != 0 {
		t.Errorf("%d in flight afterwards", n)
	}
}

func TestClass_PanicIsCountedOutAndIsAFailure(t *testing.T) {
	t.Parallel()
	b := &wire{}
	c := newGateApp(t).Class("x", time.Minute, WithBreaker(b))
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = c.Do(t.Context(), func(context.Context) error { panic("on purpose") })
	}()
	if c.InFlight() != 0 || b.last() != "failure" {
		t.Errorf("%d in flight, the breaker heard %s", c.InFlight(), b.last())
	}
}

func TestClass_TellsTheBreakerOfCalls(t *testing.T) {
	t.Parallel()
	notFound := errors.New("not found")
	gone, leave := context.WithCancel(t.Context())
	leave()
	impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	waits := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for name, tc := range map[string]struct {
		ctx  context.Context
		work func(context.Context) error
		want string
	}{
		"success":                      {t.Context(), func(context.Context) error { return nil }, "success"},
		"error":                        {t.Context(), func(context.Context) error { return errors.New("on purpose") }, "failure"},
		"an answer in good health":     {t.Context(), func(context.Context) error { return notFound }, "success"},
		"deadline":                     {t.Context(), waits, "failure"},
		"late success":                 {t.Context(), func(ctx context.Context) error { <-ctx.Done(); return nil }, "failure"},
		"the caller went away":         {gone, waits, "neither"},
		"the caller's own deadline":    {impatient, waits, "neither"},
		"another class refused":        {t.Context(), func(context.Context) error { return &ClassError{Class: "y", Err: ErrClassFull} }, "neither"},
		"the instance would not do it": {t.Context(), func(context.Context) error { return ErrStopping }, "neither"},
	} {
		b := &wire{}
		c := newGateApp(t).Class("x", 20*time.Millisecond, WithBreaker(b), Failures(func(err error) bool { return err != notFound }))
		_ = c.Do(tc.ctx, tc.work)
		if b.last() != tc.want {
			t.Errorf("%s: the breaker heard %s, not %s", name, b.last(), tc.want)
		}
	}
}

func TestClass_TellsTheBreakerOfRequests(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		serve http.HandlerFunc
		want  string
	}{
		"nothing written":      {func(http.ResponseWriter, *http.Request) {}, "success"},
		"body alone":           {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("x")) }, "success"},
		"the client's mistake": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, "success"},
		"ours":                 {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, "failure"},
		"after an early hint": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusBadGateway)
		}, "failure"},
		"panic":         {func(http.ResponseWriter, *http.Request) { panic("on purpose") }, "failure"},
		"late":          {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "failure"},
		"drain ends it": {nil, "neither"},
		"another class": {nil, "neither"},
	} {
		app, b := newGateApp(t), &wire{}
		c := app.Class("x", 50*time.Millisecond, WithBreaker(b))
		switch name {
		case "drain ends it":
			tc.serve = func(w http.ResponseWriter, r *http.Request) {
				app.gate.cancel(ErrStopping)
				<-r.Context().Done()
				w.WriteHeader(http.StatusInternalServerError)
			}
		case "another class":
			full := app.Class("full", time.Second, Concurrent(1))
			full.inFlight.Add(1)
			tc.serve = full.Handler(http.NotFoundHandler()).ServeHTTP
		}
		func() {
			defer func() { _ = recover() }()
			app.Handler(c.Handler(tc.serve)).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
		}()
		if b.last() != tc.want || c.InFlight() != 0 {
			t.Errorf("%s: the breaker heard %s, not %s; %d in flight", name, b.last(), tc.want, c.InFlight())
		}
	}
}

func TestClass_RefusedRequestIsToldWhyAndWhenToComeBack(t *testing.T) {
	t.Parallel()
	app, b := newGateApp(t), &wire{}
	c := app.Class("x", time.Second, Concurrent(1), WithBreaker(b))
	handler := app.Handler(c.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("served") })))
	answer := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
		return w
	}
	b.refuses = errors.New("open")
	if w := answer(); w.Code != 503 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), `"code":"circuit_open"`) {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	if c.InFlight() != 0 {
		t.Error("what the breaker refused is counted")
	}
	c.inFlight.Add(1)
	if w := answer(); w.Code != 503 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), `"code":"overloaded"`) {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

// lines is a log that can be read.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}

func TestClass_RequestOverItsDeadlineIsReportedByRouteWhileItRuns(t *testing.T) {
	t.Parallel()
	log := &lines{}
	app := &App{gate: newGate(), log: slog.New(slog.NewTextHandler(log, nil))}
	c := app.Class("x", time.Millisecond)
	mux := http.NewServeMux()
	finish := make(chan struct{})
	mux.Handle("GET /orders/{id}", c.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-finish })))
	handler := app.Handler(mux)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/orders/7", nil))
		})
	}
	eventually(t, "a line", func() bool { return log.count("over the deadline") > 0 })
	if log.count(`route="GET /orders/{id} (x)"`) == 0 {
		t.Errorf("the route is missing: %s", log.text.String())
	}
	eventually(t, "all are in flight, in their class", func() bool {
		left := app.gate.visits.list()
		return c.InFlight() == 50 && len(left) == 1 && strings.HasPrefix(left[0], "GET /orders/{id} (x): 50, the oldest for ")
	})
	close(finish)
	all.Wait()
	if n := log.count("over the deadline"); n > 2 {
		t.Errorf("%d lines within a second", n)
	}
	if left := app.gate.visits.list(); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestClass_MistakesOfTheProgramPanic(t *testing.T) {
	t.Parallel()
	app := newGateApp(t)
	first := app.Class("x", time.Second)
	if app.Class("x", 0) != first || app.Class("x", time.Second) != first {
		t.Error("the same name is another class")
	}
	for name, mistake := range map[string]func(){
		"no deadline":      func() { app.Class("y", 0) },
		"another deadline": func() { app.Class("x", 2*time.Second) },
		"late options":     func() { app.Class("x", 0, Concurrent(3)) },
		"name":             func() { app.Class("X y", time.Second) },
		"no room":          func() { app.Class("z", time.Second, Concurrent(0)) },
		"too many": func() {
			for i := range ClassesMax {
				app.Class("c"+string(rune('a'+i)), time.Second)
			}
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			mistake()
		}()
	}
	if n := len(app.gate.classes.byName); n != ClassesMax {
		t.Errorf("%d classes", n)
	}
}

func TestClass_WriterOfARequestStaysWhatItIsWithoutABreaker(t *testing.T) {
	t.Parallel()
	app := newGateApp(t)
	for name, c := range map[string]*Class{"plain": app.Class("plain", time.Second), "breaker": app.Class("breaker", time.Second, WithBreaker(&wire{}))} {
		c.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if _, ok := w.(http.Flusher); !ok {
				t.Errorf("%s: cannot be flushed", name)
			}
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if _, ok := w.(*httptest.ResponseRecorder); ok != (name == "plain") {
				t.Errorf("%s: the writer is a %T", name, w)
			}
		})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	}
}

func TestVisits_ListIsBoundedAndSortedByHowManyThereAre(t *testing.T) {
	t.Parallel()
	var s visits
	for i := range 40 {
		for range 1 + i%3 {
			s.add(&visit{method: "GET", path: fmt.Sprintf("/%02d", i) + strings.Repeat("x", 10*i), since: time.Now()})
		}
	}
	list := s.list()
	if len(list) != routesMax+1 || list[routesMax] != "and 24 other routes" {
		t.Errorf("%d lines, the last %q", len(list), list[len(list)-1])
	}
	if !strings.Contains(list[0], ": 3,") || slices.ContainsFunc(list, func(l string) bool { return len(l) > routeBytesMax+64 }) {
		t.Errorf("%q", list)
	}
}
