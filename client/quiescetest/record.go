package quiescetest

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"sync"

	"github.com/quiescehq/quiesce/api"
)

// Bounds of the record: the oldest requests go first.
const (
	requestsMax     = 10_000
	requestBytesMax = 16 << 20 // of bodies, all together
)

// Request is a call that reached the coordinator, whatever became of it.
type Request struct {
	Method, Path, Query string
	Key, Acked          string // of idempotency
	Body                []byte
}

type record struct {
	mu       sync.Mutex
	requests []Request
	bytes    int
}

// note notes a request and leaves its body to be read. Of a body that is larger than the edge takes the rest is not read here.
func (rec *record) note(r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, api.BodyBytesMax+1))
	rest := io.Reader(r.Body)
	if err != nil {
		rest = failed{err}
	}
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(body), rest), r.Body}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.requests = append(rec.requests, Request{Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery,
		Key: r.Header.Get(api.HeaderIdempotencyKey), Acked: r.Header.Get(api.HeaderIdempotencyAcked), Body: body})
	rec.bytes += len(body)
	drop := 0
	for ; rec.bytes > requestBytesMax || len(rec.requests)-drop > requestsMax; drop++ {
		rec.bytes -= len(rec.requests[drop].Body)
	}
	rec.requests = slices.Delete(rec.requests, 0, drop)
}

type failed struct{ err error }

func (f failed) Read([]byte) (int, error) { return 0, f.err }

// Requests lists the calls to a path, or all of them for "": the last 10,000, or as many as have bodies of 16 MiB together.
func (c *Coordinator) Requests(path string) []Request {
	c.record.mu.Lock()
	defer c.record.mu.Unlock()
	var found []Request
	for _, r := range c.record.requests {
		if path == "" || r.Path == path {
			found = append(found, r)
		}
	}
	return found
}
