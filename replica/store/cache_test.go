package store

import (
	"testing"

	"github.com/hashicorp/raft"
)

// spy counts reads that reach the store.
type spy struct {
	*raft.InmemStore
	reads int
}

func (s *spy) GetLog(index uint64, log *raft.Log) error {
	s.reads++
	return s.InmemStore.GetLog(index, log)
}

func TestCache_IsBoundedInBytesAndKeepsTheNewest(t *testing.T) {
	t.Parallel()
	inner := &spy{InmemStore: raft.NewInmemStore()}
	const size = 1000
	c := newCache(inner, 10*(size+entryOverheadBytes))
	for i := uint64(1); i <= 50; i++ {
		noError(t, c.StoreLog(&raft.Log{Index: i, Data: make([]byte, size)}))
		if c.bytes > c.bytesMax {
			t.Fatalf("%d bytes after entry %d", c.bytes, i)
		}
	}
	wantReads(t, c, inner, 41, 50, 0)
	wantReads(t, c, inner, 40, 40, 1)

	noError(t, c.StoreLog(&raft.Log{Index: 51, Data: make([]byte, c.bytesMax)}))
	if len(c.entries) != 0 || c.bytes != 0 {
		t.Fatalf("an entry above the bound leaves %d entries, %d bytes", len(c.entries), c.bytes)
	}
	wantReads(t, c, inner, 51, 51, 1)
}

func TestCache_ServesNothingThatWasDeletedOrReplaced(t *testing.T) {
	t.Parallel()
	inner := &spy{InmemStore: raft.NewInmemStore()}
	c := newCache(inner, 1<<20)
	noError(t, c.StoreLogs(entries(1, 20, 1)))
	noError(t, c.DeleteRange(1, 4))
	noError(t, c.DeleteRange(16, 20))
	for _, gone := range []uint64{1, 4, 16, 20} {
		if err := c.GetLog(gone, new(raft.Log)); err != raft.ErrLogNotFound { //nolint:errorlint // raft compares so
			t.Fatalf("entry %d: %v", gone, err)
		}
	}
	noError(t, c.StoreLogs(entries(16, 17, 2)))
	var got raft.Log
	noError(t, c.GetLog(16, &got))
	if got.Term != 2 {
		t.Fatal("the replaced entry is served")
	}
	noError(t, c.StoreLogs(entries(100, 101, 3))) // a gap
	if c.first != 100 || c.last != 101 || len(c.entries) != 2 {
		t.Fatalf("after a gap the cache holds %d to %d, %d entries", c.first, c.last, len(c.entries))
	}
	noError(t, c.DeleteRange(100, 101))
	if c.bytes != 0 || len(c.entries) != 0 {
		t.Fatal("bytes leak")
	}
}

func TestCache_HoldsNothingThatWasNotStored(t *testing.T) {
	t.Parallel()
	c := newCache(faultyLogs{LogStore: raft.NewInmemStore(), err: errDisk}, 1<<20)
	if err := c.StoreLogs(entries(1, 2, 1)); err == nil {
		t.Fatal("stored")
	}
	if err := c.GetLog(1, new(raft.Log)); err == nil {
		t.Fatal("an entry that is on no disk was served")
	}
}

func wantReads(t *testing.T, c *cache, inner *spy, from, to uint64, want int) {
	t.Helper()
	inner.reads = 0
	for i := from; i <= to; i++ {
		noError(t, c.GetLog(i, new(raft.Log)))
	}
	if inner.reads != want {
		t.Fatalf("%d reads reached the store for entries %d to %d, want %d", inner.reads, from, to, want)
	}
}
