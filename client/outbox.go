package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"sync"

	"github.com/quiescehq/quiesce/api"
)

// enqueuedMax bounds the events of one process that wait for a request to go out.
const enqueuedMax = 100_000

var (
	// ErrPK says that a primary key is of a type that a key cannot have.
	ErrPK = errors.New("client: a primary key is an integer, a string, or a slice of these")
	// ErrEnqueueBacklog says that too many events of this process wait for the coordinator; see ErrOutboxFull for the other end.
	ErrEnqueueBacklog = errors.New("client: too many events wait to be sent")
)

// EventToken is the place of an event in the order of all changes.
type EventToken = api.EventToken

// Enqueue says that the cached forms of rows may be stale; call it after the commit that changed them. When it returns without an error
// the cluster will bring the cache to what the table holds, whatever becomes of this process. Tokens come in the order of pks.
//
// A pk is an integer, a string in MySQL's form, or for a composite key a slice of these in primary-key order. Concurrent calls share
// requests. ctx bounds the waiting, not the sending: after its end the events may still be accepted.
func (c *Client) Enqueue(ctx context.Context, mapping string, pks ...any) ([]EventToken, error) {
	events := make([]api.RowEvent, 0, len(pks))
	for _, pk := range pks {
		parts, err := encodePK(pk)
		if err != nil {
			return nil, err
		}
		events = append(events, api.RowEvent{Mapping: mapping, PK: parts})
	}
	tokens := make([]EventToken, 0, len(events))
	for len(events) > 0 {
		n := min(len(events), api.EventsMax)
		got, err := c.outbox.submit(ctx, events[:n])
		if err != nil {
			return tokens, fmt.Errorf("enqueue %d events of %s: %w", len(events), mapping, err)
		}
		tokens, events = append(tokens, got...), events[n:]
	}
	return tokens, nil
}

// encodePK gives every part as text, which unlike a JSON number is exact beyond 2^53.
func encodePK(pk any) ([]json.RawMessage, error) {
	v := reflect.ValueOf(pk)
	if v.Kind() != reflect.Slice {
		part, err := encodePart(v)
		return []json.RawMessage{part}, err
	}
	if v.Len() == 0 || v.Len() > api.PKPartsMax {
		return nil, fmt.Errorf("%w: it has %d parts", ErrPK, v.Len())
	}
	parts := make([]json.RawMessage, v.Len())
	for i := range parts {
		part := v.Index(i)
		if part.Kind() == reflect.Interface {
			part = part.Elem()
		}
		var err error
		if parts[i], err = encodePart(part); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

func encodePart(v reflect.Value) (json.RawMessage, error) {
	var text string
	switch {
	case v.Kind() == reflect.String:
		text = v.String()
	case v.IsValid() && v.CanInt():
		text = strconv.FormatInt(v.Int(), 10)
	case v.IsValid() && v.CanUint():
		text = strconv.FormatUint(v.Uint(), 10)
	default:
		return nil, fmt.Errorf("%w: got %v", ErrPK, v)
	}
	return json.Marshal(text)
}

// joiner makes one request of the Enqueue calls that come while another request is on its way: under load requests grow instead of
// becoming more, and a call on its own waits for nothing. The request in flight runs in a goroutine of its own, so that no caller's
// context can end what others wait for.
type joiner struct {
	client *Client

	mu      sync.Mutex
	waiting []*enqueued
	events  int // in waiting
	running bool
	closed  bool
}

type enqueued struct {
	events []api.RowEvent
	tokens []EventToken
	err    error
	done   chan struct{}
}

func (j *joiner) submit(ctx context.Context, events []api.RowEvent) ([]EventToken, error) {
	e := &enqueued{events: events, done: make(chan struct{})}
	if err := j.add(e); err != nil {
		return nil, err
	}
	select {
	case <-e.done:
		return e.tokens, e.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrOutcomeUnknown, context.Cause(ctx))
	}
}

func (j *joiner) add(e *enqueued) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return fmt.Errorf("%w: %w", ErrUnavailable, ErrClosed)
	}
	if j.events+len(e.events) > enqueuedMax {
		return fmt.Errorf("%w: %w", ErrUnavailable, ErrEnqueueBacklog)
	}
	j.waiting, j.events = append(j.waiting, e), j.events+len(e.events)
	if !j.running {
		j.running = true
		j.client.joined.Go(j.run)
	}
	return nil
}

// close refuses later calls, so that Client.Close can wait for the goroutine.
func (j *joiner) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
}

func (j *joiner) run() {
	for {
		calls := j.take()
		if len(calls) == 0 {
			return
		}
		err := j.send(calls)
		if err != nil && len(calls) > 1 && !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrOutcomeUnknown) {
			// Events are accepted all or none, and one caller's mistake is not the others': each stands for itself.
			for i := range calls {
				_ = j.send(calls[i : i+1])
			}
		}
		for _, e := range calls {
			close(e.done)
		}
	}
}

// take removes as many waiting calls as fit into one request, and ends the running when there are none.
func (j *joiner) take() []*enqueued {
	j.mu.Lock()
	defer j.mu.Unlock()
	n, events := 0, 0
	for n < len(j.waiting) && events+len(j.waiting[n].events) <= api.EventsMax {
		events += len(j.waiting[n].events)
		n++
	}
	calls := j.waiting[:n:n]
	j.waiting, j.events = j.waiting[n:], j.events-events
	j.running = n > 0
	return calls
}

func (j *joiner) send(calls []*enqueued) error {
	var request api.EnqueueEvents
	for _, e := range calls {
		request.Events = append(request.Events, e.events...)
	}
	var answer api.Enqueued
	_, err := j.client.do(j.client.life, post("/v1/outbox/events", request, &answer))
	if err == nil && len(answer.Events) != len(request.Events) {
		err = fmt.Errorf("client: %d events were answered with %d tokens", len(request.Events), len(answer.Events))
	}
	tokens := answer.Events
	for _, e := range calls {
		e.tokens, e.err = nil, err
		if err == nil {
			e.tokens, tokens = tokens[:len(e.events):len(e.events)], tokens[len(e.events):]
		}
	}
	return err
}
