package client

import (
	"context"
	"slices"
	"sync"
	"time"
)

// turns lets the callers of one session take turns at a name, in the order of asking. To the coordinator they are one owner, and it
// refuses an owner that asks for what it has: without turns two requests of one process would not wait for each other.
type turns struct {
	mu    sync.Mutex
	queue map[string][]chan struct{} // whose turn it is not yet; a name without an entry is free
}

// take waits for the turn. A wait of 0 refuses with ErrLockHeld at once.
func (t *turns) take(ctx context.Context, session, name string, wait time.Duration) error {
	mine, first := t.enter(name, wait > 0)
	if first {
		return nil
	}
	if mine == nil {
		held := *ErrLockHeld
		held.Detail, held.Holder = "another caller of this process has it", session
		return &held
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-mine:
		return nil
	case <-timer.C:
		t.leave(name, mine)
		return ErrLockWaitTimeout
	case <-ctx.Done():
		t.leave(name, mine)
		return giveUp("waiting for another caller of this process", 0, false, nil, context.Cause(ctx))
	}
}

func (t *turns) enter(name string, queue bool) (mine chan struct{}, first bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	waiting, taken := t.queue[name]
	if !taken {
		if t.queue == nil {
			t.queue = map[string][]chan struct{}{}
		}
		t.queue[name] = nil
		return nil, true
	}
	if queue {
		mine = make(chan struct{})
		t.queue[name] = append(waiting, mine)
	}
	return mine, false
}

// leave gives up waiting, or passes on a turn that came in the same moment.
func (t *turns) leave(name string, mine chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if at := slices.Index(t.queue[name], mine); at >= 0 {
		t.queue[name] = slices.Delete(t.queue[name], at, at+1)
		return
	}
	t.passLocked(name)
}

func (t *turns) pass(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.passLocked(name)
}

func (t *turns) passLocked(name string) {
	waiting := t.queue[name]
	if len(waiting) == 0 {
		delete(t.queue, name)
		return
	}
	close(waiting[0])
	t.queue[name] = waiting[1:]
}
