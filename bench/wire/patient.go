package wire

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// ErrRefused is an answer that another attempt would not change.
var ErrRefused = errors.New("wire: refused")

// Patient is a client of its own to one server: one connection, one request at a time, repeated until it is answered. So the lowest number
// whose answer it has not seen is always that of its present request. It belongs to one goroutine and must be closed.
type Patient struct {
	Addr  string
	Name  string        // of its idempotency keys: no two clients of a cluster may share it
	Pause time.Duration // between two attempts
	Limit time.Duration // of one attempt

	Repeats int // attempts beyond the first of each request, so far

	conn   *Conn
	ending bool // the server closes it after its last answer
	seq    uint64
}

// Post is Send with POST.
func (p *Patient) Post(ctx context.Context, path string, body []byte) ([]byte, error) {
	return p.Send(ctx, http.MethodPost, path, body)
}

// Send sends a mutating request under a key of its own until it is answered, or ctx ends. The answer is valid until the next call.
func (p *Patient) Send(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	p.seq++
	return p.repeat(ctx, Request{Method: method, Path: path, Key: p.Name + "/" + strconv.FormatUint(p.seq, 10), Acked: p.seq, Body: body})
}

// PostUnkeyed sends a request that takes no key, because it may be repeated anyway.
func (p *Patient) PostUnkeyed(ctx context.Context, path string, body []byte) ([]byte, error) {
	return p.repeat(ctx, Request{Method: http.MethodPost, Path: path, Body: body})
}

// Get reads.
func (p *Patient) Get(ctx context.Context, path string) ([]byte, error) {
	return p.repeat(ctx, Request{Method: http.MethodGet, Path: path})
}

// Field is a header of the last answer, by its name in lower case.
func (p *Patient) Field(name string) (string, bool) {
	if p.conn == nil {
		return "", false
	}
	return p.conn.Field(name)
}

// Close closes the connection.
func (p *Patient) Close() {
	if p.conn != nil {
		_ = p.conn.Close() // nothing is on its way
		p.conn, p.ending = nil, false
	}
}

func (p *Patient) repeat(ctx context.Context, r Request) ([]byte, error) {
	var timer *time.Timer
	for {
		answer, again, err := p.attempt(ctx, r)
		if !again {
			return answer, err
		}
		p.Repeats++
		if timer == nil {
			timer = time.NewTimer(p.Pause)
			defer timer.Stop()
		} else {
			timer.Reset(p.Pause)
		}
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: %w, last: %w", r.Path, context.Cause(ctx), err)
		}
	}
}

// attempt tells whether another one may bring an answer.
func (p *Patient) attempt(ctx context.Context, r Request) (answer []byte, again bool, err error) {
	if p.ending {
		p.Close()
	}
	if p.conn == nil {
		conn, err := Dial(ctx, p.Addr)
		if err != nil {
			return nil, true, err
		}
		p.conn, conn.Limit = conn, p.Limit
	}
	status, answer, err := p.conn.Do(r)
	if err != nil {
		p.Close() // of no further use
		return nil, true, err
	}
	said, _ := p.conn.Field("connection")
	p.ending = said == "close"
	if status < http.StatusMultipleChoices {
		return answer, false, nil
	}
	again = status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
	return nil, again, fmt.Errorf("%w: %s: %d: %s", ErrRefused, r.Path, status, answer)
}
