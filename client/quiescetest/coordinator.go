package quiescetest

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/httpapi"
)

// closeMax is how long Close waits for requests that are being served.
const closeMax = 5 * time.Second

// Coordinator is a coordinator in memory. Its zero value is not usable; see New and Start.
type Coordinator struct {
	node   *node
	edge   *httpapi.Server
	faults *faults
	record record
	relays *relays
	server *httptest.Server // nil until Listen
}

// Option changes what New and Start make.
type Option func(*options)

type options struct{ manual bool }

// ManualClock lets cluster time stand still but for Advance: no lease and no wait ends by itself.
func ManualClock() Option { return func(o *options) { o.manual = true } }

// New makes a coordinator that does not listen: it is an http.Handler, and HTTPClient calls it. It need not be closed.
func New(opts ...Option) *Coordinator {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	c := &Coordinator{node: newNode(o.manual), faults: newFaults(), relays: &relays{}}
	var err error
	c.edge, err = httpapi.New(httpapi.Config{Node: nodeID, Version: "test", Replica: c.node, Mappings: anyMapping{}, Relays: c.relays, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		panic(err) // a fault of the routes, which no caller can cause
	}
	c.edge.SetReady(true, "")
	c.node.lead()
	return c
}

// Start makes a coordinator that listens on loopback until t ends, and gives its address.
func Start(t testing.TB, opts ...Option) (*Coordinator, string) {
	t.Helper()
	c := New(opts...)
	addr := c.Listen()
	t.Cleanup(c.Close)
	return c, addr
}

// Listen serves on a port of loopback until Close, and gives the address, such as http://127.0.0.1:1234. It may be called once.
func (c *Coordinator) Listen() string {
	c.server = httptest.NewServer(c)
	c.node.listensAt(c.server.Listener.Addr().String())
	return c.server.URL
}

// Close ends all that waits, and the server if there is one. It returns when nothing of the coordinator runs any more.
func (c *Coordinator) Close() {
	c.faults.close()
	ctx, cancel := context.WithTimeout(context.Background(), closeMax)
	defer cancel()
	_ = c.edge.Drain(ctx) // what is still in flight then is cut off
	if c.server != nil {
		c.server.CloseClientConnections()
		c.server.Close()
	}
	c.node.close()
}

// ServeHTTP records the request, lets faults have their way, and answers.
func (c *Coordinator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.record.note(r)
	c.faults.serve(c.edge.Handler(), w, r)
}
