package store

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// guard turns the first error of a store, and the first call that takes too long, into one fatal report. A node
// with a broken or hung disk must end: as a leader it would go on sending heartbeats, and nobody would be elected.
type guard struct {
	limit   time.Duration
	onFatal func(error)
	fatal   atomic.Pointer[error]
}

// run does one operation under the watch. After a fatal report nothing is attempted any more: a write that came
// through after a failed one would be acknowledged on top of a hole.
func (g *guard) run(op string, call func() error) error {
	if first := g.fatal.Load(); first != nil {
		return *first
	}
	done := g.watch(op)
	err := call()
	done()
	if err == nil || isAbsent(err) {
		return err
	}
	err = fmt.Errorf("%w: %s: %w", ErrStore, op, err)
	g.report(err)
	return err
}

// watch reports op as hung unless done is called within the limit. It waits in two steps, because after a pause of the whole
// process (SIGSTOP, a frozen machine) a single timer would fire before the call, whose work is long done, has had a
// chance to return.
func (g *guard) watch(op string) (done func()) {
	var returned atomic.Bool
	last := g.limit / lastStepOf
	first := time.AfterFunc(g.limit-last, func() {
		time.AfterFunc(last, func() {
			if !returned.Load() {
				g.report(&HungError{Op: op, Limit: g.limit})
			}
		})
	})
	return func() {
		returned.Store(true)
		first.Stop()
	}
}

// lastStepOf: the last step is this part of the limit, one second of five.
const lastStepOf = 5

func (g *guard) report(err error) {
	if g.fatal.CompareAndSwap(nil, &err) {
		g.onFatal(err)
	}
}

// isAbsent: raft compares the first by identity and the second by its text, so neither is wrapped.
func isAbsent(err error) bool {
	return errors.Is(err, raft.ErrLogNotFound) || err.Error() == errNotFound.Error()
}

// guardedLogs is the log store under the guard.
type guardedLogs struct {
	inner raft.LogStore
	guard *guard
}

var _ raft.MonotonicLogStore = (*guardedLogs)(nil)

// IsMonotonic must be forwarded: without it raft leaves a gap after a restore, which raft-wal refuses.
func (l *guardedLogs) IsMonotonic() bool { return isMonotonic(l.inner) }

func isMonotonic(logs raft.LogStore) bool {
	monotonic, ok := logs.(raft.MonotonicLogStore)
	return ok && monotonic.IsMonotonic()
}

func (l *guardedLogs) FirstIndex() (index uint64, err error) {
	err = l.guard.run("log first index", func() (err error) { index, err = l.inner.FirstIndex(); return err })
	return index, err
}

func (l *guardedLogs) LastIndex() (index uint64, err error) {
	err = l.guard.run("log last index", func() (err error) { index, err = l.inner.LastIndex(); return err })
	return index, err
}

func (l *guardedLogs) GetLog(index uint64, log *raft.Log) error {
	return l.guard.run("log read", func() error { return l.inner.GetLog(index, log) })
}

func (l *guardedLogs) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

func (l *guardedLogs) StoreLogs(logs []*raft.Log) error {
	return l.guard.run("log append", func() error { return l.inner.StoreLogs(logs) })
}

func (l *guardedLogs) DeleteRange(low, high uint64) error {
	return l.guard.run("log truncation", func() error { return l.inner.DeleteRange(low, high) })
}

// guardedStable is the stable store under the guard.
type guardedStable struct {
	inner raft.StableStore
	guard *guard
}

func (s *guardedStable) Set(key, val []byte) error {
	return s.guard.run("stable write", func() error { return s.inner.Set(key, val) })
}

func (s *guardedStable) Get(key []byte) (val []byte, err error) {
	err = s.guard.run("stable read", func() (err error) { val, err = s.inner.Get(key); return err })
	return val, err
}

func (s *guardedStable) SetUint64(key []byte, val uint64) error {
	return s.guard.run("stable write", func() error { return s.inner.SetUint64(key, val) })
}

func (s *guardedStable) GetUint64(key []byte) (val uint64, err error) {
	err = s.guard.run("stable read", func() (err error) { val, err = s.inner.GetUint64(key); return err })
	return val, err
}
