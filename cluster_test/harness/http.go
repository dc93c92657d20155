package harness

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/quiescehq/quiesce/api"
)

const (
	askTimeout     = 10 * time.Second
	attemptTimeout = 3 * time.Second // as in package client
	retryEvery     = 25 * time.Millisecond
	answerBytesMax = 8 << 20
)

func newHTTPClient() *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 128}}
}

// Request is one request to the API.
type Request struct {
	Method string
	Path   string
	Key    string            // of idempotency, if any
	Body   any               // JSON, if any
	Header map[string]string // more headers
	Parks  time.Duration     // how long the node may hold it by contract
}

// Answer is what a node said.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// errRefused is an answer that is none of 2xx.
var errRefused = errors.New("refused")

// Problem reads an error answer.
func (a Answer) Problem() api.Problem {
	p := api.Problem{Status: a.Status}
	if err := json.Unmarshal(a.Body, &p); err != nil {
		p.Detail = string(a.Body)
	}
	return p
}

// Into reads a 2xx answer into v, and makes an error of every other.
func (a Answer) Into(v any) error {
	if a.Status >= 300 {
		p := a.Problem()
		return fmt.Errorf("%w with %d %s: %s", errRefused, a.Status, p.Code, p.Detail)
	}
	if v == nil || len(a.Body) == 0 {
		return nil
	}
	return json.Unmarshal(a.Body, v)
}

// Send sends a request to one node, once. The error is one of the connection.
func (c *Cluster) Send(ctx context.Context, to *Node, r Request) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout+r.Parks)
	defer cancel()
	var body io.Reader
	if r.Body != nil {
		text, err := json.Marshal(r.Body)
		if err != nil {
			return Answer{}, err
		}
		body = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, r.Method, "http://"+to.HTTPAddr+r.Path, body)
	if err != nil {
		return Answer{}, err
	}
	if r.Body != nil {
		request.Header.Set("Content-Type", api.ContentJSON)
	}
	if r.Key != "" {
		request.Header.Set(api.HeaderIdempotencyKey, r.Key)
		request.GetBody = nil // else net/http itself repeats a request with such a key, which would hide failures from the test
	}
	for name, value := range r.Header {
		request.Header.Set(name, value)
	}
	response, err := c.client.Do(request)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, answerBytesMax))
	return Answer{Status: response.StatusCode, Header: response.Header, Body: text}, err
}

// Caller is a client that has its own order of the nodes, asks the first of them until it fails, and then goes on to the next. Unlike
// package client it does not follow the leader, so that its requests keep going through followers. It may be used by one goroutine.
type Caller struct {
	c     *Cluster
	nodes []*Node
}

// Caller makes a caller that begins with a node, or with the first of the cluster.
func (c *Cluster) Caller(first ...*Node) *Caller {
	return &Caller{c: c, nodes: append(slices.Clone(first), c.Others(first...)...)}
}

// Do sends a request until it is answered with other than "not applied" or "unknown", or ctx ends. A mutating request gets a key.
func (k *Caller) Do(ctx context.Context, r Request) (Answer, error) {
	if r.Method != http.MethodGet && r.Key == "" {
		r.Key = "h-" + rand.Text()
	}
	ticker := time.NewTicker(retryEvery)
	defer ticker.Stop()
	for {
		answer, err := k.c.Send(ctx, k.nodes[0], r)
		if err == nil && !openQuestion(answer.Status) {
			return answer, nil
		}
		if err == nil {
			err = fmt.Errorf("%d %s", answer.Status, answer.Problem().Detail)
		}
		k.nodes = append(k.nodes[1:], k.nodes[0])
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return answer, fmt.Errorf("%s %s: %w (last: %w)", r.Method, r.Path, context.Cause(ctx), err)
		}
	}
}

func openQuestion(status int) bool {
	return status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout || status == http.StatusBadGateway
}

// Must sends a request through any node and ends the test unless the answer is 2xx, which is read into v.
func (c *Cluster) Must(r Request, v any) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), ReadyWithin+r.Parks)
	defer cancel()
	answer, err := c.Caller().Do(ctx, r)
	if err == nil {
		err = answer.Into(v)
	}
	if err != nil {
		c.t.Fatalf("%s %s: %v", r.Method, r.Path, err)
	}
}
