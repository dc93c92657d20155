package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/quiescehq/quiesce/api"
)

// waitEventMax is how long one request waits for a delivery.
const waitEventMax = 30 * time.Second

var (
	// ErrEventDead says that an event was given up, after its key was removed from the cache.
	ErrEventDead = errors.New("client: the event was given up")
	// ErrEventUnknown says that no such event was ever accepted.
	ErrEventUnknown = errors.New("client: no such event")
)

// WaitEvent returns when an event is delivered. pk is as in Enqueue, or the key where the mapping's key columns are others. A token of 0 is of an
// event that named nothing: there is nothing to wait for.
func (c *Client) WaitEvent(ctx context.Context, mapping string, pk any, token EventToken) error {
	key, err := encodePK(pk)
	if err != nil || token.Token == 0 {
		return err
	}
	for {
		state, err := c.eventState(ctx, mapping, key, token.Token)
		switch {
		case err != nil:
			return fmt.Errorf("wait for an event of %s: %w", mapping, err)
		case state == api.EventDone:
			return nil
		case state == api.EventDead:
			return ErrEventDead
		case state == api.EventUnknown:
			return ErrEventUnknown
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		if err := pause(ctx, backoff(1)); err != nil { // a node that is going answers at once
			return err
		}
	}
}

func (c *Client) eventState(ctx context.Context, mapping string, key []json.RawMessage, token uint64) (string, error) {
	wait := waitEventMax
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, max(time.Until(deadline), 0))
	}
	var answer api.EventState
	_, err := c.do(ctx, call{method: "POST", path: "/v1/outbox/wait", body: api.WaitEvent{Mapping: mapping, Key: key, Token: token, WaitMs: millis(wait)},
		answer: &answer, parks: wait})
	return answer.State, err
}
