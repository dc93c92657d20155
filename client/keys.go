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
	moved  chan struct{}        // closed and replaced when lowest rises
}

func newKeys() *keys { return &keys{next: 1, lowest: 1, moved: make(chan struct{})} }

// take draws the next number, or waits for room until ctx ends.
func (k *keys) take(ctx context.Context) (uint64, error) {
	for {
		k.mu.Lock()
		if k.next-k.lowest < outstandingMax {
			seq := k.next
			k.next++
			k.done[seq%outstandingMax] = false
			k.mu.Unlock()
			return seq, nil
		}
		moved := k.moved
		k.mu.Unlock()
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-moved:
		}
	}
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
	close(k.moved)
	k.moved = make(chan struct{})
}

// acknowledged is the number below which every answer has been seen.
func (k *keys) acknowledged() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lowest
}
