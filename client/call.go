package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/quiescehq/quiesce/api"
)

const answerBytesMax = 4 << 20

// call is one request to the cluster, however many attempts it takes.
type call struct {
	method, path string
	body         any                // nil: none
	answer       any                // where a 2xx body goes; nil: it is dropped
	decode       func([]byte) error // instead of answer; what it cannot read is asked for again
	keyed        bool               // carries an idempotency key; calls without one must be harmless to repeat
	fixedKey     string             // instead of a counted one: more than one call shares it
	keysInside   bool               // the body carries the keys of its operations
	parks        time.Duration      // how long a node may hold the request by contract
	timeout      time.Duration      // of an attempt, 0 for the client's
	retryFor     time.Duration      // 0 for the client's
	header       http.Header        // more headers, or nil
}

// reply is what came of a call that was answered.
type reply struct {
	status int
	sent   time.Time // leases count from here: when the attempt that was answered began; under a key the first, whose result it may be
}

// do sends a call until it is answered, ctx ends, or it has failed for too long. A refusal is an *Error; else the error wraps
// ErrUnavailable or ErrOutcomeUnknown.
func (c *Client) do(ctx context.Context, r call) (reply, error) {
	var seq uint64
	if r.keyed {
		var err error
		if seq, err = c.keys.take(ctx); err != nil {
			return reply{}, giveUp(r.what(), 0, false, nil, err)
		}
		defer c.keys.settle(seq)
	}
	payload, err := encodeBody(r.body)
	if err != nil {
		return reply{}, err
	}
	return c.persist(ctx, r, payload, seq)
}

// persist makes attempts under one key.
func (c *Client) persist(ctx context.Context, r call, payload []byte, seq uint64) (reply, error) {
	var until, began time.Time
	unknown := false
	for attempt := 1; ; attempt++ {
		rep, err := c.attempt(ctx, r, payload, seq)
		if attempt == 1 {
			began = rep.sent
		}
		if r.answersOnce() {
			rep.sent = began
		}
		var failed *failure
		if !errors.As(err, &failed) {
			return rep, err
		}
		unknown = unknown || failed.unknown
		now := time.Now()
		if attempt == 1 {
			until = now.Add(orDefault(r.retryFor, c.retryFor))
		}
		wait := backoff(attempt)
		if ctx.Err() != nil || now.Add(wait).After(until) {
			return rep, giveUp(r.what(), attempt, unknown, failed.err, context.Cause(ctx))
		}
		if err := pause(ctx, wait); err != nil {
			return rep, giveUp(r.what(), attempt, unknown, failed.err, err)
		}
	}
}

// attempt asks one node once. A *failure asks for another attempt; every other result is final.
func (c *Client) attempt(parent context.Context, r call, payload []byte, seq uint64) (reply, error) {
	ctx, cancel := context.WithTimeout(parent, orDefault(r.timeout, c.requestTimeout)+r.parks)
	defer cancel()
	base := c.nodes.pick()
	req, err := http.NewRequestWithContext(ctx, r.method, base+r.path, bytes.NewReader(payload))
	if err != nil {
		return reply{}, fmt.Errorf("client: %s: %w", r.what(), err)
	}
	c.setHeaders(req, r, seq)
	rep := reply{sent: time.Now()}
	response, err := c.http.Do(req)
	if err != nil {
		if parent.Err() == nil {
			c.nodes.failed(base)
		}
		return rep, transportFailure(err)
	}
	defer closeBody(response.Body)
	rep.status = response.StatusCode
	err = c.read(response, r)
	if failed := (*failure)(nil); errors.As(err, &failed) {
		c.nodes.failed(base)
	}
	c.nodes.learn(response.Header.Get(api.HeaderLeader))
	return rep, err
}

func (c *Client) setHeaders(req *http.Request, r call, seq uint64) {
	for name, values := range r.header {
		req.Header[name] = values
	}
	if req.ContentLength > 0 {
		req.Header.Set("Content-Type", api.ContentJSON)
	}
	if r.fixedKey != "" {
		req.Header.Set(api.HeaderIdempotencyKey, r.fixedKey)
	}
	if r.keyed {
		req.Header.Set(api.HeaderIdempotencyKey, c.key(seq))
		req.Header.Set(api.HeaderIdempotencyAcked, strconv.FormatUint(c.keys.acknowledged(), 10))
	}
}

func (c *Client) key(seq uint64) string { return c.id + "/" + strconv.FormatUint(seq, 10) }

func (c *Client) read(response *http.Response, r call) error {
	body := io.LimitReader(response.Body, answerBytesMax)
	if response.StatusCode >= 300 {
		refused := readProblem(response.StatusCode, response.Header, body)
		if failed := answerFailure(refused); failed != nil {
			return failed
		}
		return refused
	}
	if err := r.readAnswer(body); err != nil {
		// The node applied the request and the connection broke in the answer: the same key gets it again.
		return &failure{unknown: true, err: fmt.Errorf("read the answer: %w", err)}
	}
	return nil
}

func (r call) readAnswer(body io.Reader) error {
	switch {
	case r.decode != nil:
		text, err := io.ReadAll(body)
		if err != nil {
			return err
		}
		return r.decode(text)
	case r.answer != nil:
		reflect.ValueOf(r.answer).Elem().SetZero() // an attempt that broke in the middle may have left something
		return json.NewDecoder(body).Decode(r.answer)
	}
	return nil
}

// closeBody drains a little, so that the connection can be used again; an endless body is cheaper to cut off.
func closeBody(body io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, body, 64<<10)
	_ = body.Close()
}

func encodeBody(body any) ([]byte, error) {
	if body == nil {
		return nil, nil
	}
	payload, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("client: encode the request: %w", err)
	}
	if len(payload) > api.BodyBytesMax {
		return nil, fmt.Errorf("client: the request has %d bytes, %d are allowed", len(payload), api.BodyBytesMax)
	}
	return payload, nil
}

func (r call) what() string { return r.method + " " + r.path }

// answersOnce tells whether another attempt is answered with the result of the first.
func (r call) answersOnce() bool { return r.keyed || r.fixedKey != "" || r.keysInside }

func post(path string, body, answer any) call {
	return call{method: http.MethodPost, path: path, body: body, answer: answer, keyed: true}
}
