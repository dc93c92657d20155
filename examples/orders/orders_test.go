package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/client"
)

const (
	testGrace     = "8s"
	testGraceTime = 8 * time.Second
)

func TestOrders_CreateReadAndUpdate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start("one", testGrace)
	created := w.call(http.MethodPost, p.base+"/orders", newOrder("r1"))
	id := created.id(t)
	if again := w.call(http.MethodPost, p.base+"/orders", newOrder("r1")); created.status != 201 || again.status != 200 || again.id(t) != id {
		t.Errorf("created with %d, repeated with %d %s", created.status, again.status, again.body)
	}
	if n := w.number("SELECT COUNT(*) FROM orders"); n != 1 {
		t.Errorf("%d orders of one request", n)
	}
	url := p.base + "/orders/" + strconv.FormatInt(id, 10)
	missed := w.call(http.MethodGet, url, "")
	var o order
	if err := json.Unmarshal(missed.body, &o); err != nil || o.Customer != "Zoë" || o.Amount != "12.50" || o.Version != 1 || missed.header.Get("X-Cache") != "miss" {
		t.Errorf("read %s %v, %v", missed.body, missed.header, err)
	}
	key := w.places.Prefix + strconv.FormatInt(id, 10)
	if err := w.cache.Set(t.Context(), key, `{"cached":true}`, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if hit := w.call(http.MethodGet, url, ""); string(hit.body) != `{"cached":true}` || hit.header.Get("X-Cache") != "hit" {
		t.Errorf("read %s %v", hit.body, hit.header)
	}
	for range 2 { // the same request twice is one change
		if a := w.call(http.MethodPut, url, `{"request_id":"r2","status":"paid"}`); a.status != 200 {
			t.Errorf("update: %d %s %v", a.status, a.body, a.err)
		}
	}
	if v, token := w.number("SELECT version FROM orders"), w.number("SELECT fence_token FROM orders"); v != 2 || token == 0 {
		t.Errorf("version %d, token %d", v, token)
	}
	if holder, _ := w.coordinator.Holder("order/" + strconv.FormatInt(id, 10)); holder != "" {
		t.Error("the lock was not given back")
	}
	if events := w.coordinator.Events(); len(events) != 4 || events[0].PK != strconv.FormatInt(id, 10) {
		t.Errorf("events %v", events)
	}
}

func TestOrders_OlderTokenChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start("one", testGrace)
	id := w.call(http.MethodPost, p.base+"/orders", newOrder("r1")).id(t)
	if _, err := w.db.Exec("UPDATE orders SET fence_token = 1 << 50"); err != nil {
		t.Fatal(err)
	}
	a := w.call(http.MethodPut, fmt.Sprintf("%s/orders/%d", p.base, id), `{"request_id":"r2","status":"paid"}`)
	if a.status != http.StatusConflict {
		t.Errorf("%d %s", a.status, a.body)
	}
	if n := w.number("SELECT COUNT(*) FROM orders WHERE status = 'paid'") + w.number("SELECT COUNT(*) FROM ledger WHERE request_id = 'r2'"); n != 0 {
		t.Error("a fenced update left something behind")
	}
}

func TestOrders_BadInputGetsASentence(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start("one", testGrace)
	for _, tc := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/orders", `{`, 400},
		{"POST", "/orders", `{"request_id":"a","customer":"b","amount":"1.234"}`, 400},
		{"POST", "/orders", `{"request_id":"a","customer":"b","amount":"12345678901"}`, 400},
		{"POST", "/orders", `{"request_id":"a","customer":"b","amount":"-1"}`, 400},
		{"POST", "/orders", `{"request_id":"é","customer":"b","amount":"1"}`, 400},
		{"PUT", "/orders/x", `{"request_id":"a","status":"b"}`, 400},
		{"PUT", "/orders/12345", `{"request_id":"a","status":"b"}`, 404},
		{"GET", "/orders/12345", ``, 404},
	} {
		if a := w.call(tc.method, p.base+tc.path, tc.body); a.status != tc.status || len(a.body) == 0 {
			t.Errorf("%s %s %s: %d %s", tc.method, tc.path, tc.body, a.status, a.body)
		}
	}
}

func TestOrders_EventThatIsNotAcceptedLeavesNoStaleKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start("one", testGrace)
	id := w.call(http.MethodPost, p.base+"/orders", newOrder("r1")).id(t)
	key := w.places.Prefix + strconv.FormatInt(id, 10)
	if err := w.cache.Set(t.Context(), key, "stale", 0).Err(); err != nil {
		t.Fatal(err)
	}
	before := len(w.coordinator.Events())
	w.coordinator.Hang()
	if a := w.call(http.MethodPost, p.base+"/orders", newOrder("r1")); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if n := w.cache.Exists(context.Background(), key).Val(); n != 0 {
		t.Error("the cache holds a value that nobody will refresh")
	}
	w.coordinator.Resume()
	w.eventually("the event is accepted later", func() bool { return len(w.coordinator.Events()) > before })
	if code := p.stop(syscall.SIGTERM, testGraceTime); code != client.ExitClean {
		t.Errorf("exit code %d", code)
	}
}

