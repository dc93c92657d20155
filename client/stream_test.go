package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/client/quiescetest"
)

// serveApp runs an application on a port of loopback.
func serveApp(t *testing.T, mux *http.ServeMux, opts ...Option) (app *App, addr string, signals quiescetest.Signals, code <-chan int) {
	t.Helper()
	signals = make(quiescetest.Signals, 2)
	_, coordinator := start(t)
	app = join(t, coordinator, append([]Option{Signals(signals)}, opts...)...)
	listening := make(chan string, 1)
	code = run(app, &http.Server{Addr: "127.0.0.1:0", Handler: app.Handler(mux), WriteTimeout: time.Second,
		BaseContext: func(l net.Listener) context.Context { listening <- l.Addr().String(); return context.Background() }})
	return app, <-listening, signals, code
}

func get(t *testing.T, url string) *http.Response {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	response, err := (&http.Client{Transport: transport}).Get(url)
	must(t, err)
	t.Cleanup(func() { _ = response.Body.Close() })
	return response
}

func TestStream_SaysGoodbyeAsSoonAsRequestsAreRefused(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	app, addr, signals, code := serveApp(t, mux, Grace(GraceDefault))
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		ctx := app.Stream(w, r)
		_, _ = fmt.Fprintln(w, "hello")
		_ = http.NewResponseController(w).Flush()
		<-ctx.Done()
		why := &StopError{}
		_, _ = fmt.Fprintln(w, "goodbye", errors.As(context.Cause(ctx), &why), r.Context().Err())
	})
	body := bufio.NewScanner(get(t, "http://"+addr+"/events").Body)
	if !body.Scan() || body.Text() != "hello" {
		t.Fatalf("got %q, %v", body.Text(), body.Err())
	}
	<-time.After(1200 * time.Millisecond) // longer than the server's WriteTimeout
	began := time.Now()
	signals.SendSIGTERM()
	if !body.Scan() || body.Text() != "goodbye true <nil>" {
		t.Errorf("got %q, %v", body.Text(), body.Err())
	}
	if got := exitCode(t, code); got != ExitClean {
		t.Errorf("exit code %d", got)
	}
	if took := time.Since(began); took > 3*time.Second { // the phase alone may take 8
		t.Errorf("took %v", took)
	}
}

func TestStream_EndsWithItsRequest(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	app, addr, signals, code := serveApp(t, mux)
	ended := make(chan context.Context, 1)
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) { ended <- app.Stream(w, r) })
	get(t, "http://"+addr+"/events")
	select {
	case <-(<-ended).Done():
	case <-time.After(5 * time.Second):
		t.Error("the context outlives its request")
	}
	signals.SendSIGTERM()
	exitCode(t, code)
}

func TestHijacked_ConnectionsAreToldAndClosed(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	app, addr, signals, code := serveApp(t, mux)
	var told atomic.Int32
	release := make(chan struct{})
	handle := func(goodbye func(net.Conn) func(context.Context)) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			forget := app.Hijacked(conn, goodbye(conn))
			defer forget()
			_, _ = conn.Write([]byte("open\n"))
			_, _ = io.Copy(io.Discard, conn)
		}
	}
	mux.HandleFunc("/polite", handle(func(c net.Conn) func(context.Context) {
		return func(context.Context) { told.Add(1); _, _ = c.Write([]byte("1001\n")) }
	}))
	mux.HandleFunc("/deaf", handle(func(net.Conn) func(context.Context) { return func(context.Context) { <-release } }))
	mux.HandleFunc("/panics", handle(func(net.Conn) func(context.Context) { return func(context.Context) { panic("on purpose") } }))
	mux.HandleFunc("/mute", handle(func(net.Conn) func(context.Context) { return nil }))
	conns := map[string]*bufio.Reader{}
	for _, path := range []string{"/polite", "/deaf", "/panics", "/mute"} {
		conn, err := net.Dial("tcp", addr)
		must(t, err)
		defer conn.Close()
		_, err = conn.Write([]byte("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n"))
		must(t, err)
		conns[path] = bufio.NewReader(conn)
		if line, err := conns[path].ReadString('\n'); line != "open\n" {
			t.Fatalf("%s: %q, %v", path, line, err)
		}
	}
	signals.SendSIGTERM()
	for path, r := range conns {
		rest, err := io.ReadAll(r)
		if want := map[bool]string{true: "1001\n"}[path == "/polite"]; err != nil || string(rest) != want {
			t.Errorf("%s: %q, %v", path, rest, err)
		}
	}
	if got := exitCode(t, code); got != ExitClean || told.Load() != 1 {
		t.Errorf("exit code %d, %d were told", got, told.Load())
	}
	client, server := net.Pipe()
	defer client.Close()
	defer app.Hijacked(server, nil)()
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("one that comes too late: %v", err)
	}
	close(release)
}

func TestRun_BodyThatDoesNotComeEndsWithinThePhase(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	began := make(chan struct{})
	mux.HandleFunc("POST /upload", func(w http.ResponseWriter, r *http.Request) {
		close(began)
		_, err := io.ReadAll(r.Body)
		http.Error(w, fmt.Sprint(err), http.StatusRequestTimeout)
	})
	_, addr, signals, code := serveApp(t, mux)
	conn, err := net.Dial("tcp", addr)
	must(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf"))
	must(t, err)
	<-began
	signals.SendSIGTERM()
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 408") {
		t.Errorf("answered %q, %v", answer, err)
	}
	if got := exitCode(t, code); got != ExitClean {
		t.Errorf("exit code %d", got)
	}
}

func TestRun_ClientThatDoesNotReadItsAnswerEndsWithinThePhase(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	app, addr, signals, code := serveApp(t, mux)
	began := make(chan struct{})
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		_ = app.Stream(w, r) // lifts the WriteTimeout; its end is not looked at
		close(began)
		for {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
	conn, err := net.Dial("tcp", addr)
	must(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("GET /events HTTP/1.1\r\nHost: x\r\n\r\n"))
	must(t, err)
	<-began
	signals.SendSIGTERM()
	if got := exitCode(t, code); got != ExitClean {
		t.Errorf("exit code %d", got)
	}
}
