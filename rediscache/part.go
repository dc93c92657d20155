package rediscache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// part is the share of one server in a Batch: one connection, its clock, and what is left to do with it.
type part struct {
	target *Target
	layout *layout
	node   *node
	conn   *redis.Conn
	server Server

	beginMillis int64     // the server's clock at Begin
	began       time.Time // ours, not before the server's
	over        error     // why nothing more may be sent
}

func (t *Target) newPart(l *layout, at int) *part {
	return &part{target: t, layout: l, node: l.nodes[at], conn: l.nodes[at].client.Conn()}
}

// start reads the clock and asks the server whether it is the primary, on the connection itself: who told us may be wrong.
func (p *part) start(ctx context.Context) error {
	err := p.introduce(ctx)
	if err == nil {
		return nil
	}
	p.target.fleet.doubt(p.layout)
	err = fmt.Errorf("redis target %q: begin: %w", p.target.config.Name, err)
	p.over = fmt.Errorf("%w: %w", ErrBatchOver, err)
	return err
}

func (p *part) introduce(ctx context.Context) error {
	pipe := p.conn.Pipeline()
	portrait := pipeServer(ctx, pipe)
	if _, err := pipe.Exec(ctx); err != nil {
		return classify(ctx, err)
	}
	p.began = time.Now()
	p.beginMillis = portrait.clock.Val().UnixMilli()
	p.server = portrait.server(p.node.addr)
	switch {
	case p.server.Role != RolePrimary:
		return fmt.Errorf("%w: its role is %q", ErrNotPrimary, p.server.Role)
	case p.server.Loading:
		return fmt.Errorf("%w: it is loading its data", ErrSnooze)
	}
	if err := p.node.addDisk(ctx, p.conn, &p.server); err != nil {
		return classify(ctx, err)
	}
	return p.target.config.Confirm.possible(p.server)
}

func (p *part) close() {
	if p.over == nil {
		p.over = fmt.Errorf("%w: it was closed", ErrBatchOver)
	}
	// The error is ErrClosed of a second call, or of a connection that is discarded just then.
	_ = p.conn.Close()
}

// eval sends all calls in one pipeline and reads their replies. Calls that the server refused for want of the script are sent once more
// on the same connection, behind the script itself; whoever flushes scripts faster than that gets ErrSnooze.
func (p *part) eval(ctx context.Context, what string, s script, calls []*call) error {
	if p.over != nil {
		return p.over
	}
	if len(calls) == 0 {
		return nil
	}
	err := p.send(ctx, s, calls, false)
	if errors.Is(err, errNoScript) {
		err = p.send(ctx, s, unanswered(calls), true)
	}
	if errors.Is(err, errNoScript) {
		err = fmt.Errorf("%w: %w", ErrSnooze, err)
	}
	if err != nil {
		p.target.fleet.doubt(p.layout)
		p.over = fmt.Errorf("redis target %q: %s: %w: %w", p.target.config.Name, what, ErrBatchOver, err)
		return p.over
	}
	return nil
}

// send reads every reply that came, whatever happened to the others. It returns errNoScript only where nothing worse happened, so that eval
// repeats calls on a sound connection alone.
func (p *part) send(ctx context.Context, s script, calls []*call, load bool) error {
	if err := ctx.Err(); err != nil {
		return err // the client looks at the context's deadline only
	}
	pipe := p.conn.Pipeline()
	var loaded *redis.StringCmd
	if load {
		loaded = pipe.ScriptLoad(ctx, s.source)
	}
	for _, call := range calls {
		call.reply = redis.NewCmd(ctx, call.command(s)...)
		_ = pipe.Process(ctx, call.reply) // it only queues
	}
	confirmation := p.target.config.Confirm.queue(ctx, pipe)
	_, _ = pipe.Exec(ctx) // every error is also on a reply
	var worst error
	for _, call := range calls {
		if err := call.read(ctx); err != nil && (worst == nil || errors.Is(worst, errNoScript)) {
			worst = err
		}
	}
	if err := p.target.config.Confirm.check(ctx, confirmation, calls); err != nil && (worst == nil || errors.Is(worst, errNoScript)) {
		worst = err
	}
	if loaded != nil && loaded.Err() != nil && errors.Is(worst, errNoScript) {
		return classify(ctx, loaded.Err()) // why it is still forgotten
	}
	return worst
}