func TestOrders_DirtyKeysThatCannotBeFlushedAreLeftovers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start("one", testGrace)
	w.call(http.MethodPost, p.base+"/orders", newOrder("r0")).id(t)
	w.coordinator.Hang()
	w.call(http.MethodPost, p.base+"/orders", newOrder("r1")).id(t)
	if code := p.stop(syscall.SIGTERM, testGraceTime); code != client.ExitLeftovers {
		t.Errorf("exit code %d, want %d", code, client.ExitLeftovers)
	}
}

// Each client repeats a request under one id until it is acknowledged, as a client of a service that is being restarted has to.
func TestOrders_RollingRestartCommitsEachRequestOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var serving atomic.Pointer[[]string]
	first, second := w.start("a0", testGrace), w.start("b0", testGrace)
	serving.Store(&[]string{first.base, second.base})
	contested := w.call(http.MethodPost, first.base+"/orders", newOrder("contested")).id(t)

	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	var acknowledged, updates, broken atomic.Int64
	for n := range 6 {
		clients.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				request := fmt.Sprintf("c%d-%d", n, i)
				if i%3 == 0 {
					body := fmt.Sprintf(`{"request_id":%q,"status":"s%d"}`, request, i%10)
					w.repeat(&serving, &broken, http.MethodPut, fmt.Sprintf("/orders/%d", contested), body)
					updates.Add(1)
				} else {
					w.repeat(&serving, &broken, http.MethodPost, "/orders", newOrder(request))
				}
				acknowledged.Add(1)
			}
		})
	}
	for round, old := range []*process{first, second} {
		w.eventually("requests are acknowledged", func() bool { return acknowledged.Load() > int64(60*(round+1)) })
		fresh := w.start(fmt.Sprintf("new%d", round), testGrace)
		rest := []string{fresh.base}
		for _, base := range *serving.Load() {
			if base != old.base {
				rest = append(rest, base)
			}
		}
		all := append([]string{old.base}, rest...)
		serving.Store(&all)
		if err := old.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		w.eventually("not ready", func() bool { return w.call(http.MethodGet, old.base+"/readyz", "").status == 503 })
		serving.Store(&rest) // what a balancer does when its probe fails
		if code := old.wait(testGraceTime); code != client.ExitClean {
			t.Errorf("exit code %d", code)
		}
	}
	stop()
	clients.Wait()
	t.Logf("%d acknowledged, %d of them updates, %d broken", acknowledged.Load(), updates.Load(), broken.Load())
	if broken.Load() != 0 {
		t.Errorf("%d requests were cut or refused", broken.Load())
	}
	if n := w.number("SELECT COUNT(*) FROM ledger"); n != acknowledged.Load()+1 {
		t.Errorf("%d requests in the ledger, %d acknowledged", n, acknowledged.Load()+1)
	}
	if n := w.number("SELECT COUNT(*) FROM orders"); n != acknowledged.Load()-updates.Load()+1 {
		t.Errorf("%d orders", n)
	}
	if v := w.number("SELECT version FROM orders WHERE id = ?", contested); v != updates.Load()+1 {
		t.Errorf("version %d after %d updates", v, updates.Load())
	}
}

// repeat sends a request until it is acknowledged, each time to another instance. A connection that breaks is counted.
func (w *world) repeat(serving *atomic.Pointer[[]string], broken *atomic.Int64, method, path, body string) {
	for turn := 0; ; turn++ {
		bases := *serving.Load()
		a := w.call(method, bases[(turn+len(body))%len(bases)]+path, body)
		switch {
		case a.err != nil:
			broken.Add(1)
			w.t.Logf("%s %s: %v", method, path, a.err)
		case a.status == http.StatusOK || a.status == http.StatusCreated:
			return
		case a.status != http.StatusServiceUnavailable && a.status != http.StatusConflict:
			w.t.Errorf("%s %s: %d %s", method, path, a.status, a.body)
			return
		}
		if turn > 1_000 {
			w.t.Errorf("%s %s: never acknowledged", method, path)
			return
		}
		pause(w.t.Context(), 10*time.Millisecond)
	}
}

func TestConfig_SaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	if _, err := readConfig(func(string) string { return "" }); err == nil {
		t.Error("started without a database")
	}
}
