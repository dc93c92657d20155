package rediscache

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/quiescehq/quiesce/mapping"
)

// call is one run of a script over some of a batch's keys.
type call struct {
	keys     int
	names    []any // KEYS: data, guard, data, guard, …
	values   []any // ARGV
	bytes    int
	outcomes []Outcome // filled when the reply was read
	reply    *redis.Cmd
}

func (c *call) full(more int) bool {
	return c.keys == scriptKeysMax || c.keys > 0 && c.bytes+more > scriptBytesMax
}

func (b *Batch) applyCalls(writes []Guarded) []*call {
	header := b.applyHeader()
	var calls []*call
	var current *call
	for i := range writes {
		size := writeBytes(&writes[i].Write)
		if current == nil || current.full(size) {
			current = &call{values: append([]any(nil), header...)}
			calls = append(calls, current)
		}
		current.add(writes[i], size)
	}
	return calls
}

func (b *Batch) invalidateCalls(pairs []KeyPair) []*call {
	var calls []*call
	var current *call
	for _, pair := range pairs {
		if current == nil || current.full(0) {
			current = &call{values: []any{b.target.config.GuardTTL.Milliseconds()}}
			calls = append(calls, current)
		}
		current.keys++
		current.names = append(current.names, pair.Key, pair.Guard)
	}
	return calls
}

func (c *call) add(guarded Guarded, size int) {
	write := guarded.Write
	c.keys++
	c.bytes += size
	c.names = append(c.names, write.Key, write.Guard)
	token := formatToken(guarded.Token)
	switch write.Op {
	case mapping.OpSet:
		c.values = append(c.values, token, scriptSet, write.TTLMillis, 1, 0, write.Value)
	case mapping.OpHash:
		c.addHash(token, write)
	case mapping.OpDel:
		c.values = append(c.values, token, scriptDel, 0, 0, 0)
	}
}

func (c *call) addHash(token string, write mapping.Write) {
	nulls := 0
	for i := range write.Fields {
		if write.Fields[i].Null {
			nulls++
		}
	}
	c.values = append(c.values, token, scriptHash, write.TTLMillis, 2*(len(write.Fields)-nulls), nulls)
	for _, field := range write.Fields {
		if !field.Null {
			c.values = append(c.values, field.Name, field.Value)
		}
	}
	for _, field := range write.Fields {
		if field.Null {
			c.values = append(c.values, field.Name)
		}
	}
}

func writeBytes(write *mapping.Write) int {
	size := len(write.Key) + len(write.Guard) + len(write.Value)
	for i := range write.Fields {
		size += len(write.Fields[i].Name) + len(write.Fields[i].Value)
	}
	return size
}

// eval sends all calls in one pipeline and reads their replies. Calls that the server refused for want of the script are sent once more
// on the same connection, behind the script itself; whoever flushes scripts faster than that gets ErrSnooze.
func (b *Batch) eval(ctx context.Context, what string, s script, calls []*call) error {
	if b.over != nil {
		return b.over
	}
	if len(calls) == 0 {
		return nil
	}
	err := b.send(ctx, s, calls, false)
	if errors.Is(err, errNoScript) {
		err = b.send(ctx, s, unanswered(calls), true)
	}
	if errors.Is(err, errNoScript) {
		err = fmt.Errorf("%w: %w", ErrSnooze, err)
	}
	if err != nil {
		b.over = fmt.Errorf("redis target %q: %s: %w: %w", b.target.config.Name, what, ErrBatchOver, err)
		return b.over
	}
	return nil
}

// send reads every reply that came, whatever happened to the others. It returns errNoScript only where nothing worse happened, so that eval
// repeats calls on a sound connection alone.
func (b *Batch) send(ctx context.Context, s script, calls []*call, load bool) error {
	if err := ctx.Err(); err != nil {
		return err // the client looks at the context's deadline only
	}
	pipe := b.conn.Pipeline()
	var loaded *redis.StringCmd
	if load {
		loaded = pipe.ScriptLoad(ctx, s.source)
	}
	for _, call := range calls {
		call.reply = redis.NewCmd(ctx, call.command(s)...)
		_ = pipe.Process(ctx, call.reply) // it only queues
	}
	_, _ = pipe.Exec(ctx) // every error is also on a reply
	var worst error
	for _, call := range calls {
		if err := call.read(ctx); err != nil && (worst == nil || errors.Is(worst, errNoScript)) {
			worst = err
		}
	}
	if loaded != nil && loaded.Err() != nil && errors.Is(worst, errNoScript) {
		return classify(ctx, loaded.Err()) // why it is still forgotten
	}
	return worst
}

func (c *call) command(s script) []any {
	args := make([]any, 0, 3+len(c.names)+len(c.values))
	args = append(args, "evalsha", s.sha, len(c.names))
	args = append(args, c.names...)
	return append(args, c.values...)
}

// read takes the reply before the error: when a connection breaks in the middle, the client puts the error on the replies that it had read
// as well. It leaves no list behind of a reply that it read in part.
func (c *call) read(ctx context.Context) error {
	codes, _ := c.reply.Val().([]any)
	if len(codes) != c.keys {
		if err := c.reply.Err(); err != nil {
			return classify(ctx, err)
		}
		return fmt.Errorf("%w: %d outcomes for %d keys", ErrUnexpected, len(codes), c.keys)
	}
	outcomes := make([]Outcome, c.keys)
	for i, code := range codes {
		number, isNumber := code.(int64)
		outcome, known := scriptOutcomes[number]
		if !isNumber || !known {
			return fmt.Errorf("%w: the script returned %v", ErrUnexpected, code)
		}
		outcomes[i] = outcome
	}
	c.outcomes = outcomes
	return nil
}

func unanswered(calls []*call) []*call {
	var left []*call
	for _, call := range calls {
		if call.outcomes == nil {
			left = append(left, call)
		}
	}
	return left
}
