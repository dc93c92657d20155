package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"syscall"
)

// class is what one attempt of a request came to.
type class string

const (
	classOK      class = "ok"
	classGated   class = "gated"     // 503 by the gate of an instance that stops
	classBusy    class = "busy"      // answered: not now
	classNone    class = "no_ready"  // no instance was ready, nothing was sent
	classRefused class = "refused"   // no connection
	classCut     class = "cut"       // the connection broke before the answer was there
	classTimeout class = "timed_out" // no answer in time
	classWrong   class = "wrong"     // answered: never
)

// classify judges an attempt. Only classWrong is final.
func classify(status int, body []byte, err error) class {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return classRefused
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return classTimeout
	case err != nil:
		return classCut
	case status == http.StatusOK, status == http.StatusCreated:
		return classOK
	case status == http.StatusServiceUnavailable && isGate(body):
		return classGated
	case status == http.StatusConflict, status == http.StatusTooManyRequests, status >= http.StatusInternalServerError:
		return classBusy
	}
	return classWrong
}

func isGate(body []byte) bool {
	var problem struct{ Code string }
	return json.Unmarshal(body, &problem) == nil && problem.Code == "draining"
}

const examplesMax = 5

// tally counts requests and their attempts, and keeps a few of the odd ones.
type tally struct {
	mu       sync.Mutex
	attempts map[class]uint64
	ok       uint64
	retried  uint64 // requests that took more than one attempt
	failed   uint64
	examples []string
}

func newTally() *tally { return &tally{attempts: map[class]uint64{}} }

func (t *tally) attempt(c class, what func() string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.attempts[c]++
	odd := c == classRefused || c == classCut || c == classTimeout || c == classWrong
	if odd && len(t.examples) < examplesMax {
		t.examples = append(t.examples, string(c)+": "+what())
	}
}

func (t *tally) done(attempts int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !ok:
		t.failed++
	case attempts > 1:
		t.retried++
		t.ok++
	default:
		t.ok++
	}
}

// counts is a tally at one moment.
type counts struct {
	OK, Retried, Failed                           uint64
	Gated, Busy, None, Refused, Cut, Timed, Wrong uint64
}

func (t *tally) counts() counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.attempts
	return counts{t.ok, t.retried, t.failed, a[classGated], a[classBusy], a[classNone], a[classRefused], a[classCut], a[classTimeout], a[classWrong]}
}

func (c counts) minus(d counts) counts {
	return counts{c.OK - d.OK, c.Retried - d.Retried, c.Failed - d.Failed, c.Gated - d.Gated, c.Busy - d.Busy, c.None - d.None,
		c.Refused - d.Refused, c.Cut - d.Cut, c.Timed - d.Timed, c.Wrong - d.Wrong}
}

func (c counts) String() string {
	return fmt.Sprintf("%d ok, %d of them after a retry, %d failed; cut %d, refused %d, timed out %d, gated %d, told to come later %d",
		c.OK, c.Retried, c.Failed, c.Cut, c.Refused, c.Timed, c.Gated, c.Busy)
}

func (t *tally) odd() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.examples)
}
