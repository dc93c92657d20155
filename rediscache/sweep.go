package rediscache

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// SweepKeysMax bounds the keys of one Unlink, and is how many keys a Scan has the server look at.
const SweepKeysMax = 500

// scanCallsMax bounds the calls of one Scan that find nothing.
const scanCallsMax = 20

// cursorBits are those of one server's cursor where a target has many: a SCAN's cursor grows with the table of the server, not with the number of
// calls, and stays far below. The bits above hold which server it is of.
const cursorBits = 48

// Sweep goes over the keys of a target, one server after another, on one connection to each. It belongs to one goroutine, is over after an error,
// and must be closed.
//
// A cursor means something only within one life of the target: in the next its keys lie in another order. So it does not outlive the Life of
// [Sweep.Identity].
type Sweep struct {
	target   *Target
	layout   *layout
	conns    []*redis.Conn // by the layout's nodes
	sizes    []uint64      // keys at the beginning
	identity Identity
	looked   uint64 // since the server's cursor was 0
}

// Scanned is a part of a target's keys.
type Scanned struct {
	Keys   []string // those that match, in no order; some may come twice in a pass
	Looked uint64   // keys that the server looked at, about
	Cursor uint64   // where the next part begins; 0 at the end
	Life   string   // of the target; a cursor holds for one Life
}

// BeginSweep takes one connection to every server out of the pools. The caller closes the Sweep.
func (t *Target) BeginSweep(ctx context.Context) (*Sweep, error) {
	l, err := t.fleet.layout(ctx)
	if err != nil {
		return nil, t.fail(ctx, "begin sweep", err)
	}
	s := &Sweep{target: t, layout: l, conns: make([]*redis.Conn, len(l.nodes)), sizes: make([]uint64, len(l.nodes))}
	for at, n := range l.nodes {
		s.conns[at] = n.client.Conn()
	}
	servers := make([]Server, len(l.nodes))
	if err := atOnce(len(l.nodes), func(at int) (err error) {
		servers[at], s.sizes[at], err = s.introduce(ctx, at)
		return err
	}); err != nil {
		s.Close()
		return nil, s.fail(ctx, "begin sweep", err)
	}
	s.identity = t.identify(l, servers)
	return s, nil
}

func (s *Sweep) introduce(ctx context.Context, at int) (server Server, size uint64, err error) {
	pipe := s.conns[at].Pipeline()
	portrait, count := pipeServer(ctx, pipe), pipe.DBSize(ctx)
	if _, err := pipe.Exec(ctx); err != nil {
		return Server{}, 0, err
	}
	server = portrait.server(s.layout.nodes[at].addr)
	switch {
	case server.Role != RolePrimary:
		err = fmt.Errorf("%w: its role is %q", ErrNotPrimary, server.Role)
	case server.Loading:
		err = fmt.Errorf("%w: it is loading its data", ErrSnooze)
	}
	return server, uint64(max(count.Val(), 0)), err
}

func (s *Sweep) fail(ctx context.Context, what string, err error) error {
	s.target.fleet.doubt(s.layout)
	return s.target.fail(ctx, what, err)
}

// Identity is the target's. The connections cannot outlive that life of their servers.
func (s *Sweep) Identity() Identity { return s.identity }

// Close gives the connections back.
func (s *Sweep) Close() {
	for _, conn := range s.conns {
		_ = conn.Close() // its errors are those of calls, which were reported
	}
}

// Scan is one part of a pass over the target's keys without a Sweep that lives from call to call; see [Sweep.Scan]. The caller begins anew
// when the Life that comes back is another one than that of its cursor.
func (t *Target) Scan(ctx context.Context, cursor uint64, match string) (Scanned, error) {
	s, err := t.BeginSweep(ctx)
	if err != nil {
		return Scanned{}, err
	}
	defer s.Close()
	return s.Scan(ctx, match, cursor)
}

// Scan gives the next keys that match a pattern of SCAN MATCH, from a cursor, 0 at the start. It returns after the first keys that it finds,
// or after some 10,000 that it looked at. A key that is there from the first Scan of a pass to the last is found; any other may be. No key
// comes that does not begin with the literal beginning of the pattern, whatever the server says: see [LiteralPrefix].
//
// A slot that moves may take keys from where a pass has not been to where it was: in a cluster, Scan fails with ErrNotPrimary then.
func (s *Sweep) Scan(ctx context.Context, pattern string, cursor uint64) (Scanned, error) {
	at, own, err := s.split(cursor)
	if err != nil {
		return Scanned{}, s.fail(ctx, "scan", err)
	}
	prefix := LiteralPrefix(pattern)
	out := Scanned{Life: s.identity.Life}
	for range scanCallsMax {
		if err := ctx.Err(); err != nil {
			return Scanned{}, err // the client looks at the context's deadline only
		}
		keys, next, err := s.scan(ctx, at, pattern, own)
		if err != nil {
			return Scanned{}, s.fail(ctx, "scan", err)
		}
		out.Looked += s.estimate(at, own)
		for _, key := range keys {
			if strings.HasPrefix(key, prefix) {
				out.Keys = append(out.Keys, key)
			}
		}
		if own = next; own == 0 || len(out.Keys) > 0 {
			break
		}
	}
	if own == 0 {
		if err := s.unmoved(ctx); err != nil {
			return Scanned{}, s.fail(ctx, "scan", err)
		}
		at++
	}
	out.Cursor, err = s.join(at, own)
	if err != nil {
		return Scanned{}, s.fail(ctx, "scan", err)
	}
	return out, nil
}

