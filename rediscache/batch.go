package rediscache

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/quiescehq/quiesce/mapping"
)

// Batch is one begin-read-apply round, on one connection for each server that its keys live on: Begin, then read the rows, then Apply. It belongs
// to one goroutine.
type Batch struct {
	target *Target
	layout *layout
	parts  []*part // by the layout's nodes; nil where no key lives
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

// Begin takes one connection out of the pool for every server that the keys live on, for all without keys, and reads the server's clock on it.
// Rows read after Begin returns may be applied with this Batch, rows read before may not. The caller closes the Batch.
//
// In a cluster a server that cannot serve costs only its own keys: Begin succeeds while one can, and Apply gives the others no outcome.
func (t *Target) Begin(ctx context.Context, keys []string) (*Batch, error) {
	if len(keys) > batchKeysMax {
		return nil, fmt.Errorf("redis target %q: begin: %w: %d keys, at most %d", t.config.Name, ErrInvalid, len(keys), batchKeysMax)
	}
	l, err := t.fleet.layout(ctx)
	if err != nil {
		return nil, t.fail(ctx, "begin", err)
	}
	batch := &Batch{target: t, layout: l, parts: make([]*part, len(l.nodes))}
	wanted, err := l.nodesOf(keys)
	if err != nil {
		t.fleet.doubt(l)
		return nil, t.fail(ctx, "begin", err)
	}
	for _, at := range wanted {
		batch.parts[at] = t.newPart(l, at)
	}
	sound := 0
	err = atOnce(len(wanted), func(i int) error { return batch.parts[wanted[i]].start(ctx) })
	for _, at := range wanted {
		if batch.parts[at].over == nil {
			sound++
		}
	}
	if sound == 0 {
		batch.Close()
		return nil, err
	}
	return batch, nil
}

// nodesOf are the nodes that the keys live on, in their order; all of them without keys. A key that lives nowhere is passed over as long as there
// are others: Apply gives it no outcome.
func (l *layout) nodesOf(keys []string) ([]int, error) {
	nodes := make([]int, 0, len(l.nodes))
	if len(keys) == 0 || l.owner == nil {
		for at := range l.nodes {
			nodes = append(nodes, at)
		}
		return nodes, nil
	}
	wanted := make([]bool, len(l.nodes))
	for _, key := range keys {
		if at, err := l.nodeOf(slotOf(key)); err == nil {
			wanted[at] = true
		}
	}
	for at := range wanted {
		if wanted[at] {
			nodes = append(nodes, at)
		}
	}
	if len(nodes) == 0 {
		return nil, errNoOwner
	}
	return nodes, nil
}

// Identity is that of the servers of this Batch, at Begin. The connections cannot outlive that life of theirs.
func (b *Batch) Identity() Identity {
	servers := make([]Server, len(b.parts))
	for at, p := range b.parts {
		if p != nil {
			servers[at] = p.server
		}
	}
	return b.target.identify(b.layout, servers)
}

// Apply writes what the guards allow, at most 1,000 keys, all on servers of the keys that Begin was told. The outcomes stand in the order of writes,
// also beside an error: those that were read before it are final. After an error, except ErrInvalid, the Batch is over for the keys of the
// server that failed, and for no others. Where writes share a key the greatest token wins, in whatever order they run.
func (b *Batch) Apply(ctx context.Context, writes []Guarded) ([]Outcome, error) {
	outcomes := make([]Outcome, len(writes))
	if err := b.validateWrites(writes); err != nil {
		return outcomes, fmt.Errorf("redis target %q: apply: %w", b.target.config.Name, err)
	}
	return outcomes, b.each(len(writes), func(i int) string { return writes[i].Write.Key }, func(p *part, own share) error {
		calls := p.applyCalls(writes, own)
		err := p.eval(ctx, "apply", b.target.apply, calls)
		for _, call := range calls {
			for i, outcome := range call.outcomes {
				outcomes[own.index(call.first+i)] = outcome
			}
		}
		return err
	})
}

// Invalidate removes the data keys, at most 1,000, and refuses every write whose Begin was earlier. Errors are those of Apply; it may be
// repeated at will.
func (b *Batch) Invalidate(ctx context.Context, pairs []KeyPair) error {
	if err := b.validatePairs(pairs); err != nil {
		return fmt.Errorf("redis target %q: invalidate: %w", b.target.config.Name, err)
	}
	return b.each(len(pairs), func(i int) string { return pairs[i].Key }, func(p *part, own share) error {
		return p.eval(ctx, "invalidate", b.target.invalidate, p.invalidateCalls(pairs, own))
	})
}

// share is what of a request one part has to do: indexes into the request with the slots of their keys, those of one slot side by side, because a
// script call of a cluster takes the keys of one slot only. Without indexes it is all of n, in its order.
type share struct {
	n     int
	at    []int
	slots []uint16
}

func (s share) index(i int) int {
	if s.at == nil {
		return i
	}
	return s.at[i]
}

// splits tells whether the keys i-1 and i may not go into one call.
func (s share) splits(i int) bool { return s.slots != nil && i > 0 && s.slots[i] != s.slots[i-1] }

// each gives every part its share, all of them side by side. The errors are those of all parts.
func (b *Batch) each(n int, key func(i int) string, do func(p *part, own share) error) error {
	if b.layout.owner == nil {
		return do(b.parts[0], share{n: n})
	}
	shares, missing := b.shares(n, key)
	faults := make([]error, len(shares), len(shares)+1)
	_ = atOnce(len(shares), func(at int) error {
		if shares[at].n > 0 {
			faults[at] = do(b.parts[at], shares[at])
		}
		return nil
	})
	if missing {
		b.target.fleet.doubt(b.layout)
		faults = append(faults, fmt.Errorf("redis target %q: %w: %w", b.target.config.Name, ErrBatchOver, errNoOwner))
	}
	return errors.Join(faults...)
}

func (b *Batch) shares(n int, key func(i int) string) (shares []share, missing bool) {
	slots := make([]uint16, n)
	shares = make([]share, len(b.parts))
	for i := range n {
		slots[i] = slotOf(key(i))
		at, err := b.layout.nodeOf(slots[i])
		if err != nil {
			missing = true
			continue
		}
		shares[at].n++
		shares[at].at = append(shares[at].at, i)
	}
	for at := range shares {
		own := &shares[at]
		slices.SortStableFunc(own.at, func(i, j int) int { return int(slots[i]) - int(slots[j]) })
		own.slots = make([]uint16, own.n)
		for i, index := range own.at {
			own.slots[i] = slots[index]
		}
	}
	return shares, missing
}

// Close gives the connections back to their pools, or discards those on which replies may still be under way. It may be called twice.
func (b *Batch) Close() {
	for _, p := range b.parts {
		if p != nil {
			p.close()
		}
	}
}

func (b *Batch) validateWrites(writes []Guarded) error {
	if len(writes) > batchKeysMax {
		return fmt.Errorf("%w: %d keys, at most %d", ErrInvalid, len(writes), batchKeysMax)
	}
	for i := range writes {
		write := &writes[i].Write
		if err := b.validatePair(KeyPair{Key: write.Key, Guard: write.Guard}); err != nil {
			return err
		}
		switch {
		case writes[i].Token == 0:
			return fmt.Errorf("%w: key %q has no token", ErrInvalid, write.Key)
		case int(write.Op) >= len(scriptOps) || scriptOps[write.Op] == "":
			return fmt.Errorf("%w: key %q has operation %d", ErrInvalid, write.Key, write.Op)
		case write.TTLMillis < 0:
			return fmt.Errorf("%w: key %q has TTL %d ms", ErrInvalid, write.Key, write.TTLMillis)
		case len(write.Fields) > fieldsMax:
			return fmt.Errorf("%w: key %q has %d fields, at most %d", ErrInvalid, write.Key, len(write.Fields), fieldsMax)
		}
	}
	return nil
}

func (b *Batch) validatePairs(pairs []KeyPair) error {
	if len(pairs) > batchKeysMax {
		return fmt.Errorf("%w: %d keys, at most %d", ErrInvalid, len(pairs), batchKeysMax)
	}
	for _, pair := range pairs {
		if err := b.validatePair(pair); err != nil {
			return err
		}
	}
	return nil
}

func (b *Batch) validatePair(pair KeyPair) error {
	if pair.Key == "" || pair.Guard == "" || pair.Key == pair.Guard {
		return fmt.Errorf("%w: key %q with guard %q: two different names are needed", ErrInvalid, pair.Key, pair.Guard)
	}
	if b.layout.owner == nil {
		return nil
	}
	slot := slotOf(pair.Key)
	if slotOf(pair.Guard) != slot {
		return fmt.Errorf("%w: key %q and guard %q are of different slots", ErrInvalid, pair.Key, pair.Guard)
	}
	if at, err := b.layout.nodeOf(slot); err == nil && b.parts[at] == nil {
		return fmt.Errorf("%w: key %q is on a server that Begin was not told of", ErrInvalid, pair.Key)
	}
	return nil
}
