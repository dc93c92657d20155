package rediscache

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/quiescehq/quiesce/mapping"
)

// Batch is one begin-read-apply round on one connection: Begin, then read the rows, then Apply. It belongs to one goroutine.
type Batch struct {
	target   *Target
	conn     *redis.Conn
	identity Identity

	beginMillis int64     // the server's clock at Begin
	began       time.Time // ours, not before the server's
	over        error     // why nothing more may be sent
}

// Guarded is one write and the token that orders it. Tokens start at 1.
type Guarded struct {
	Token uint64
	Write mapping.Write
}

// KeyPair is a data key with its guard.
type KeyPair struct {
	Key   string
	Guard string
}

// Begin takes one connection out of the pool for every server that the keys live on, for all without keys, and reads the server's clock on it. Rows read after Begin returns may be applied with this
// Batch, rows read before may not. The caller closes the Batch.
func (t *Target) Begin(ctx context.Context, keys []string) (*Batch, error) {
	batch := &Batch{target: t, conn: t.client.Conn()}
	if err := batch.start(ctx); err != nil {
		batch.Close()
		return nil, err
	}
	return batch, nil
}

// start asks for the clock first: every later moment of the server is then later than beginMillis.
func (b *Batch) start(ctx context.Context) error {
	pipe := b.conn.Pipeline()
	clock := pipe.Time(ctx)
	info := pipeInfo(ctx, pipe)
	if _, err := pipe.Exec(ctx); err != nil {
		return b.target.fail(ctx, "begin", err)
	}
	b.began = time.Now()
	b.beginMillis = clock.Val().UnixMilli()
	b.identity = info.identity()
	switch {
	case b.identity.Role != RolePrimary:
		return fmt.Errorf("redis target %q: begin: %w: its role is %q", b.target.config.Name, ErrNotPrimary, b.identity.Role)
	case b.identity.Loading:
		return fmt.Errorf("redis target %q: begin: %w: it is loading its data", b.target.config.Name, ErrSnooze)
	}
	return nil
}

// Identity is the server's, at Begin. The connection cannot outlive that life of the server.
func (b *Batch) Identity() Identity { return b.identity }

// Apply writes what the guards allow, at most 1,000 keys. The outcomes stand in the order of writes, also beside an error: those that were
// read before it are final. After an error, except ErrInvalid, the Batch is over. Where writes share a key the greatest token wins, in
// whatever order they run.
func (b *Batch) Apply(ctx context.Context, writes []Guarded) ([]Outcome, error) {
	outcomes := make([]Outcome, len(writes))
	if err := validateWrites(writes); err != nil {
		return outcomes, fmt.Errorf("redis target %q: apply: %w", b.target.config.Name, err)
	}
	calls := b.applyCalls(writes)
	err := b.eval(ctx, "apply", b.target.apply, calls)
	at := 0
	for _, call := range calls {
		copy(outcomes[at:at+call.keys], call.outcomes)
		at += call.keys
	}
	return outcomes, err
}

// Invalidate removes the data keys, at most 1,000, and refuses every write whose Begin was earlier. Errors are those of Apply; it may be
// repeated at will.
func (b *Batch) Invalidate(ctx context.Context, pairs []KeyPair) error {
	if err := validatePairs(pairs); err != nil {
		return fmt.Errorf("redis target %q: invalidate: %w", b.target.config.Name, err)
	}
	return b.eval(ctx, "invalidate", b.target.invalidate, b.invalidateCalls(pairs))
}

// Close gives the connection back to the pool, or discards it when replies may still be under way. It may be called twice.
func (b *Batch) Close() {
	if b.over == nil {
		b.over = fmt.Errorf("%w: it was closed", ErrBatchOver)
	}
	// The error is ErrClosed of a second call, or of a connection that is discarded just then.
	_ = b.conn.Close()
}

func (b *Batch) applyHeader() []any {
	begin, config := b.beginMillis, b.target.config
	return []any{
		begin,
		begin + config.Deadline.Milliseconds(),
		begin + (time.Since(b.began) - clockSlack).Milliseconds(),
		config.GuardTTL.Milliseconds(),
	}
}

func validateWrites(writes []Guarded) error {
	if len(writes) > batchKeysMax {
		return fmt.Errorf("%w: %d keys, at most %d", ErrInvalid, len(writes), batchKeysMax)
	}
	for i := range writes {
		write := &writes[i].Write
		if err := validatePair(KeyPair{Key: write.Key, Guard: write.Guard}); err != nil {
			return err
		}
		switch {
		case writes[i].Token == 0:
			return fmt.Errorf("%w: key %q has no token", ErrInvalid, write.Key)
		case write.Op < mapping.OpSet || write.Op > mapping.OpDel:
			return fmt.Errorf("%w: key %q has operation %d", ErrInvalid, write.Key, write.Op)
		case write.TTLMillis < 0:
			return fmt.Errorf("%w: key %q has TTL %d ms", ErrInvalid, write.Key, write.TTLMillis)
		case len(write.Fields) > fieldsMax:
			return fmt.Errorf("%w: key %q has %d fields, at most %d", ErrInvalid, write.Key, len(write.Fields), fieldsMax)
		}
	}
	return nil
}

func validatePairs(pairs []KeyPair) error {
	if len(pairs) > batchKeysMax {
		return fmt.Errorf("%w: %d keys, at most %d", ErrInvalid, len(pairs), batchKeysMax)
	}
	for _, pair := range pairs {
		if err := validatePair(pair); err != nil {
			return err
		}
	}
	return nil
}

func validatePair(pair KeyPair) error {
	if pair.Key == "" || pair.Guard == "" || pair.Key == pair.Guard {
		return fmt.Errorf("%w: key %q with guard %q: two different names are needed", ErrInvalid, pair.Key, pair.Guard)
	}
	return nil
}

func formatToken(token uint64) string { return strconv.FormatUint(token, 10) }
