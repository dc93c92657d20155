package quiescetest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
)

// Coordinator is the fake. Its zero value is not usable; see New and Start.
type Coordinator struct {
	mu        sync.Mutex
	changed   chan struct{} // closed and replaced when something that a waiter may wait for changed
	token     uint64
	sessions  map[string]*session
	locks     map[string]*lock
	tickets   map[uint64]*ticket
	instances map[string]*instance
	mappings  map[string]json.RawMessage
	revision  uint64 // of the mappings together
	events    []Event
	requests  []Request
	answers   map[string]func() answer // by idempotency key
	faults    []func(http.ResponseWriter, *http.Request) bool
	hang      chan struct{} // not nil while the coordinator hangs
	mux       *http.ServeMux
}

// Request is a call that reached the coordinator.
type Request struct {
	Method, Path, Key, Acked string
	Body                     []byte
}

// Event is an accepted event.
type Event struct {
	Mapping string
	PK      string // the first part of the key, as text
	Token   uint64
}

type answer struct {
	status int
	body   any
}

func ok(body any) answer { return answer{http.StatusOK, body} }

func refused(code api.Code, detail string) answer {
	m := api.Meanings[code]
	return answer{m.Status, &api.Problem{Type: "about:blank", Title: m.Title, Status: m.Status, Detail: detail, Code: code}}
}

// New makes a coordinator without a server.
func New() *Coordinator {
	c := &Coordinator{changed: make(chan struct{}), sessions: map[string]*session{}, locks: map[string]*lock{}, tickets: map[uint64]*ticket{},
		instances: map[string]*instance{}, mappings: map[string]json.RawMessage{}, answers: map[string]func() answer{}, mux: http.NewServeMux()}
	c.routes()
	return c
}

// Start makes a coordinator that listens on loopback until t ends, and gives its address.
func Start(t testing.TB) (*Coordinator, string) {
	t.Helper()
	c := New()
	server := httptest.NewServer(c)
	t.Cleanup(func() {
		c.Resume()
		server.Close()
	})
	return c, server.URL
}

func (c *Coordinator) routes() {
	handle(c, "POST /v1/sessions", c.openSession)
	handle(c, "POST /v1/sessions/keepalive", c.keepaliveSessions)
	handle(c, "DELETE /v1/sessions/{id}", c.closeSession)
	handle(c, "POST /v1/batch", c.batch)
	handle(c, "POST /v1/locks/acquire", c.acquire)
	handle(c, "POST /v1/locks/release", c.release)
	handle(c, "POST /v1/locks/cancel", c.cancel)
	handle(c, "POST /v1/instances", c.register)
	handle(c, "POST /v1/instances/{id}/keepalive", c.keepaliveInstance)
	handle(c, "POST /v1/instances/{id}/ready", c.ready)
	handle(c, "POST /v1/instances/{id}/drain", c.drain)
	handle(c, "POST /v1/instances/{id}/phase", c.phase)
	handle(c, "POST /v1/instances/{id}/drained", c.drained)
	handle(c, "POST /v1/instances/{id}/left", c.left)
	handle(c, "PUT /v1/mappings/{name}", c.putMapping)
	handle(c, "GET /v1/mappings/{name}", c.getMapping)
	handle(c, "POST /v1/outbox/events", c.enqueue)
}

// handle serves one route: decode, answer once per key, encode.
func handle[T any](c *Coordinator, pattern string, serve func(*http.Request, T) answer) {
	c.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		var body T
		decoder := json.NewDecoder(r.Body)
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&body); err != nil && r.ContentLength != 0 {
			write(w, refused(api.CodeMalformed, err.Error()))
			return
		}
		write(w, c.once(r.Header.Get(api.HeaderIdempotencyKey), func() answer { return serve(r, body) }))
	})
}

func write(w http.ResponseWriter, a answer) {
	w.Header().Set("Content-Type", api.ContentJSON)
	w.WriteHeader(a.status)
	_ = json.NewEncoder(w).Encode(a.body) // the client may be gone
}

func (c *Coordinator) once(key string, serve func() answer) answer {
	if key == "" {
		return serve()
	}
	c.mu.Lock()
	if c.answers[key] == nil {
		c.answers[key] = sync.OnceValue(serve)
	}
	stored := c.answers[key]
	c.mu.Unlock()
	return stored()
}

// ServeHTTP records the request, lets faults have their way, and answers.
func (c *Coordinator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c.interfered(w, record(c, r)) {
		return
	}
	c.expire()
	c.mux.ServeHTTP(w, r)
}

func (c *Coordinator) interfered(w http.ResponseWriter, r *http.Request) bool {
	c.mu.Lock()
	hang := c.hang
	var fault func(http.ResponseWriter, *http.Request) bool
	if len(c.faults) > 0 {
		fault, c.faults = c.faults[0], c.faults[1:]
	}
	c.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-r.Context().Done():
			return true
		}
	}
	return fault != nil && fault(w, r)
}

func (c *Coordinator) nextToken() uint64 {
	c.token++
	return c.token
}

func (c *Coordinator) notify() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// Hang makes the coordinator accept requests and answer none, as a stopped process does, until Resume.
func (c *Coordinator) Hang() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hang == nil {
		c.hang = make(chan struct{})
	}
}

// Resume ends Hang.
func (c *Coordinator) Resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hang != nil {
		close(c.hang)
		c.hang = nil
	}
}

// FailNext answers the next n requests with a problem instead of serving them.
func (c *Coordinator) FailNext(n int, code api.Code) {
	c.interfere(n, func(w http.ResponseWriter, _ *http.Request) bool {
		write(w, refused(code, "on purpose"))
		return true
	})
}

// CutNext serves the next n requests and breaks the connection instead of answering.
func (c *Coordinator) CutNext(n int) {
	c.interfere(n, func(_ http.ResponseWriter, r *http.Request) bool {
		c.mux.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	})
}

func (c *Coordinator) interfere(n int, fault func(http.ResponseWriter, *http.Request) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range n {
		c.faults = append(c.faults, fault)
	}
}

// ExpireAll ends all sessions, as if no keepalive had come for a TTL.
func (c *Coordinator) ExpireAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sessions {
		s.deadline = time.Time{}
	}
	c.expireLocked()
}

// ClearFaults forgets the faults that are still to come.
func (c *Coordinator) ClearFaults() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = nil
}
