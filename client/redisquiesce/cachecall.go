package redisquiesce

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// scriptCall is a script's keys and arguments.
type scriptCall struct {
	keys []string
	args []any
}

// answer is what a script answered: a word, and a text or a number with it.
type answer struct {
	word, text string
	n          int64
	err        error
}

// calls makes one call of each key, with the same arguments.
func (c *Cache) calls(keys []string, args ...any) ([]scriptCall, error) {
	all := make([]scriptCall, len(keys))
	for i, key := range keys {
		guard, err := guardOf(c.o.guardPrefix, key)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", key, err)
		}
		all[i] = scriptCall{keys: []string{key, guard}, args: args}
	}
	return all, nil
}

func (c *Cache) run(ctx context.Context, script *redis.Script, call scriptCall) answer {
	return read(script.Run(ctx, c.client, call.keys, call.args...))
}

// pipelineMax bounds the calls that are sent at once.
const pipelineMax = 100

// runMany sends calls together, each by itself: in a cluster the keys are in different places. A server that does not know the script is told it.
func (c *Cache) runMany(ctx context.Context, script *redis.Script, calls []scriptCall) []answer {
	answers := make([]answer, 0, len(calls))
	for len(calls) > 0 {
		n := min(len(calls), pipelineMax)
		answers, calls = append(answers, c.runSome(ctx, script, calls[:n])...), calls[n:]
	}
	return answers
}

func (c *Cache) runSome(ctx context.Context, script *redis.Script, calls []scriptCall) []answer {
	commands := make([]*redis.Cmd, len(calls))
	_, _ = c.client.Pipelined(ctx, func(p redis.Pipeliner) error { // each command has its own error
		for i, call := range calls {
			commands[i] = script.EvalSha(ctx, p, call.keys, call.args...)
		}
		return nil
	})
	answers := make([]answer, len(calls))
	for i, command := range commands {
		if redis.HasErrorPrefix(command.Err(), "NOSCRIPT") {
			command = script.Eval(ctx, c.client, calls[i].keys, calls[i].args...)
		}
		answers[i] = read(command)
	}
	return answers
}

func read(command *redis.Cmd) answer {
	parts, err := command.Slice()
	if err != nil {
		return answer{err: err}
	}
	var a answer
	if len(parts) > 0 {
		a.word, _ = parts[0].(string)
	}
	if len(parts) > 1 {
		a.text, _ = parts[1].(string)
		a.n, _ = parts[1].(int64)
	}
	switch a.word {
	case wordHit, wordBehind, wordWait, wordLease, wordFilled, wordRefused, wordReleased, wordInvalidated:
	case wordForeign:
		a.err = ErrForeign
	default:
		a.err = errAnswer
	}
	return a
}
