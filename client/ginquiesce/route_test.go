package ginquiesce_test

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/client/ginquiesce"
	"github.com/quiescehq/quiesce/client/quiescetest"
)

func join(t *testing.T, options ...client.Option) (*client.App, *quiescetest.Coordinator) {
	t.Helper()
	gin.SetMode(gin.TestMode)
	coordinator, addr := quiescetest.Start(t)
	none := uint64(0) // of its time to settle: an instance may go as soon as it is ready
	if err := coordinator.PutService("orders", api.PutService{SettleMs: &none}); err != nil {
		t.Fatal(err)
	}
	options = append([]client.Option{client.Addrs(addr), client.Name("one"), client.Grace(client.GraceMin), client.LameDuck(10 * time.Millisecond)}, options...)
	app, err := client.Join("orders", options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(app.Close)
	return app, coordinator
}

// quietLog writes where a test can look.
func quietLog(to *strings.Builder, mu *sync.Mutex) *slog.Logger {
	return slog.New(slog.NewTextHandler(lockedWriter{to, mu}, nil))
}

type lockedWriter struct {
	to *strings.Builder
	mu *sync.Mutex
}

func (w lockedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(b)
}

func serve(h http.Handler, method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w
}

func TestGate_ReadOnlyServesWhatReads(t *testing.T) {
	app, coordinator := join(t)
	done := func(c *gin.Context) { c.Status(http.StatusOK) }
	r := gin.New()
	r.Use(ginquiesce.Gate(app))
	r.POST("/search", ginquiesce.Reads, done)
	r.POST("/orders", done)
	r.GET("/orders", done)
	reports := r.Group("/reports", ginquiesce.Reads)
	reports.POST("/:id/preview", done)
	app.Reads("POST /from/outside")
	r.POST("/from/outside", done)
	for _, readOnly := range []bool{false, true, false} {
		if err := coordinator.ReadOnly("orders", readOnly); err != nil {
			t.Fatal(err)
		}
		await(t, func() bool { return app.ReadOnly() == readOnly })
		for path, writes := range map[string]bool{"POST /search": false, "POST /orders": true, "GET /orders": false, "POST /reports/7/preview": false, "POST /from/outside": false} {
			method, target, _ := strings.Cut(path, " ")
			w := serve(r, method, target)
			if refused := w.Code == http.StatusServiceUnavailable; refused != (writes && readOnly) {
				t.Errorf("%s, read-only %t: %d", path, readOnly, w.Code)
			}
			if w.Code == http.StatusServiceUnavailable && (!strings.Contains(w.Body.String(), `"code":"read_only"`) || w.Header().Get("Retry-After") == "") {
				t.Errorf("%s: %v %s", path, w.Header(), w.Body)
			}
		}
	}
}

// told is a breaker that remembers what it hears.
type told struct {
	mu   sync.Mutex
	last error
}

var errNone = errors.New("it was told nothing")

func (b *told) Allow() (func(error), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = errNone
	return func(err error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.last = err
	}, nil
}

func TestClass_TellsTheBreakerOfTheStatus(t *testing.T) {
	app, _ := join(t)
	b := &told{}
	class := app.Class(client.ClassLocal, 0, client.WithBreaker(b), client.Concurrent(1))
	r := gin.New()
	r.Use(ginquiesce.Gate(app), gin.RecoveryWithWriter(io.Discard), ginquiesce.Class(class))
	r.GET("/fine", func(c *gin.Context) { c.String(http.StatusOK, "fine") })
	r.GET("/yours", func(c *gin.Context) { c.Status(http.StatusBadRequest) })
	r.GET("/ours", func(c *gin.Context) { c.AbortWithStatus(http.StatusBadGateway) })
	r.GET("/panic", func(*gin.Context) { panic("on purpose") })
	r.GET("/late", func(c *gin.Context) { <-c.Request.Context().Done() })
	for path, want := range map[string]func(error) bool{
		"/fine":  func(err error) bool { return err == nil },
		"/yours": func(err error) bool { return err == nil },
		"/ours":  func(err error) bool { return err != nil && !errors.Is(err, client.ErrNotCounted) },
		"/panic": func(err error) bool { return err != nil && !errors.Is(err, client.ErrNotCounted) },
		"/late":  func(err error) bool { return errors.Is(err, client.ErrClassDeadline) },
	} {
		serve(r, http.MethodGet, path)
		if !want(b.last) || errors.Is(b.last, errNone) || class.InFlight() != 0 {
			t.Errorf("%s: the breaker was told %v, %d in flight", path, b.last, class.InFlight())
		}
	}
	full := gin.New()
	full.Use(ginquiesce.Class(class))
	full.GET("/", func(c *gin.Context) {
		if w := serve(full, http.MethodGet, "/"); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "overloaded") {
			t.Errorf("above the limit: %d %s", w.Code, w.Body)
		}
	})
	serve(full, http.MethodGet, "/")
}

func TestGate_NamesRoutes(t *testing.T) {
	log := &strings.Builder{}
	var mu sync.Mutex
	app, coordinator := join(t, client.Logger(quietLog(log, &mu)))
	r := gin.New()
	r.Use(ginquiesce.Gate(app))
	began := make(chan struct{})
	r.GET("/orders/:id", ginquiesce.Class(app.Class("patient", time.Minute)), func(c *gin.Context) {
		close(began)
		<-c.Request.Context().Done()
	})
	code := make(chan int, 1)
	go func() { code <- app.Run() }()
	await(t, func() bool { return len(coordinator.Instances()) == 1 && coordinator.Instances()[0].State == "ready" })
	served := make(chan struct{})
	go func() { defer close(served); serve(r, http.MethodGet, "/orders/7") }()
	<-began
	if err := coordinator.Drain(coordinator.Instances()[0].ID); err != nil {
		t.Fatal(err)
	}
	<-served
	if got := <-code; got != client.ExitClean {
		t.Errorf("exit code %d", got)
	}
	mu.Lock()
	defer mu.Unlock()
	if !strings.Contains(log.String(), "GET /orders/:id (patient): 1, the oldest for ") {
		t.Errorf("what was left over is not named:\n%s", log)
	}
}
