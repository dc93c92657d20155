package main

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/client/quiescetest"
	"github.com/quiescehq/quiesce/cluster_test/services"
)

const envRole = "ORDERS_TEST_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(envRole) != "" {
		os.Exit(run(slog.New(slog.NewJSONHandler(os.Stderr, nil)), os.Getenv))
	}
	goleak.VerifyTestMain(m)
}

// world is a database, a cache and a coordinator of a test's own.
type world struct {
	t           *testing.T
	places      services.Services
	db          *sql.DB
	cache       *redis.Client
	coordinator *quiescetest.Coordinator
	addr        string
	http        *http.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, places: services.Require(t), http: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
	w.coordinator, w.addr = quiescetest.Start(t)
	var err error
	if w.db, err = sql.Open("mysql", w.places.MySQLDSN); err != nil {
		t.Fatal(err)
	}
	w.db.SetMaxOpenConns(4)
	w.cache = redis.NewClient(&redis.Options{Addr: w.places.RedisAddr})
	t.Cleanup(func() {
		w.http.CloseIdleConnections()
		_ = w.cache.Close()
		_ = w.db.Close()
	})
	return w
}

func (w *world) env(name, grace string) []string {
	return append(os.Environ(), envRole+"=1", "ORDERS_HTTP_ADDR=127.0.0.1:0", "ORDERS_MYSQL_DSN="+w.places.MySQLDSN,
		"ORDERS_REDIS_ADDR="+w.places.RedisAddr, "ORDERS_KEY_PREFIX="+w.places.Prefix,
		client.EnvAddrs+"="+w.addr, client.EnvInstance+"="+name, client.EnvGrace+"="+grace)
}

// process is a running instance of the service.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	base   string
	exited chan struct{}
}

func (w *world) start(name, grace string) *process {
	w.t.Helper()
	executable, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	p := &process{t: w.t, cmd: exec.Command(executable), exited: make(chan struct{})}
	p.cmd.Env = w.env(name, grace)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	listening := make(chan string, 1)
	go func() {
		defer close(p.exited)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			var line struct{ Msg, Addr string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "listening" {
				listening <- line.Addr
			}
			w.t.Logf("%s: %s", name, lines.Text())
		}
		_ = p.cmd.Wait() // the exit code says it
	}()
	w.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.exited
	})
	select {
	case addr := <-listening:
		p.base = "http://" + addr
	case <-p.exited:
		w.t.Fatalf("%s ended at once with %d", name, p.cmd.ProcessState.ExitCode())
	case <-time.After(30 * time.Second):
		w.t.Fatalf("%s does not listen", name)
	}
	return p
}

func (p *process) stop(sig os.Signal, within time.Duration) int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
	return p.wait(within)
}

func (p *process) wait(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(within):
		p.t.Fatalf("still running after %v", within)
	}
	return p.cmd.ProcessState.ExitCode()
}

type answer struct {
	status int
	header http.Header
	body   []byte
	err    error
}

func (a answer) id(t *testing.T) int64 {
	t.Helper()
	var body struct{ ID int64 }
	if a.err != nil || json.Unmarshal(a.body, &body) != nil || body.ID == 0 {
		t.Fatalf("no order in %d %s, %v", a.status, a.body, a.err)
	}
	return body.ID
}

func (w *world) call(method, url, body string) answer {
	req, err := http.NewRequestWithContext(context.Background(), method, url, bytes.NewReader([]byte(body)))
	if err != nil {
		return answer{err: err}
	}
	response, err := w.http.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, text, err}
}

func (w *world) number(query string, args ...any) (n int64) {
	w.t.Helper()
	if err := w.db.QueryRow(query, args...).Scan(&n); err != nil {
		w.t.Fatalf("%s: %v", query, err)
	}
	return n
}

func (w *world) eventually(what string, holds func() bool) {
	w.t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-deadline:
			w.t.Fatalf("never happened: %s", what)
		case <-ticker.C:
		}
	}
}

func newOrder(request string) string {
	return fmt.Sprintf(`{"request_id": %q, "customer": "Zoë", "amount": "12.50", "note": "☕ %s"}`, request, strings.Repeat("x", 20))
}
