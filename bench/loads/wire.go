package loads

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/bench/wire"
)

// ErrRefused is an answer other than success.
var ErrRefused = errors.New("work: refused")

// Wire is Quiesce by single HTTP requests to one node, a connection for each worker.
type Wire struct {
	callers []*caller
	session string
}

// NewWire connects and opens the one session that all workers share. Run names this use: two at one cluster must not share their keys.
func NewWire(ctx context.Context, addr, run string, workers int) (*Wire, error) {
	w := &Wire{}
	for i := range workers {
		c, err := dialCaller(ctx, addr, fmt.Sprintf("%s-%d", run, i))
		if err != nil {
			return nil, errors.Join(err, w.Close(ctx))
		}
		w.callers = append(w.callers, c)
	}
	var opened api.Session
	if err := w.callers[0].ask("/v1/sessions", api.OpenSession{Name: "bench", TTLMs: api.SessionTTLMaxMs}, &opened); err != nil {
		return nil, errors.Join(err, w.Close(ctx))
	}
	w.session = opened.ID
	return w, nil
}

// Lock asks once: nobody else wants the names of this load.
func (w *Wire) Lock(_ context.Context, worker int, name string) (Unlock, error) {
	c := w.callers[worker]
	c.body = append(append(c.body[:0], `{"session":"`...), w.session...)
	c.body = append(append(c.body, `","locks":[{"name":"`...), name...)
	answer, err := c.post("/v1/locks/acquire", append(c.body, `"}]}`...))
	if err != nil {
		return nil, err
	}
	token, err := tokenIn(answer)
	if err != nil {
		return nil, err
	}
	return func(context.Context) error { return w.release(c, name, token) }, nil
}

func (w *Wire) release(c *caller, name string, token uint64) error {
	c.body = append(append(c.body[:0], `{"session":"`...), w.session...)
	c.body = append(append(c.body, `","locks":[{"name":"`...), name...)
	c.body = strconv.AppendUint(append(c.body, `","token":`...), token, 10)
	_, err := c.post("/v1/locks/release", append(c.body, `}]}`...))
	return err
}

// tokenIn finds the one token of a grant.
func tokenIn(answer []byte) (uint64, error) {
	_, rest, found := bytes.Cut(answer, []byte(`"token":`))
	digits := 0
	for digits < len(rest) && '0' <= rest[digits] && rest[digits] <= '9' {
		digits++
	}
	if !found || digits == 0 {
		return 0, fmt.Errorf("%w: no token in %q", ErrRefused, answer)
	}
	return strconv.ParseUint(string(rest[:digits]), 10, 64)
}

// Close closes the session and the connections.
func (w *Wire) Close(context.Context) error {
	var err error
	if w.session != "" {
		_, err = w.callers[0].send(http.MethodDelete, "/v1/sessions/"+w.session, nil)
	}
	for _, c := range w.callers {
		err = errors.Join(err, c.conn.Close())
	}
	return err
}

// caller is a client of its own to the cluster: one connection, one request at a time. So the lowest number whose answer it has not seen
// is always that of the request it is about to send.
type caller struct {
	conn *wire.Conn
	id   string
	seq  uint64
	body []byte
	key  []byte
}

func dialCaller(ctx context.Context, addr, id string) (*caller, error) {
	conn, err := wire.Dial(ctx, addr)
	return &caller{conn: conn, id: id}, err
}

func (c *caller) post(path string, body []byte) ([]byte, error) {
	return c.send(http.MethodPost, path, body)
}

func (c *caller) send(method, path string, body []byte) ([]byte, error) {
	c.seq++
	c.key = strconv.AppendUint(append(append(c.key[:0], c.id...), '/'), c.seq, 10)
	return c.exchange(wire.Request{Method: method, Path: path, Key: string(c.key), Acked: c.seq, Body: body})
}

func (c *caller) exchange(r wire.Request) ([]byte, error) {
	status, answer, err := c.conn.Do(r)
	if err == nil && status >= http.StatusMultipleChoices {
		err = fmt.Errorf("%w: %s %s: %d: %s", ErrRefused, r.Method, r.Path, status, answer)
	}
	return answer, err
}

// ask is for what is not measured.
func (c *caller) ask(path string, body, answer any) error {
	return askBy(func(text []byte) ([]byte, error) { return c.post(path, text) }, body, answer)
}

// askUnkeyed is ask for a batch, which takes no key for itself.
func (c *caller) askUnkeyed(path string, body, answer any) error {
	return askBy(func(text []byte) ([]byte, error) {
		return c.exchange(wire.Request{Method: http.MethodPost, Path: path, Body: text})
	}, body, answer)
}

func askBy(post func([]byte) ([]byte, error), body, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	got, err := post(text)
	if err != nil {
		return err
	}
	return json.Unmarshal(got, answer)
}
