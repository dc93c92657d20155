package redisquiesce

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/quiescehq/quiesce/client/fence"
)

const (
	// HashFieldsMax bounds one HSet: a script can hand on only so many arguments, and blocks every other client while it runs.
	HashFieldsMax = 1_000
	// KeyBytesMax bounds keys.
	KeyBytesMax = 1_024
)

var (
	// ErrKey says that a key cannot be guarded.
	ErrKey = errors.New("invalid key")
	// ErrValue says that an argument is out of its bounds.
	ErrValue = errors.New("invalid argument")
	// ErrGuard says that the guard's key holds what no Fence has written.
	ErrGuard = errors.New("the guard holds no token")
)

// Fence guards keys by tokens. Make one with NewFence.
type Fence struct {
	client   redis.UniversalClient
	guardTTL time.Duration
}

// Option changes how a Fence guards.
type Option func(*Fence)

// GuardTTL lets guards expire this long after their last use; 0, the default, keeps them for ever. A writer that is away for longer is
// not refused.
func GuardTTL(d time.Duration) Option { return func(f *Fence) { f.guardTTL = max(d, 0) } }

// NewFence makes a Fence of a client of any kind. All writers of a key use the same options.
func NewFence(client redis.UniversalClient, options ...Option) *Fence {
	f := &Fence{client: client}
	for _, o := range options {
		o(f)
	}
	return f
}

// Advance shows a token to Redis without writing the key: from then on no holder with a lower one can. It is the first thing to do under a
// new lock, before reading. There is no check that leaves the guard alone: between it and the write an older holder could pass.
func (f *Fence) Advance(ctx context.Context, token uint64, key string) error {
	_, err := f.run(ctx, advance, token, key)
	return err
}

// Set is SET: it replaces whatever the key holds. A ttl of 0 means that the key does not expire; one below a millisecond is refused.
func (f *Fence) Set(ctx context.Context, token uint64, key string, value any, ttl time.Duration) error {
	if ttl < 0 || ttl > 0 && ttl < time.Millisecond {
		return fmt.Errorf("fence %q: %w: a ttl of %s", key, ErrValue, ttl)
	}
	_, err := f.run(ctx, set, token, key, value, ttl.Milliseconds())
	return err
}

// HSet is HSET: it writes these fields of a hash, and leaves the others and the key's expiry as they are.
func (f *Fence) HSet(ctx context.Context, token uint64, key string, fields map[string]any) error {
	if n := len(fields); n == 0 || n > HashFieldsMax {
		return fmt.Errorf("fence %q: %w: %d fields, not 1 to %d", key, ErrValue, n, HashFieldsMax)
	}
	arguments := make([]any, 0, 2*len(fields))
	for field, value := range fields {
		arguments = append(arguments, field, value)
	}
	_, err := f.run(ctx, hset, token, key, arguments...)
	return err
}

// Del removes the key, and tells whether it was there. The guard stays: it must refuse an older holder that would bring the key back.
func (f *Fence) Del(ctx context.Context, token uint64, key string) (bool, error) {
	removed, err := f.run(ctx, del, token, key)
	return removed == 1, err
}

// run calls a script, and answers what it answered beside its verdict.
func (f *Fence) run(ctx context.Context, script *redis.Script, token uint64, key string, arguments ...any) (int64, error) {
	guard, err := GuardKey(key)
	if err == nil {
		err = fence.CheckToken(token)
	}
	if err != nil {
		return 0, fmt.Errorf("fence %q: %w", key, err)
	}
	arguments = append([]any{token, f.guardTTL.Milliseconds()}, arguments...)
	answer, err := script.Run(ctx, f.client, []string{key, guard}, arguments...).Slice()
	if err != nil {
		return 0, fmt.Errorf("fence %q: %w", key, err)
	}
	n, err := verdict(answer, token)
	if err != nil {
		return 0, fmt.Errorf("fence %q: %w", key, err)
	}
	return n, nil
}

// verdict reads {"written", n} or {"fenced", token as text} or {"foreign"}.
func verdict(answer []any, token uint64) (int64, error) {
	var word, seen string
	var n int64
	if len(answer) > 0 {
		word, _ = answer[0].(string)
	}
	if len(answer) > 1 {
		n, _ = answer[1].(int64)
		seen, _ = answer[1].(string)
	}
	switch word {
	case "written":
		return n, nil
	case "fenced":
		stored, err := strconv.ParseUint(seen, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%w: %w", ErrGuard, err)
		}
		return 0, &fence.FencedError{Token: token, Seen: stored}
	}
	return 0, ErrGuard
}
