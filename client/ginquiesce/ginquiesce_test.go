package ginquiesce_test

import (
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"go.uber.org/goleak"

	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/client/ginquiesce"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestGate_RefusesWhileStoppingAndFinishesWhatRuns(t *testing.T) {
	app, coordinator := join(t, client.Grace(6*time.Second), client.LeaseTTL(time.Second))
	began, finish := make(chan struct{}), make(chan struct{})
	router := gin.New()
	router.Use(ginquiesce.Gate(app))
	router.GET("/healthz", ginquiesce.Liveness(app))
	router.GET("/readyz", ginquiesce.Readiness(app))
	router.GET("/slow", func(c *gin.Context) {
		close(began)
		<-finish
		c.String(http.StatusOK, "finished")
	})
	base := freeAddr(t)
	code := make(chan int, 1)
	go func() { code <- app.Run(&http.Server{Addr: base, Handler: router}) }()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	get := func(path string) (int, string) {
		response, err := (&http.Client{Transport: transport, Timeout: 5 * time.Second}).Get("http://" + base + path)
		if err != nil {
			return 0, err.Error()
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return response.StatusCode, string(body)
	}
	await(t, func() bool { status, _ := get("/readyz"); return status == http.StatusOK })
	slow := make(chan int, 1)
	go func() { status, _ := get("/slow"); slow <- status }()
	<-began
	await(t, func() bool { return coordinator.Instances()[0].State == "ready" })
	if err := coordinator.Drain(coordinator.Instances()[0].ID); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { status, _ := get("/nowhere"); return status == http.StatusServiceUnavailable })
	if status, _ := get("/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("readiness while stopping is %d", status)
	}
	if status, _ := get("/healthz"); status != http.StatusOK {
		t.Errorf("liveness while stopping is %d", status)
	}
	close(finish)
	if status := <-slow; status != http.StatusOK {
		t.Errorf("the request under way got %d", status)
	}
	if got := <-code; got != client.ExitClean {
		t.Errorf("exit code %d", got)
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func await(t *testing.T, holds func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(5 * time.Second)
	for !holds() {
		select {
		case <-deadline:
			t.Fatal("never happened")
		case <-ticker.C:
		}
	}
}
