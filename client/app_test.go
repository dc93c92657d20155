package client

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client/quiescetest"
)

// start makes a coordinator whose service orders lets instances go one at a time, without waiting for any to settle.
func start(t *testing.T, opts ...quiescetest.Option) (*quiescetest.Coordinator, string) {
	t.Helper()
	coordinator, addr := quiescetest.Start(t, opts...)
	at := uint64(0)
	if err := coordinator.PutService("orders", api.PutService{MaxUnavailable: 1, SettleMs: &at, RestartHoldMs: &at, LostHoldMs: &at}); err != nil {
		t.Fatal(err)
	}
	return coordinator, addr
}

// join makes an instance with the shortest grace.
func join(t *testing.T, addr string, opts ...Option) *App {
	t.Helper()
	opts = append([]Option{Addrs(addr), Name("one"), Grace(GraceMin), LameDuck(10 * time.Millisecond), LeaseTTL(time.Second), Logger(testLogger(t))}, opts...)
	app, err := Join("orders", opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(app.Close)
	return app
}

// run runs it; the channel gives the exit code.
func run(app *App, servers ...*http.Server) <-chan int {
	code := make(chan int, 1)
	go func() { code <- app.Run(servers...) }()
	return code
}

func exitCode(t *testing.T, code <-chan int) int {
	t.Helper()
	select {
	case got := <-code:
		return got
	case <-time.After(2 * GraceMin):
		t.Fatal("Run does not return")
		return 0
	}
}

func TestApp_ReadyIsToldToTheCoordinator(t *testing.T) {
	t.Parallel()
	coordinator, addr := start(t)
	app := join(t, addr)
	if w := probe(app.Readiness()); w != http.StatusServiceUnavailable {
		t.Errorf("readiness before Ready is %d", w)
	}
	app.Ready()
	eventually(t, "ready", func() bool { return coordinator.Instances()[0].State == api.StateReady })
	if w := probe(app.Readiness()); w != http.StatusOK {
		t.Errorf("readiness after Ready is %d", w)
	}
}

func probe(h http.Handler) int {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	return w.Code
}

func TestApp_OperatorsDrainTakesTheSamePath(t *testing.T) {
	t.Parallel()
	coordinator, addr := start(t)
	app := join(t, addr)
	code := run(app)
	eventually(t, "ready", func() bool { return coordinator.Instances()[0].State == api.StateReady })
	coordinator.Drain(coordinator.Instances()[0].ID)
	if got := exitCode(t, code); got != ExitClean {
		t.Errorf("exit code %d", got)
	}
	var why *StopError
	if !errors.As(context.Cause(app.Context()), &why) || !strings.Contains(why.Reason, "coordinator") {
		t.Errorf("the cause is %v", context.Cause(app.Context()))
	}
	if probe(app.Liveness()) != http.StatusOK || probe(app.Readiness()) != http.StatusServiceUnavailable {
		t.Error("a drained instance is alive and not ready")
	}
	if v := coordinator.Instances()[0]; v.State != api.StateLeft || !slices.Contains(v.Phases, "flush") {
		t.Errorf("%+v", v)
	}
}

func TestApp_FencedInstanceRefusesAndExitsWithLeftovers(t *testing.T) {
	t.Parallel()
	coordinator, addr := start(t)
	app := join(t, addr)
	lock, err := app.Lock(within(t, 10*time.Second), "a")
	if err != nil {
		t.Fatal(err)
	}
	handler := app.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	if served := probe(handler); served != http.StatusOK {
		t.Errorf("does not serve: %d", served)
	}
	coordinator.ExpireAll()
	eventually(t, "requests are refused, before any drain", func() bool { return probe(handler) == http.StatusServiceUnavailable })
	if !errors.Is(lock.Err(), ErrLockLost) {
		t.Errorf("the lock of a fenced instance says %v", lock.Err())
	}
	if got := exitCode(t, run(app)); got != ExitLeftovers {
		t.Errorf("exit code %d", got)
	}
}

func TestApp_LocksAreGivenBackAfterTheFlushNewestFirst(t *testing.T) {
	t.Parallel()
	coordinator, addr := start(t)
	app := join(t, addr)
	for _, name := range []string{"a", "b", "c"} {
		if _, err := app.Lock(within(t, 10*time.Second), name); err != nil {
			t.Fatal(err)
		}
	}
	app.Flush("needs the locks", func(ctx context.Context) (int, error) {
		if n := len(opsOf(t, coordinator, api.OpRelease)); n != 0 {
			t.Errorf("%d locks were given back before the flush", n)
		}
		if ctx.Err() != nil || app.Context().Err() == nil {
			t.Error("the flush must outlive App.Context")
		}
		return 0, nil
	})
	code := run(app)
	app.requestStop(&StopError{Reason: "test"})
	if got := exitCode(t, code); got != ExitClean {
		t.Errorf("exit code %d", got)
	}
	var order []string
	for _, o := range opsOf(t, coordinator, api.OpRelease) {
		for _, name := range []string{"a", "b", "c"} {
			if strings.Contains(string(o.Body), `"name":"`+name+`"`) {
				order = append(order, name)
			}
		}
	}
	if !slices.Equal(order, []string{"c", "b", "a"}) {
		t.Errorf("given back in the order %v", order)
	}
	if _, err := app.Lock(t.Context(), "d"); !errors.Is(err, ErrStopping) {
		t.Errorf("a lock after the point of no return: %v", err)
	}
}

func TestApp_WhatAFlushCannotSaveIsAnExitCode(t *testing.T) {
	t.Parallel()
	for name, task := range map[string]func(context.Context) (int, error){
		"left over": func(context.Context) (int, error) { return 3, nil },
		"error":     func(context.Context) (int, error) { return 0, errors.New("on purpose") },
		"panic":     func(context.Context) (int, error) { panic("on purpose") },
		"too slow":  func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			coordinator, addr := start(t)
			app := join(t, addr)
			other := make(chan struct{})
			app.Flush(name, task)
			app.Flush("other", func(context.Context) (int, error) { close(other); return 0, nil })
			code := run(app)
			app.requestStop(&StopError{Reason: "test"})
			if got := exitCode(t, code); got != ExitLeftovers {
				t.Errorf("exit code %d", got)
			}
			<-other
			if v := coordinator.Instances()[0]; v.State != api.StateLeft {
				t.Errorf("a failed flush kept the drain from its end: %+v", v)
			}
		})
	}
}

