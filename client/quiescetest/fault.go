package quiescetest

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/httpapi"
)

// fault is what happens to some of the next requests instead of, or before, being served.
type fault struct {
	left  int
	paths []string // that it waits for; none: any
	act   func(serve http.Handler, w http.ResponseWriter, r *http.Request)
}

// faults stand in front of the edge.
type faults struct {
	mu    sync.Mutex
	queue []*fault
	hang  chan struct{} // not nil while the coordinator hangs
	over  chan struct{} // closed by Close: nobody waits any more
	once  sync.Once
}

func newFaults() *faults { return &faults{over: make(chan struct{})} }

// serve lets the request hang, then meets it with the first fault that waits for it, or serves it. A fault counts by the order in which
// requests arrive, not by that in which they stop hanging.
func (f *faults) serve(edge http.Handler, w http.ResponseWriter, r *http.Request) {
	hang, act := f.arrived(r.URL.Path)
	if hang != nil && !f.wait(r, hang) {
		return
	}
	act(edge, w, r)
}

func (f *faults) arrived(path string) (hang chan struct{}, act func(http.Handler, http.ResponseWriter, *http.Request)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, next := range f.queue {
		if len(next.paths) > 0 && !slices.Contains(next.paths, path) {
			continue
		}
		if next.left--; next.left <= 0 {
			f.queue = slices.Delete(f.queue, i, i+1)
		}
		return f.hang, next.act
	}
	return f.hang, http.Handler.ServeHTTP
}

// wait tells whether the request is still wanted after the wait.
func (f *faults) wait(r *http.Request, until <-chan struct{}) bool {
	select {
	case <-until:
	case <-f.over:
	case <-r.Context().Done():
		return false
	}
	return true
}

func (f *faults) add(n int, paths []string, act func(http.Handler, http.ResponseWriter, *http.Request)) {
	if n <= 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queue = append(f.queue, &fault{left: n, paths: paths, act: act})
}

func (f *faults) resume() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hang != nil {
		close(f.hang)
		f.hang = nil
	}
}

func (f *faults) close() {
	f.once.Do(func() { close(f.over) })
	f.resume()
}

// Hang makes the coordinator accept requests and answer none, as a stopped process does, until Resume. Cluster time goes on: leases expire.
func (c *Coordinator) Hang() {
	c.faults.mu.Lock()
	defer c.faults.mu.Unlock()
	if c.faults.hang == nil {
		c.faults.hang = make(chan struct{})
	}
}

// Resume ends Hang: what was asked meanwhile is served now.
func (c *Coordinator) Resume() { c.faults.resume() }

// FailNext answers the next n requests, of the given paths or of any, with a problem instead of serving them.
func (c *Coordinator) FailNext(n int, code api.Code, paths ...string) {
	c.faults.add(n, paths, func(_ http.Handler, w http.ResponseWriter, _ *http.Request) {
		httpapi.WriteProblem(w, code, "on purpose")
	})
}

// DropNext breaks the connection of the next n requests before they are served.
func (c *Coordinator) DropNext(n int, paths ...string) {
	c.faults.add(n, paths, func(http.Handler, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
}

// CutNext serves the next n requests and breaks the connection instead of answering.
func (c *Coordinator) CutNext(n int, paths ...string) {
	c.faults.add(n, paths, func(edge http.Handler, _ http.ResponseWriter, r *http.Request) {
		edge.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	})
}

// HideNext serves the next n requests and answers each with a problem, such as outcome_unknown, instead of what came of it.
func (c *Coordinator) HideNext(n int, code api.Code, paths ...string) {
	c.faults.add(n, paths, func(edge http.Handler, w http.ResponseWriter, r *http.Request) {
		edge.ServeHTTP(httptest.NewRecorder(), r)
		httpapi.WriteProblem(w, code, "on purpose")
	})
}

// DelayNext lets d of real time pass before each of the next n requests is served.
func (c *Coordinator) DelayNext(n int, d time.Duration, paths ...string) {
	c.faults.add(n, paths, func(edge http.Handler, w http.ResponseWriter, r *http.Request) {
		passed := make(chan struct{})
		timer := time.AfterFunc(d, func() { close(passed) })
		defer timer.Stop()
		if c.faults.wait(r, passed) {
			edge.ServeHTTP(w, r)
		}
	})
}

// ClearFaults forgets the faults that are still to come.
func (c *Coordinator) ClearFaults() {
	c.faults.mu.Lock()
	defer c.faults.mu.Unlock()
	c.faults.queue = nil
}
