package redisquiesce

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/quiescehq/quiesce/client"
)

// BlockMax is how long Redis is asked to block at once: a reader must be able to end within the phase consumers, which has a second at the
// default grace, and less at a shorter one.
const BlockMax = 250 * time.Millisecond

const idlePoll = 5 * time.Millisecond

// ErrInUse says that a client was closed over commands that were under way.
var ErrInUse = errors.New("commands are under way")

// Attach makes a client of any kind end with the instance: commands are counted, reads that block are cut into short ones, and the client
// is closed in the phase close, after the locks were given back and the HTTP servers closed. Nothing is refused before: flush tasks write
// to Redis. Attach it once, before it is used.
//
// A command that blocks, such as BLPOP or XREAD BLOCK, is sent to Redis for at most BlockMax, again and again until its own time is up.
// Between two rounds it ends when its context ends, which go-redis alone does not see before Redis answers; and once the instance takes no
// new work ([client.App.Context]) it ends with redis.Nil, as if its time had been up. An XREAD from $ is sent with the id that this means
// at its first round, so that nothing is missed between two. What is in a pipeline is left as it is.
func Attach(app *client.App, rdb redis.UniversalClient) error {
	h := &hook{app: app, rdb: rdb}
	if err := app.On(client.PhaseClose, "redis", h.end, client.After(client.TaskServers)); err != nil {
		return fmt.Errorf("attach redis: %w", err)
	}
	app.Counter("redis_in_flight", func() uint64 { return uint64(max(h.inFlight.Load(), 0)) })
	rdb.AddHook(h)
	return nil
}

// hook is what go-redis calls around each command. A client of a cluster calls it for the command, and not again for its parts.
type hook struct {
	app      *client.App
	rdb      redis.UniversalClient
	inFlight atomic.Int64
}

func (h *hook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.inFlight.Add(1)
		defer h.inFlight.Add(-1)
		if b, blocks := blockOf(cmd); blocks {
			return h.inRounds(ctx, cmd, b, next)
		}
		return next(ctx, cmd)
	}
}

func (h *hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.inFlight.Add(1)
		defer h.inFlight.Add(-1)
		return next(ctx, cmds)
	}
}

// inRounds asks for a short while at a time.
func (h *hook) inRounds(ctx context.Context, cmd redis.Cmder, b block, next redis.ProcessHook) error {
	if err := h.fixLast(ctx, cmd); err != nil {
		cmd.SetErr(err)
		return err
	}
	deadline := time.Now().Add(b.wait)
	for {
		if ctx.Err() != nil {
			cmd.SetErr(context.Cause(ctx))
			return context.Cause(ctx)
		}
		round := BlockMax
		if b.wait > 0 {
			round = min(round, max(time.Until(deadline), time.Millisecond))
		}
		b.set(cmd, round)
		err := next(ctx, cmd)
		over := b.wait > 0 && time.Until(deadline) <= 0
		if !errors.Is(err, redis.Nil) || over || h.app.Context().Err() != nil {
			return err
		}
		cmd.SetErr(nil)
	}
}

// end waits for the commands under way and closes the client.
func (h *hook) end(ctx context.Context) error {
	var left error
	if n := h.drain(ctx); n > 0 {
		left = fmt.Errorf("redis: %w: %d", ErrInUse, n)
	}
	err := h.rdb.Close()
	if errors.Is(err, redis.ErrClosed) { // the application was first
		err = nil
	}
	return errors.Join(left, err)
}

func (h *hook) drain(ctx context.Context) int64 {
	ticker := time.NewTicker(idlePoll)
	defer ticker.Stop()
	for {
		n := h.inFlight.Load()
		if n == 0 {
			return 0
		}
		select {
		case <-ctx.Done():
			return n
		case <-ticker.C:
		}
	}
}