func TestApp_SlowRequestIsCancelledAndAnswered(t *testing.T) {
	t.Parallel()
	_, addr := start(t)
	app := join(t, addr)
	began := make(chan struct{})
	handler := app.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		w.WriteHeader(http.StatusGatewayTimeout)
	}))
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	code := run(app)
	answered := make(chan int, 1)
	go func() {
		response, err := http.Get(server.URL)
		if err != nil {
			t.Error(err)
			answered <- 0
			return
		}
		_ = response.Body.Close()
		answered <- response.StatusCode
	}()
	<-began
	app.Flush("looks around", func(context.Context) (int, error) { return int(app.gate.inFlight.Load()), nil })
	app.requestStop(&StopError{Reason: "test"})
	if got := <-answered; got != http.StatusGatewayTimeout {
		t.Errorf("answered with %d", got)
	}
	if got := exitCode(t, code); got != ExitClean {
		t.Errorf("exit code %d", got)
	}
}

func TestApp_SilentConnectionDoesNotHoldUpTheClose(t *testing.T) {
	t.Parallel()
	_, addr := start(t)
	app := join(t, addr, Grace(GraceDefault)) // the phase may take 2 s, and http.Server alone would want 5
	connected := make(chan struct{}, 1)
	listening := make(chan string, 1)
	server := &http.Server{Addr: "127.0.0.1:0", Handler: http.NotFoundHandler(),
		BaseContext: func(l net.Listener) context.Context { listening <- l.Addr().String(); return context.Background() },
		ConnState:   func(net.Conn, http.ConnState) { connected <- struct{}{} }}
	code := run(app, server)
	conn, err := net.Dial("tcp", <-listening)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	<-connected
	began := time.Now()
	app.requestStop(&StopError{Reason: "test"})
	exitCode(t, code)
	if took := time.Since(began); took > time.Second {
		t.Errorf("took %v", took)
	}
}

