package client

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quiescehq/quiesce/api"
)

// dbWatch knows what the connections of one pool do, and ends it when the instance stops.
type dbWatch struct {
	name   string // of the source, or what stands for it
	source string // as the coordinator knows it, or empty
	log    *slog.Logger

	transactions atomic.Int64 // open
	statements   atomic.Int64 // under way outside transactions
	closing      atomic.Bool  // the phase transactions has begun
	nameless     sparse
	yield        func() // test seam between counting and looking; nil outside tests

	mu    sync.Mutex
	conns map[*dbConn]struct{}
	ended []uint64 // ids of connections that were cut: the server may not have noticed yet
}

// drainKey marks the contexts of the drain's own tasks.
type drainKey struct{}

// drainWork gives the tasks of a drain the use of databases, which others lose when the phase transactions begins.
func drainWork(ctx context.Context) context.Context { return context.WithValue(ctx, drainKey{}, true) }

// enter counts work in and looks afterwards, like the gate: so when the phase begins and then counts nothing, nothing runs.
func (w *dbWatch) enter(ctx context.Context, count *atomic.Int64) error {
	count.Add(1)
	if w.yield != nil {
		w.yield()
	}
	if w.closing.Load() && ctx.Value(drainKey{}) == nil {
		count.Add(-1)
		return fmt.Errorf("database %s: %w", w.name, ErrStopping)
	}
	return nil
}

func (w *dbWatch) cutOff() error { return fmt.Errorf("database %s: %w", w.name, ErrCutOff) }

func (w *dbWatch) open() int64 { return w.transactions.Load() + w.statements.Load() }

func (w *dbWatch) add(c *dbConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conns == nil {
		w.conns = map[*dbConn]struct{}{}
	}
	w.conns[c] = struct{}{}
}

func (w *dbWatch) remove(c *dbConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, c)
}

// ids are those of the connections that a transaction of this instance may still hang on, the cut ones first.
func (w *dbWatch) ids() []uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	open := make(map[uint64]struct{}, len(w.conns))
	for c := range w.conns {
		if c.id != 0 && !c.gone.Load() {
			open[c.id] = struct{}{}
		}
	}
	ids := slices.Concat(w.ended, slices.Sorted(maps.Keys(open)))
	return ids[:min(len(ids), api.ConnectionsMax)]
}

// pollEvery is how often a drain looks whether the database is idle.
const pollEvery = 5 * time.Millisecond

// poll waits until something is none, as long as ctx allows, and gives what is left.
func poll(ctx context.Context, count func() int64) int64 {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		n := count()
		if n == 0 {
			return 0
		}
		select {
		case <-ctx.Done():
			return n
		case <-ticker.C:
		}
	}
}

// settle is the phase transactions: nobody begins anything, and what is under way ends, of itself or, when a quarter of the time is left,
// by being cut.
func (w *dbWatch) settle(ctx context.Context) error {
	w.closing.Store(true)
	patient, cancel := shorter(ctx)
	defer cancel()
	if poll(patient, w.open) == 0 {
		return nil
	}
	if ctx.Err() != nil { // not the end of the time, but of the drain: it was undone, or the process goes now
		return context.Cause(ctx)
	}
	return w.cut(ctx)
}

// shorter leaves a quarter of the time for what follows.
func shorter(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-time.Until(deadline)/4))
}

// cut ends what the connections do, side by side, and says what that was. It returns when all have ended or ctx has: each of its
// goroutines heeds ctx.
func (w *dbWatch) cut(ctx context.Context) error {
	var transactions, statements atomic.Int64
	var all sync.WaitGroup
	for _, c := range w.busy() {
		all.Go(func() {
			transaction, statement := c.breakOff(ctx)
			if transaction {
				transactions.Add(1)
			}
			if statement {
				statements.Add(1)
			}
		})
	}
	all.Wait()
	if transactions.Load()+statements.Load() == 0 { // what was under way has made it
		return nil
	}
	return fmt.Errorf("%w: %d transactions rolled back, %d statements cancelled", w.cutOff(), transactions.Load(), statements.Load())
}

// busy gives the connections that do something, to be cut. Their ids go on to be reported.
func (w *dbWatch) busy() []*dbConn {
	w.mu.Lock()
	defer w.mu.Unlock()
	var busy []*dbConn
	for c := range w.conns {
		if c.busy.Load() == 0 {
			continue
		}
		busy = append(busy, c)
		if c.id != 0 && len(w.ended) < api.ConnectionsMax {
			w.ended = append(w.ended, c.id)
		}
	}
	return busy
}

// reopen takes settle back: the drain was undone.
func (w *dbWatch) reopen(context.Context) error {
	w.closing.Store(false)
	return nil
}

// end is the phase close. sql.DB.Close waits for nothing: a transaction that is open then goes on, and can even be committed. So the
// connections in use are waited for, and what uses them in the end is cut.
func (w *dbWatch) end(ctx context.Context, pool *sql.DB) error {
	w.closing.Store(true)
	if err := endPool(ctx, w.name, pool); err != nil {
		return errors.Join(err, w.cut(ctx))
	}
	return nil
}

func endPool(ctx context.Context, name string, pool *sql.DB) error {
	patient, cancel := shorter(ctx)
	defer cancel()
	var left error
	if n := poll(patient, func() int64 { return int64(pool.Stats().InUse) }); n > 0 {
		left = fmt.Errorf("database %s: closed with %d connections in use", name, n)
	}
	return errors.Join(left, pool.Close())
}
