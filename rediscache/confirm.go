package rediscache

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// waitAOFSince is the first Redis that knows WAITAOF.
var waitAOFSince = [2]int{7, 2}

// Of the caller's time so much is for waiting; the rest is left to bring the answer back.
const confirmShare, confirmWhole = 3, 4

// possible tells why this server can never confirm what the configuration asks for.
func (c Confirm) possible(s Server) error {
	if !c.AOF {
		return nil
	}
	if !atLeast(s.Version, waitAOFSince) {
		return fmt.Errorf("%w: confirmation of the append-only file needs Redis %d.%d, this is %s", ErrConfig, waitAOFSince[0], waitAOFSince[1], s.Version)
	}
	if !s.AOF {
		return fmt.Errorf("%w: confirmation of the append-only file, and the server keeps none", ErrConfig)
	}
	return nil
}

func atLeast(version string, least [2]int) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	major, err := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return err == nil && err2 == nil && (major > least[0] || major == least[0] && minor >= least[1])
}

// queue puts the question behind the writes, on their own connection: the server answers for what it had written when it last served the
// connection that asks, so another one of the pool may be told at once that nothing is missing.
func (c Confirm) queue(ctx context.Context, pipe redis.Pipeliner) *redis.Cmd {
	if !c.wanted() {
		return nil
	}
	wait := c.Timeout
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(deadline)*confirmShare/confirmWhole)
	}
	millis := max(wait.Milliseconds(), 1) // 0 would be for ever
	cmd := redis.NewCmd(ctx, "wait", c.Replicas, millis)
	if c.AOF {
		cmd = redis.NewCmd(ctx, "waitaof", 1, c.Replicas, millis)
	}
	_ = pipe.Process(ctx, cmd) // it only queues
	return cmd
}

// check takes back the outcomes that nobody confirmed. Without an answer they are unknown.
func (c Confirm) check(ctx context.Context, answer *redis.Cmd, calls []*call) error {
	if answer == nil {
		return nil
	}
	outcome, err := c.read(ctx, answer)
	if err == nil {
		return nil
	}
	for _, call := range calls {
		for i := range call.outcomes {
			if call.outcomes[i].Settled() {
				call.outcomes[i] = outcome
			}
		}
	}
	return err
}

func (c Confirm) read(ctx context.Context, answer *redis.Cmd) (Outcome, error) {
	// The reply before the error: when a connection breaks, the client puts the error on replies that it had read as well.
	local, replicas := int64(1), int64(0)
	switch reply := answer.Val().(type) {
	case int64:
		replicas = reply
	case []any:
		if len(reply) != 2 {
			return OutcomeUnknown, fmt.Errorf("%w: a confirmation of %d numbers", ErrUnexpected, len(reply))
		}
		local, _ = reply[0].(int64)
		replicas, _ = reply[1].(int64)
	default:
		if err := answer.Err(); err != nil {
			return OutcomeUnknown, classify(ctx, err)
		}
		return OutcomeUnknown, fmt.Errorf("%w: a confirmation that is %T", ErrUnexpected, reply)
	}
	if replicas < int64(c.Replicas) || local < 1 {
		return OutcomeUnconfirmed, fmt.Errorf("%w: %d of %d replicas%s", ErrUnconfirmed, replicas, c.Replicas, map[bool]string{true: ", and not its own disk"}[local < 1])
	}
	return OutcomeApplied, nil
}
