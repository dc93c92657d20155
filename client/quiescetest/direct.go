package quiescetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
)

const host = "coordinator.test"

// Addr is an address to give to a client that calls through [Coordinator.HTTPClient].
const Addr = "http://" + host

// HTTPClient calls the coordinator without a network: for testing/synctest, whose clock does not move while a socket is read.
func (c *Coordinator) HTTPClient() *http.Client { return &http.Client{Transport: direct{c}} }

type direct struct{ handler http.Handler }

// RoundTrip returns when the answer has begun; its body can be a stream. The goroutine that serves ends with the handler, and Close of the
// body ends that and waits for it.
func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(r.Context())
	x := newExchange(cancel)
	inner := r.Clone(ctx)
	inner.RequestURI = r.URL.RequestURI()
	if inner.Body == nil {
		inner.Body = http.NoBody
	}
	go x.serve(d.handler, inner)
	select {
	case <-x.began:
	case <-ctx.Done():
	}
	if err := r.Context().Err(); err != nil {
		_ = x.Close()
		return nil, err
	}
	if x.cut {
		_ = x.Close()
		return nil, io.ErrUnexpectedEOF
	}
	return &http.Response{Status: http.StatusText(x.status), StatusCode: x.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: x.sent, Body: x, ContentLength: -1, Request: r}, nil
}

// unreadBytesMax bounds what a caller may leave unread; the handler is told that the connection broke when it writes more.
const unreadBytesMax = 16 << 20

// exchange is one request on its way: an http.ResponseWriter for the handler, the body of the answer for the caller.
type exchange struct {
	cancel context.CancelFunc
	header http.Header
	once   sync.Once
	status int
	sent   http.Header
	cut    bool          // broken before the answer began
	began  chan struct{} // closed with the header, or with the end when there was none
	ended  chan struct{}

	mu     sync.Mutex
	unread bytes.Buffer
	wrote  chan struct{} // holds one wake-up
	final  error         // what reading gives at the end; nil while there is more to come
}

func newExchange(cancel context.CancelFunc) *exchange {
	return &exchange{cancel: cancel, header: http.Header{}, status: http.StatusOK, began: make(chan struct{}), ended: make(chan struct{}),
		wrote: make(chan struct{}, 1)}
}

func (x *exchange) serve(handler http.Handler, r *http.Request) {
	defer close(x.ended)
	defer func() {
		cause := recover()
		if err, _ := cause.(error); cause != nil && !errors.Is(err, http.ErrAbortHandler) {
			panic(cause)
		}
		x.once.Do(func() {
			x.cut, x.sent = cause != nil, x.header.Clone()
			close(x.began)
		})
		x.finish(cause != nil)
	}()
	handler.ServeHTTP(x, r)
}

func (x *exchange) finish(cut bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.final = io.EOF
	if cut {
		x.final = io.ErrUnexpectedEOF
	}
	x.wakeLocked()
}

func (x *exchange) wakeLocked() {
	select {
	case x.wrote <- struct{}{}:
	default:
	}
}

func (x *exchange) Header() http.Header { return x.header }

func (x *exchange) WriteHeader(status int) {
	x.once.Do(func() {
		x.status, x.sent = status, x.header.Clone()
		close(x.began)
	})
}

func (x *exchange) Write(p []byte) (int, error) {
	x.WriteHeader(http.StatusOK)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.unread.Len()+len(p) > unreadBytesMax {
		return 0, io.ErrClosedPipe
	}
	x.wakeLocked()
	return x.unread.Write(p)
}

// Flush implements http.Flusher: every byte is on its way already.
func (x *exchange) Flush() { x.WriteHeader(http.StatusOK) }

// Read implements the body of an answer.
func (x *exchange) Read(p []byte) (int, error) {
	for {
		x.mu.Lock()
		n, err := x.unread.Read(p)
		if err != nil {
			err = x.final
		}
		x.mu.Unlock()
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
		<-x.wrote
	}
}

// Close implements the body of an answer.
func (x *exchange) Close() error {
	x.cancel()
	<-x.ended
	return nil
}
