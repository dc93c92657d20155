package quiescetest

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
)

// Addr is an address to give to a client that calls through [Coordinator.HTTPClient].
const Addr = "http://coordinator.test"

// HTTPClient calls the coordinator without a network: for testing/synctest, whose clock does not move while a socket is read.
func (c *Coordinator) HTTPClient() *http.Client { return &http.Client{Transport: direct{c}} }

type direct struct{ handler http.Handler }

func (d direct) RoundTrip(r *http.Request) (response *http.Response, err error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	defer func() {
		if p := recover(); p != nil {
			response, err = nil, errors.Join(io.ErrUnexpectedEOF, r.Context().Err())
		}
	}()
	inner := r.Clone(r.Context())
	if inner.Body == nil {
		inner.Body = http.NoBody
	}
	recorder := httptest.NewRecorder()
	d.handler.ServeHTTP(recorder, inner)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return recorder.Result(), nil
}
