package rediscache

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// SweepKeysMax bounds the keys of one Unlink, and is how many keys a Scan has the server look at.
const SweepKeysMax = 500

// scanCallsMax bounds the calls of one Scan that find nothing.
const scanCallsMax = 20

// Sweep goes over the keys of a server, on one connection. It belongs to one goroutine, is over after an error, and must be closed.
//
// A cursor means something only within one life of a server: in the next its keys lie in another order. So it does not outlive [Sweep.Identity].
type Sweep struct {
	target   *Target
	conn     *redis.Conn
	identity Identity
	size     uint64 // keys at the beginning
	looked   uint64 // since the cursor was 0
}

// Scanned is a part of a server's keys.
type Scanned struct {
	Keys   []string // those that match, in no order; some may come twice in a pass
	Looked uint64   // keys that the server looked at, about
	Cursor uint64   // where the next part begins; 0 at the end
}

// BeginSweep takes one connection out of the pool. The caller closes the Sweep.
func (t *Target) BeginSweep(ctx context.Context) (*Sweep, error) {
	s := &Sweep{target: t, conn: t.client.Conn()}
	pipe := s.conn.Pipeline()
	info, size := pipeInfo(ctx, pipe), pipe.DBSize(ctx)
	if _, err := pipe.Exec(ctx); err != nil {
		s.Close()
		return nil, t.fail(ctx, "begin sweep", err)
	}
	s.identity, s.size = info.identity(), uint64(max(size.Val(), 0))
	switch {
	case s.identity.Role != RolePrimary:
		s.Close()
		return nil, fmt.Errorf("redis target %q: begin sweep: %w: its role is %q", t.config.Name, ErrNotPrimary, s.identity.Role)
	case s.identity.Loading:
		s.Close()
		return nil, fmt.Errorf("redis target %q: begin sweep: %w: it is loading its data", t.config.Name, ErrSnooze)
	}
	return s, nil
}

// Identity is the server's. The connection cannot outlive that life of the server.
func (s *Sweep) Identity() Identity { return s.identity }

// Close gives the connection back.
func (s *Sweep) Close() { _ = s.conn.Close() } // its errors are those of calls, which were reported

// Scan gives the next keys that match a pattern of SCAN MATCH, from a cursor, 0 at the start. It returns after the first keys that it finds,
// or after some 10,000 that it looked at. A key that is there from the first Scan of a pass to the last is found; any other may be. No key
// comes that does not begin with the literal beginning of the pattern, whatever the server says: see [LiteralPrefix].
func (s *Sweep) Scan(ctx context.Context, pattern string, cursor uint64) (Scanned, error) {
	prefix := LiteralPrefix(pattern)
	out := Scanned{Cursor: cursor}
	for range scanCallsMax {
		if err := ctx.Err(); err != nil {
			return Scanned{}, err // the client looks at the context's deadline only
		}
		keys, next, err := s.scan(ctx, pattern, out.Cursor)
		if err != nil {
			return Scanned{}, s.target.fail(ctx, "scan", err)
		}
		out.Looked += s.estimate(out.Cursor)
		for _, key := range keys {
			if strings.HasPrefix(key, prefix) {
				out.Keys = append(out.Keys, key)
			}
		}
		out.Cursor = next
		if next == 0 || len(out.Keys) > 0 {
			break
		}
	}
	return out, nil
}

func (s *Sweep) scan(ctx context.Context, pattern string, cursor uint64) ([]string, uint64, error) {
	// The client's own Scan takes the cursor for a signed number.
	reply, err := s.conn.Do(ctx, "scan", strconv.FormatUint(cursor, 10), "match", pattern, "count", SweepKeysMax).Slice()
	if err != nil {
		return nil, 0, err
	}
	if len(reply) != 2 {
		return nil, 0, fmt.Errorf("%w: %d parts of a scan", ErrUnexpected, len(reply))
	}
	text, isText := reply[0].(string)
	found, isList := reply[1].([]any)
	next, err := strconv.ParseUint(text, 10, 64)
	if !isText || !isList || err != nil {
		return nil, 0, fmt.Errorf("%w: a scan of %T and %T", ErrUnexpected, reply[0], reply[1])
	}
	keys := make([]string, 0, len(found))
	for _, f := range found {
		key, ok := f.(string)
		if !ok {
			return nil, 0, fmt.Errorf("%w: a key that is %T", ErrUnexpected, f)
		}
		keys = append(keys, key)
	}
	return keys, next, nil
}

// estimate is how many keys a call looked at. The server counts the places of its table, of which up to half are empty.
func (s *Sweep) estimate(cursor uint64) uint64 {
	if cursor == 0 {
		s.looked = 0
	}
	keys := min(SweepKeysMax, s.size-min(s.looked, s.size))
	s.looked += keys
	return keys
}

// Unlink removes keys in one pipeline of calls of SweepKeysMax, and tells how many were there. After an error some may be removed.
func (s *Sweep) Unlink(ctx context.Context, keys []string) (removed uint64, err error) {
	if len(keys) == 0 {
		return 0, nil
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	pipe := s.conn.Pipeline()
	var replies []*redis.IntCmd
	for len(keys) > 0 {
		some := keys[:min(len(keys), SweepKeysMax)]
		keys = keys[len(some):]
		replies = append(replies, pipe.Unlink(ctx, some...))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return 0, s.target.fail(ctx, "unlink", err)
	}
	for _, reply := range replies {
		removed += uint64(max(reply.Val(), 0))
	}
	return removed, nil
}

// LiteralPrefix is what every key that matches the pattern begins with: what stands before the first of *?[\.
func LiteralPrefix(pattern string) string {
	if at := strings.IndexAny(pattern, `*?[\`); at >= 0 {
		return pattern[:at]
	}
	return pattern
}