func TestJoin_CoordinatorThatIsDown(t *testing.T) {
	t.Parallel()
	t.Run("is tolerated, and found later", func(t *testing.T) {
		t.Parallel()
		coordinator, addr := start(t)
		coordinator.Hang()
		app := join(t, addr)
		if _, err := app.Lock(t.Context(), "a"); !errors.Is(err, ErrNotRegistered) {
			t.Errorf("exclusion without a coordinator: %v", err)
		}
		app.Ready()
		coordinator.Resume()
		eventually(t, "registered and ready", func() bool {
			all := coordinator.Instances()
			return len(all) == 1 && all[0].State == api.StateReady
		})
		keys := map[string]bool{}
		for _, r := range coordinator.Requests("/v1/instances") {
			keys[r.Key] = true
		}
		if len(keys) != 1 {
			t.Errorf("registered under %d keys: a late attempt would fence the instance", len(keys))
		}
	})
	t.Run("is fatal when required", func(t *testing.T) {
		t.Parallel()
		if _, err := Join("orders", Addrs("127.0.0.1:1"), Required()); !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	})
}

func TestJoin_RefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		opts []Option
		want error
	}{
		"no address":              {nil, ErrConfig},
		"address":                 {[]Option{Addrs("ftp://x")}, ErrConfig},
		"grace too short":         {[]Option{Addrs("127.0.0.1:1"), Grace(GraceMin - 1)}, ErrGrace},
		"lame duck does not fit":  {[]Option{Addrs("127.0.0.1:1"), Grace(5 * time.Second), LameDuck(4 * time.Second)}, ErrGrace},
		"client id with a slash":  {[]Option{With(Config{Addrs: []string{"127.0.0.1:1"}, ClientID: "a/b"})}, ErrConfig},
		"negative request timing": {[]Option{With(Config{Addrs: []string{"127.0.0.1:1"}, RetryFor: -1})}, ErrConfig},
	} {
		if _, err := Join("orders", tc.opts...); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
}

func TestBudget_PhasesFitIntoTheGrace(t *testing.T) {
	t.Parallel()
	for _, grace := range []time.Duration{GraceMin, 10 * time.Second, GraceDefault, 90 * time.Second} {
		b, err := newBudget(grace, 0)
		if err != nil || b.announce() <= 0 || b.phases()+b.announce() != grace {
			t.Errorf("%v: phases %v, announce %v, %v", grace, b.phases(), b.announce(), err)
		}
	}
	b, err := newBudget(90*time.Second, 0)
	if err != nil || b.limit[PhaseReject] != 8*time.Second {
		t.Errorf("a long grace must not make a drain longer than it needs: %v", b.limit)
	}
}

func TestOptions_FromEnv(t *testing.T) {
	t.Setenv(EnvAddrs, "a:1,b:2")
	t.Setenv(EnvInstance, "orders-7")
	t.Setenv(EnvGrace, "12s")
	o, err := collect([]Option{FromEnv()})
	if err != nil || !slices.Equal(o.config.Addrs, []string{"a:1", "b:2"}) || o.name != "orders-7" || o.grace != 12*time.Second {
		t.Errorf("%+v, %v", o, err)
	}
	t.Setenv(EnvGrace, "soon")
	if _, err := collect([]Option{FromEnv()}); !errors.Is(err, ErrConfig) {
		t.Errorf("got %v", err)
	}
}
