package rediscache

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// GuardState is what a guard says, for people who look into a key.
type GuardState struct {
	Present           bool
	Foreign           bool   // something is there that is no guard
	Token             uint64 // of the last write; 0: none
	InvalidatedMillis int64  // the server's clock at the last invalidate; 0: none
	Leased            bool   // a reader may fill the key
	TTLMillis         int64  // until it is forgotten; 0 beside Present is never
}

// Guards returns the state of at most 1,000 guards, in their order.
func (t *Target) Guards(ctx context.Context, guards []string) ([]GuardState, error) {
	if len(guards) > batchKeysMax {
		return nil, fmt.Errorf("redis target %q: guards: %w: %d keys, at most %d", t.config.Name, ErrInvalid, len(guards), batchKeysMax)
	}
	states := make([]GuardState, len(guards))
	err := t.spread(ctx, len(guards), func(i int) string { return guards[i] }, func(n *node, at []int) error {
		pipe := n.client.Pipeline()
		fields, ttls := make([]*redis.SliceCmd, len(at)), make([]*redis.DurationCmd, len(at))
		for j, i := range at {
			fields[j], ttls[j] = pipe.HMGet(ctx, guards[i], "t", "b", "l"), pipe.PTTL(ctx, guards[i])
		}
		role := t.pipeRole(ctx, pipe)
		_, _ = pipe.Exec(ctx) // every error is also on a reply below
		for j, i := range at {
			state, err := guardState(fields[j], ttls[j])
			if err != nil {
				return err
			}
			states[i] = state
		}
		return checkRole(role)
	})
	if err != nil {
		return nil, t.fail(ctx, "guards", err)
	}
	return states, nil
}

func guardState(fields *redis.SliceCmd, ttl *redis.DurationCmd) (GuardState, error) {
	left, err := ttl.Result()
	if err != nil {
		return GuardState{}, err
	}
	if left == pttlMissing {
		return GuardState{}, nil
	}
	state := GuardState{Present: true, TTLMillis: max(left, 0).Milliseconds()}
	values, err := fields.Result()
	switch {
	case err != nil && otherType(err) == errOtherType:
		state.Foreign = true
		return state, nil
	case err != nil:
		return GuardState{}, err
	case len(values) != 3:
		return GuardState{}, fmt.Errorf("%w: %d fields of a guard", ErrUnexpected, len(values))
	}
	text := func(i int) string { s, _ := values[i].(string); return s }
	state.Token, _ = strconv.ParseUint(text(0), 10, 64) // what is no number was not written by us
	state.InvalidatedMillis, _ = strconv.ParseInt(text(1), 10, 64)
	state.Leased = text(2) != ""
	return state, nil
}
