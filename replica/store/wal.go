package store

import (
	"sync"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/types"
)

// walLogs keeps a deletion apart from the rotation of a full segment. raft-wal v0.4.0 rotates in the background after the append
// that filled a segment has returned; the next append waits for that, a deletion does not, and then the rotation seals the
// segment that the deletion has just made: the log is unusable from there on. So writes are serialised here, and a deletion
// waits until the rotation that the append before it began has made its new segment (after which raft-wal's own lock does).
type walLogs struct {
	*wal.WAL
	filer *rotationFiler

	mu sync.Mutex // one append or deletion at a time; raft deletes old entries from another goroutine than it appends
}

var _ raft.MonotonicLogStore = (*walLogs)(nil)

func (l *walLogs) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

func (l *walLogs) StoreLogs(logs []*raft.Log) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.WAL.StoreLogs(logs)
}

func (l *walLogs) DeleteRange(low, high uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.filer.awaitRotation()
	return l.WAL.DeleteRange(low, high)
}

// rotationFiler sees a rotation begin (an append finds its segment sealed) and make the next segment.
type rotationFiler struct {
	types.SegmentFiler

	mu       sync.Mutex
	rotating chan struct{} // nil = no rotation
}

func (f *rotationFiler) Create(info types.SegmentInfo) (types.SegmentWriter, error) {
	writer, err := f.SegmentFiler.Create(info)
	f.end()
	return f.watch(writer), err
}

func (f *rotationFiler) RecoverTail(info types.SegmentInfo) (types.SegmentWriter, error) {
	writer, err := f.SegmentFiler.RecoverTail(info)
	return f.watch(writer), err
}

func (f *rotationFiler) watch(writer types.SegmentWriter) types.SegmentWriter {
	if writer == nil {
		return nil
	}
	return &rotationWriter{SegmentWriter: writer, filer: f}
}

func (f *rotationFiler) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rotating == nil {
		f.rotating = make(chan struct{})
	}
}

func (f *rotationFiler) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rotating != nil {
		close(f.rotating)
		f.rotating = nil
	}
}

// awaitRotation returns at once when none is under way. One that never ends (its meta data could not be stored) is
// ended by the guard's time limit.
func (f *rotationFiler) awaitRotation() {
	f.mu.Lock()
	rotating := f.rotating
	f.mu.Unlock()
	if rotating != nil {
		<-rotating
	}
}

type rotationWriter struct {
	types.SegmentWriter
	filer *rotationFiler
}

// Sealed is what raft-wal asks after each append, to learn whether to rotate.
func (w *rotationWriter) Sealed() (bool, uint64, error) {
	sealed, indexStart, err := w.SegmentWriter.Sealed()
	if sealed && err == nil {
		w.filer.begin()
	}
	return sealed, indexStart, err
}
