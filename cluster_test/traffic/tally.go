package traffic

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

// Class is what one attempt of a request came to.
type Class string

// The classes.
const (
	OK       Class = "ok"
	Gated    Class = "gated"     // 503 by the gate of an instance that stops
	Busy     Class = "busy"      // answered: not now
	None     Class = "no_ready"  // no instance was ready, nothing was sent
	Refused  Class = "refused"   // no connection
	Cut      Class = "cut"       // the connection broke before the answer was there
	TimedOut Class = "timed_out" // no answer in time
	Wrong    Class = "wrong"     // answered: never
)

// Classify judges an attempt. Only Wrong is final.
func Classify(status int, body []byte, err error) Class {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return TimedOut
	case err != nil:
		return Cut
	case status == http.StatusOK, status == http.StatusCreated:
		return OK
	case status == http.StatusServiceUnavailable && isGate(body):
		return Gated
	case status == http.StatusConflict, status == http.StatusTooManyRequests, status >= http.StatusInternalServerError:
		return Busy
	}
	return Wrong
}

func isGate(body []byte) bool {
	var problem struct{ Code string }
	return json.Unmarshal(body, &problem) == nil && problem.Code == "draining"
}

const examplesMax = 5

// Tally counts requests and their attempts, and keeps a few of the odd ones.
type Tally struct {
	mu       sync.Mutex
	attempts map[Class]uint64
	ok       uint64
	retried  uint64 // requests that took more than one attempt
	failed   uint64
	examples []string
}

// NewTally begins at nothing.
func NewTally() *Tally { return &Tally{attempts: map[Class]uint64{}} }

// Attempt notes what became of one attempt. what describes it, and is asked only if it is odd.
func (t *Tally) Attempt(c Class, what func() string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.attempts[c]++
	odd := c == Refused || c == Cut || c == TimedOut || c == Wrong
	if odd && len(t.examples) < examplesMax {
		t.examples = append(t.examples, string(c)+": "+what())
	}
}

// Done notes the end of a request.
func (t *Tally) Done(attempts int, ok bool) {
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

// Counts is a tally at one moment.
type Counts struct {
	OK, Retried, Failed                           uint64
	Gated, Busy, None, Refused, Cut, Timed, Wrong uint64
}

// Counts is how it stands.
func (t *Tally) Counts() Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.attempts
	return Counts{t.ok, t.retried, t.failed, a[Gated], a[Busy], a[None], a[Refused], a[Cut], a[TimedOut], a[Wrong]}
}

// Minus is what came since d.
func (c Counts) Minus(d Counts) Counts {
	return Counts{c.OK - d.OK, c.Retried - d.Retried, c.Failed - d.Failed, c.Gated - d.Gated, c.Busy - d.Busy, c.None - d.None,
		c.Refused - d.Refused, c.Cut - d.Cut, c.Timed - d.Timed, c.Wrong - d.Wrong}
}

func (c Counts) String() string {
	return fmt.Sprintf("%d ok, %d of them after a retry, %d failed; cut %d, refused %d, timed out %d, gated %d, told to come later %d",
		c.OK, c.Retried, c.Failed, c.Cut, c.Refused, c.Timed, c.Gated, c.Busy)
}

// Odd are a few attempts that were refused, cut, late or wrong, in words.
func (t *Tally) Odd() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.examples)
}
