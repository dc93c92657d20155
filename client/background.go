package client

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
)

// backgroundMax bounds the background work of one instance.
const backgroundMax = 1_000

// background is the work that the application has running beside its requests.
type background struct {
	app *App

	mu        sync.Mutex
	running   map[*worker]struct{}
	suspended []*worker     // told to end by a drain, and begun again when that is undone
	failures  []error       // of those that were told to end
	fell      chan struct{} // holds one hint that fewer run
}

type worker struct {
	name      string
	run       func(ctx context.Context) error
	essential bool
}

// GoOption says more about background work.
type GoOption func(*worker)

// Essential says that the instance must not serve without this work: an error or a panic drains it, and the exit code is ExitFailed.
func Essential() GoOption { return func(w *worker) { w.essential = true } }

func newBackground(a *App) *background {
	return &background{app: a, running: map[*worker]struct{}{}, fell: make(chan struct{}, 1)}
}

// Go runs work in the background: a queue's reader, a schedule. Its context ends in phase consumers, which waits for it. If it does not
// end then, or ends with another error than its context's, the exit code is ExitLeftovers. Before that, an error or a panic is logged and
// the instance serves on, unless the work is Essential. When a drain is undone, work that it told to end is run again.
//
// ErrStopping says that the phase has begun; ErrConfig that 1,000 are running.
func (a *App) Go(name string, run func(ctx context.Context) error, opts ...GoOption) error {
	w := &worker{name: name, run: run}
	for _, opt := range opts {
		opt(w)
	}
	return a.background.start(w)
}

func (b *background) start(w *worker) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.app.present.Load()
	if at.background.ctx.Err() != nil {
		return fmt.Errorf("%w: %s", ErrStopping, w.name)
	}
	if len(b.running) >= backgroundMax {
		return fmt.Errorf("%w: %s: %d run in the background already", ErrConfig, w.name, backgroundMax)
	}
	b.startLocked(w, at)
	return nil
}

// startLocked starts a goroutine that wait joins.
func (b *background) startLocked(w *worker, at *attempt) {
	b.running[w] = struct{}{}
	go func() { b.ended(w, at, w.protected(at.background.ctx)) }()
}

func (w *worker) protected(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return w.run(ctx)
}

func (b *background) ended(w *worker, at *attempt, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.running, w)
	select {
	case b.fell <- struct{}{}:
	default:
	}
	ctx := at.background.ctx
	switch now := b.app.present.Load(); {
	case ctx.Err() == nil:
		b.endedByItself(w, err)
	case now.background.ctx.Err() == nil: // the drain that told it was undone before it came to an end
		b.startLocked(w, now)
	default:
		b.suspended = append(b.suspended, w)
		if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.Cause(ctx)) {
			b.failures = append(b.failures, fmt.Errorf("%s: %w", w.name, err))
		}
	}
}

func (b *background) endedByItself(w *worker, err error) {
	if err == nil {
		return
	}
	b.app.log.Error("background work failed", "work", w.name, "error", err)
	if w.essential {
		b.app.requestStop(&StopError{Reason: w.name + " failed", failed: true})
	}
}

// resume runs again what a drain told to end.
func (b *background) resume() {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.app.present.Load()
	for _, w := range b.suspended {
		b.startLocked(w, at)
	}
	b.suspended, b.failures = nil, nil
}

// wait joins the work, which was told to end, and gives how much of it is left over when ctx ends.
func (b *background) wait(ctx context.Context) (left int, err error) {
	for {
		names, failures := b.unfinished()
		if len(names) == 0 {
			return len(failures), errors.Join(failures...)
		}
		select {
		case <-b.fell:
		case <-ctx.Done():
			return len(names) + len(failures), errors.Join(append(failures, fmt.Errorf("still running: %q", names))...)
		}
	}
}

func (b *background) unfinished() (names []string, failures []error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for w := range b.running {
		names = append(names, w.name)
	}
	slices.Sort(names)
	return names, slices.Clone(b.failures)
}

func (b *background) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.running)
}
