package rediscache

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/quiescehq/quiesce/mapping"
)

// call is one run of a script over some of a part's keys, all of one slot in a cluster. Its arguments are addresses of what the caller handed over, where the client takes those:
// a value in an interface is an allocation, and a thousand keys have eight thousand.
type call struct {
	first    int // in the part's share
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

func (p *part) applyCalls(writes []Guarded, own share) []*call {
	header := p.applyHeader()
	var calls []*call
	var current *call
	for i := range own.n {
		guarded := &writes[own.index(i)]
		size := writeBytes(&guarded.Write)
		if current == nil || current.full(size) || own.splits(i) {
			current = newCall(i, min(own.n-i, scriptKeysMax), header)
			calls = append(calls, current)
		}
		current.add(guarded, size)
	}
	return calls
}

// newCall has room for so many keys with a string each.
func newCall(first, keys int, header []any) *call {
	return &call{first: first, names: make([]any, 0, 2*keys), values: append(make([]any, 0, len(header)+valuesOfString*keys), header...)}
}

// valuesOfString is what the script takes of a string: token, op, TTL, how many values and removed fields, the value.
const valuesOfString = 6

func (p *part) applyHeader() []any {
	begin, config := p.beginMillis, &p.target.config
	touch := 0
	if config.Confirm.wanted() {
		touch = 1
	}
	return []any{
		begin,
		begin + config.Deadline.Milliseconds(),
		begin + (time.Since(p.began) - clockSlack).Milliseconds(),
		config.GuardTTL.Milliseconds(),
		touch,
	}
}

func (p *part) invalidateCalls(pairs []KeyPair, own share) []*call {
	var calls []*call
	var current *call
	for i := range own.n {
		if current == nil || current.full(0) || own.splits(i) {
			current = newCall(i, min(own.n-i, scriptKeysMax), []any{p.target.config.GuardTTL.Milliseconds()})
			calls = append(calls, current)
		}
		pair := &pairs[own.index(i)]
		current.keys++
		current.names = append(current.names, &pair.Key, &pair.Guard)
	}
	return calls
}

func (c *call) add(guarded *Guarded, size int) {
	write := &guarded.Write
	c.keys++
	c.bytes += size
	c.names = append(c.names, &write.Key, &write.Guard)
	op := scriptOpArgs[write.Op]
	if write.Replace {
		op = scriptReplaceArgs[write.Op]
	}
	switch write.Op {
	case mapping.OpSet, mapping.OpSetIfPresent:
		c.values = append(c.values, &guarded.Token, op, &write.TTLMillis, 1, 0, write.Value)
	case mapping.OpHash, mapping.OpHashIfPresent:
		c.addHash(&guarded.Token, op, write)
	case mapping.OpDelFields:
		c.values = append(c.values, &guarded.Token, op, 0, 0, len(write.Fields))
		for i := range write.Fields {
			c.values = append(c.values, &write.Fields[i].Name)
		}
	default:
		c.values = append(c.values, &guarded.Token, op, 0, 0, 0)
	}
}

func (c *call) addHash(token *uint64, op any, write *mapping.Write) {
	nulls := 0
	for i := range write.Fields {
		if write.Fields[i].Null {
			nulls++
		}
	}
	c.values = append(c.values, token, op, &write.TTLMillis, 2*(len(write.Fields)-nulls), nulls)
	for i := range write.Fields {
		if field := &write.Fields[i]; !field.Null {
			c.values = append(c.values, &field.Name, field.Value)
		}
	}
	for i := range write.Fields {
		if field := &write.Fields[i]; field.Null {
			c.values = append(c.values, &field.Name)
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