// split finds the server of a cursor and its own cursor. With one server they are the same.
func (s *Sweep) split(cursor uint64) (at int, own uint64, err error) {
	if len(s.conns) == 1 {
		return 0, cursor, nil
	}
	at, own = int(cursor>>cursorBits), cursor&(1<<cursorBits-1)
	if at >= len(s.conns) {
		return 0, 0, fmt.Errorf("%w: a cursor of server %d of %d", ErrInvalid, at+1, len(s.conns))
	}
	return at, own, nil
}

func (s *Sweep) join(at int, own uint64) (uint64, error) {
	switch {
	case at == len(s.conns):
		return 0, nil
	case len(s.conns) == 1:
		return own, nil
	case own>>cursorBits != 0:
		return 0, fmt.Errorf("%w: a server's cursor %d takes more than %d bits", ErrUnexpected, own, cursorBits)
	}
	return uint64(at)<<cursorBits | own, nil
}

// unmoved asks whether the slots are where they were when the Sweep began.
func (s *Sweep) unmoved(ctx context.Context) error {
	if s.layout.owner == nil {
		return nil
	}
	now, err := s.target.fleet.askCluster(ctx)
	if err != nil {
		return err
	}
	if !now.same(s.layout) {
		return fmt.Errorf("%w: slots have moved", ErrNotPrimary)
	}
	return nil
}

func (s *Sweep) scan(ctx context.Context, at int, pattern string, cursor uint64) ([]string, uint64, error) {
	// The client's own Scan takes the cursor for a signed number.
	reply, err := s.conns[at].Do(ctx, "scan", strconv.FormatUint(cursor, 10), "match", pattern, "count", SweepKeysMax).Slice()
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
func (s *Sweep) estimate(at int, cursor uint64) uint64 {
	if cursor == 0 {
		s.looked = 0
	}
	keys := min(SweepKeysMax, s.sizes[at]-min(s.looked, s.sizes[at]))
	s.looked += keys
	return keys
}

// Unlink removes keys in one pipeline a server, of calls of SweepKeysMax, or of one slot in a cluster. It tells how many were there. After an
// error some may be removed.
func (s *Sweep) Unlink(ctx context.Context, keys []string) (removed uint64, err error) {
	if len(keys) == 0 {
		return 0, nil
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	pipes := make([]redis.Pipeliner, len(s.conns))
	var replies []*redis.IntCmd
	for _, some := range s.bundles(keys) {
		at, err := s.layout.nodeOf(some.slot)
		if err != nil {
			return 0, s.fail(ctx, "unlink", err)
		}
		if pipes[at] == nil {
			pipes[at] = s.conns[at].Pipeline()
		}
		replies = append(replies, pipes[at].Unlink(ctx, some.keys...))
	}
	if err := atOnce(len(pipes), func(at int) (err error) {
		if pipes[at] != nil {
			_, err = pipes[at].Exec(ctx)
		}
		return err
	}); err != nil {
		return 0, s.fail(ctx, "unlink", err)
	}
	for _, reply := range replies {
		removed += uint64(max(reply.Val(), 0))
	}
	return removed, nil
}

// bundle is what one call of UNLINK takes.
type bundle struct {
	slot uint16
	keys []string
}

func (s *Sweep) bundles(keys []string) []bundle {
	var out []bundle
	add := func(slot uint16, keys []string) {
		for some := range slices.Chunk(keys, SweepKeysMax) {
			out = append(out, bundle{slot: slot, keys: some})
		}
	}
	if s.layout.owner == nil {
		add(0, keys)
		return out
	}
	bySlot := map[uint16][]string{}
	for _, key := range keys {
		bySlot[slotOf(key)] = append(bySlot[slotOf(key)], key)
	}
	for slot, own := range bySlot {
		add(slot, own)
	}
	return out
}

// LiteralPrefix is what every key that matches the pattern begins with: what stands before the first of *?[\.
func LiteralPrefix(pattern string) string {
	if at := strings.IndexAny(pattern, `*?[\`); at >= 0 {
		return pattern[:at]
	}
	return pattern
}
