package client

import (
	"fmt"
	"net/http"
)

// Admit lets a request into the class or refuses it with 503: the building block of [Class.Handler] and of adapters for web frameworks.
// When it answers true, serve the returned request and call the function afterwards, in a defer: with the status of the answer, or 0 if
// the handler panicked. When it answers false the refusal has been written.
//
// To the breaker a status from 500 up, a panic and a deadline that has passed are failures. A client that went away, a drain that ended
// the request, and a 5xx of a request that a class has refused something say nothing.
func (c *Class) Admit(w http.ResponseWriter, r *http.Request) (*http.Request, func(status int), bool) {
	t, err := c.begin(r.Context())
	if err != nil {
		turnedAwayFor(err).write(w)
		return nil, nil, false
	}
	v := visitOf(t.ctx)
	if v != nil {
		v.class.Store(c)
	}
	return r.WithContext(t.ctx), func(status int) { t.end(judgeStatus(status, v)) }, true
}

func judgeStatus(status int, v *visit) error {
	switch {
	case status == 0:
		return errPanic
	case status < http.StatusInternalServerError:
		return nil
	case v != nil && v.refused.Load():
		return ErrNotCounted
	}
	return fmt.Errorf("status %d", status)
}

// Handler puts next into the class. Put it inside [App.Handler], so that a request that is over its deadline is known by its route.
func (c *Class) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		admitted, done, ok := c.Admit(w, r)
		if !ok {
			return
		}
		status := 0
		defer func() { done(status) }()
		if c.breaker == nil { // nobody wants to know, and the writer stays what it is
			next.ServeHTTP(w, admitted)
			status = http.StatusOK
			return
		}
		seen := &statusWriter{ResponseWriter: w}
		next.ServeHTTP(seen, admitted)
		status = seen.answered()
	})
}

// statusWriter remembers the status. Whatever else the writer can do is reached by http.NewResponseController.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *statusWriter) answered() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK || status == http.StatusSwitchingProtocols {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	w.status = w.answered()
	return w.ResponseWriter.Write(b)
}

// Flush is here because much code asserts http.Flusher.
func (w *statusWriter) Flush() {
	w.status = w.answered()
	_ = http.NewResponseController(w.ResponseWriter).Flush() // as silent as http.Flusher
}
