package store

import (
	"sync"

	"github.com/hashicorp/raft"
)

// entryOverheadBytes is what an entry costs beside its data: the Log value, its map slot and pointer.
const entryOverheadBytes = 160

// cache keeps the newest entries in memory for replication and apply. It is bounded in bytes, where raft's own
// LogCache is bounded in entries: an entry here is a batch of up to 256 KiB.
type cache struct {
	inner    raft.LogStore
	bytesMax int

	mu      sync.RWMutex
	entries map[uint64]*raft.Log // exactly the indexes from first to last
	first   uint64               // 0 = empty
	last    uint64
	bytes   int
}

var _ raft.MonotonicLogStore = (*cache)(nil)

func newCache(inner raft.LogStore, bytesMax int) *cache {
	return &cache{inner: inner, bytesMax: bytesMax, entries: make(map[uint64]*raft.Log)}
}

// IsMonotonic must be forwarded: see guardedLogs.
func (c *cache) IsMonotonic() bool { return isMonotonic(c.inner) }

func (c *cache) FirstIndex() (uint64, error) { return c.inner.FirstIndex() }
func (c *cache) LastIndex() (uint64, error)  { return c.inner.LastIndex() }

func (c *cache) GetLog(index uint64, log *raft.Log) error {
	c.mu.RLock()
	entry := c.entries[index]
	c.mu.RUnlock()
	if entry == nil {
		return c.inner.GetLog(index, log)
	}
	*log = *entry
	return nil
}

func (c *cache) StoreLog(log *raft.Log) error { return c.StoreLogs([]*raft.Log{log}) }

// StoreLogs caches only what is durable.
func (c *cache) StoreLogs(logs []*raft.Log) error {
	if err := c.inner.StoreLogs(logs); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, entry := range logs {
		c.addLocked(entry)
	}
	for c.bytes > c.bytesMax {
		c.dropLocked(c.first)
	}
	return nil
}

// DeleteRange forgets before it deletes, so that no reader finds an entry that the disk has lost. Raft deletes a
// head or a tail; anything else empties the cache.
func (c *cache) DeleteRange(low, high uint64) error {
	c.mu.Lock()
	switch {
	case c.first == 0 || high < c.first || low > c.last:
	case low <= c.first:
		for c.first != 0 && c.first <= high {
			c.dropLocked(c.first)
		}
	case high >= c.last:
		for c.last >= low {
			c.dropLocked(c.last)
		}
	default:
		c.clearLocked()
	}
	c.mu.Unlock()
	return c.inner.DeleteRange(low, high)
}

func (c *cache) addLocked(entry *raft.Log) {
	if c.first != 0 && entry.Index != c.last+1 {
		c.clearLocked()
	}
	if c.first == 0 {
		c.first = entry.Index
	}
	c.last = entry.Index
	c.entries[entry.Index] = entry
	c.bytes += costOf(entry)
}

// dropLocked removes the first or the last entry.
func (c *cache) dropLocked(index uint64) {
	c.bytes -= costOf(c.entries[index])
	delete(c.entries, index)
	switch {
	case c.first == c.last:
		c.first, c.last = 0, 0
	case index == c.first:
		c.first++
	default:
		c.last--
	}
}

func (c *cache) clearLocked() {
	clear(c.entries)
	c.first, c.last, c.bytes = 0, 0, 0
}

func costOf(entry *raft.Log) int { return len(entry.Data) + len(entry.Extensions) + entryOverheadBytes }
