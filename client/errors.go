package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/quiescehq/quiesce/api"
)

// Two outcomes are not an answer. Both wrap the last failure.
var (
	// ErrUnavailable says that the request was surely not applied: no node could take it in time.
	ErrUnavailable = errors.New("client: no node could take the request")
	// ErrOutcomeUnknown says that the request may or may not have been applied.
	ErrOutcomeUnknown = errors.New("client: the outcome is unknown")
)

// Refusals that callers ask for with errors.Is. Every other code can be read from *Error.
var (
	ErrLockHeld         = refusal(api.CodeLockHeld)
	ErrLockWaitTimeout  = refusal(api.CodeLockWaitTimeout)
	ErrNotHolder        = refusal(api.CodeNotHolder)
	ErrNoSuccessor      = refusal(api.CodeNoSuccessor)
	ErrLimitMismatch    = refusal(api.CodeLimitMismatch)
	ErrSessionGone      = refusal(api.CodeSessionNotFound)
	ErrFenced           = refusal(api.CodeFenced)
	ErrOutboxFull       = refusal(api.CodeOutboxFull)
	ErrMappingNotFound  = refusal(api.CodeMappingNotFound)
	ErrStaleIncarnation = refusal(api.CodeStaleIncarnation)
	ErrVersionMismatch  = refusal(api.CodeVersionMismatch)
)

func refusal(code api.Code) *Error {
	m := api.Meanings[code]
	return &Error{Code: code, Status: m.Status, Detail: m.Title}
}

// Error is an answer that refuses.
type Error struct {
	Code       api.Code
	Status     int
	Detail     string // for a person
	Index      uint64 // revision of the state that refused
	Holder     string // session that holds the lock, when one does
	Token      uint64 // of that holder
	Blockers   []string
	Faults     []api.Fault
	RetryAfter time.Duration // 0 when the server did not say
}

func (e *Error) Error() string {
	text := "client: " + string(e.Code) + ": " + e.Detail
	for _, f := range e.Faults {
		text += "; " + f.Field + ": " + f.Reason
	}
	return text
}

// Is compares codes, so that errors.Is(err, ErrLockHeld) holds whatever the detail.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

func errorOf(p *api.Problem, header http.Header) *Error {
	e := &Error{Code: p.Code, Status: p.Status, Detail: p.Detail, Index: p.Index, Holder: p.Holder, Token: p.Token,
		Blockers: p.Blockers, Faults: p.Faults, RetryAfter: time.Duration(p.RetryAfterMs) * time.Millisecond}
	if e.Detail == "" {
		e.Detail = p.Title
	}
	if e.RetryAfter == 0 {
		if seconds, err := strconv.Atoi(header.Get(api.HeaderRetryAfter)); err == nil && seconds > 0 {
			e.RetryAfter = time.Duration(seconds) * time.Second
		}
	}
	return e
}

// readProblem makes an error of a refusing answer, whoever wrote it: a proxy in between need not know our problem format.
func readProblem(status int, header http.Header, body io.Reader) *Error {
	var p api.Problem
	if err := json.NewDecoder(body).Decode(&p); err != nil || p.Code == "" {
		p = api.Problem{Title: http.StatusText(status)}
	}
	p.Status = status
	return errorOf(&p, header)
}

// failure is what one attempt came to when it did not end in an answer.
type failure struct {
	unknown bool // bytes may have reached a node
	err     error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// transportFailure judges an error of the HTTP client. Only a connection that was never made proves that nothing was applied.
func transportFailure(err error) *failure {
	var op *net.OpError
	dial := errors.As(err, &op) && op.Op == "dial"
	return &failure{unknown: !dial, err: err}
}

// answerFailure tells whether an error answer leaves the question open, and how: 503 says "not applied" by contract, 502 and 504 say
// that somebody on the way does not know. A nil result means that the answer is final.
func answerFailure(e *Error) *failure {
	switch e.Status {
	case http.StatusServiceUnavailable:
		return &failure{err: e}
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		return &failure{unknown: true, err: e}
	}
	return nil
}

// giveUp turns a series of failed attempts into what the caller is told.
func giveUp(what string, attempts int, unknown bool, last, cause error) error {
	outcome := ErrUnavailable
	if unknown {
		outcome = ErrOutcomeUnknown
	}
	err := fmt.Errorf("%w: %s after %d attempts", outcome, what, attempts)
	if last != nil {
		err = fmt.Errorf("%w: %w", err, last)
	}
	if cause != nil && !errors.Is(last, cause) {
		err = fmt.Errorf("%w (%w)", err, cause)
	}
	return err
}
