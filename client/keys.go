package client

import (
	"context"
	"sync"
)

// outstandingMax is how far the newest sequence number may be ahead of the lowest unacknowledged one. The coordinator keeps every result
// from the lowest on and refuses the 1,025th, so the span is bounded, not the number of calls under way.
const outstandingMax = 1_000

// keys hands out idempotency sequence numbers and knows the lowest one whose answer has not been seen.
type keys struct {
	mu     sync.Mutex
	next   uint64
	lowest uint64
	done   [outstandingMax]bool // ring over lowest … next-1
	room   chan struct{}        // closed when lowest rises; nil while nobody waits for that
}

func newKeys() *keys { return &keys{next: 1, lowest: 1} }

// take draws the next number, or waits for room until ctx ends.
func (k *keys) take(ctx context.Context) (uint64, error) {
	for {
		seq, room := k.tryTake()
		if seq != 0 {
			return seq, nil
		}
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-room:
		}
	}
}

// tryTake draws the next number, or gives 0 and what is closed when there may be room again.
func (k *keys) tryTake() (uint64, <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.next-k.lowest < outstandingMax {
		seq := k.next
		k.next++
		k.done[seq%outstandingMax] = false
		return seq, nil
	}
	if k.room == nil {
		k.room = make(chan struct{})
	}
	return 0, k.room
}

// settle says that nobody will ask again for the answer to seq.
func (k *keys) settle(seq uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.done[seq%outstandingMax] = true
	if seq != k.lowest {
		return
	}
	for k.lowest < k.next && k.done[k.lowest%outstandingMax] {
		k.lowest++
	}
	if k.room != nil {
		close(k.room)
		k.room = nil
	}
}

// acknowledged is the number below which every answer has been seen.
func (k *keys) acknowledged() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lowest
}
