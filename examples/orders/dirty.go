package main

import (
	"context"
	"sync"
	"time"
)

const (
	dirtyMax   = 10_000
	dirtyBatch = 1_000
	dirtyRetry = 500 * time.Millisecond
	publishFor = 3 * time.Second
)

// dirtyKeys is the set of orders whose last commit the coordinator has not accepted an event for.
type dirtyKeys struct {
	publish func(context.Context, []int64) error

	mu  sync.Mutex
	ids map[int64]uint64 // to the number of the commit that made it dirty
	seq uint64
}

func newDirtyKeys(publish func(context.Context, []int64) error) *dirtyKeys {
	return &dirtyKeys{publish: publish, ids: map[int64]uint64{}}
}

func (d *dirtyKeys) add(id int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seq++
	d.ids[id] = d.seq
}

func (d *dirtyKeys) count() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return uint64(len(d.ids))
}

// full asks writers to stay away. Those under way may still add theirs: what is committed is never dropped.
func (d *dirtyKeys) full() bool { return d.count() >= dirtyMax }

// run publishes what is dirty until ctx ends.
func (d *dirtyKeys) run(ctx context.Context) {
	for ctx.Err() == nil {
		pause(ctx, dirtyRetry)
		for ctx.Err() == nil && d.step(ctx) {
		}
	}
}

// flush publishes until nothing is dirty or ctx ends, and gives what is left.
func (d *dirtyKeys) flush(ctx context.Context) (int, error) {
	for d.count() > 0 && ctx.Err() == nil {
		if !d.step(ctx) {
			pause(ctx, dirtyRetry)
		}
	}
	return int(d.count()), nil
}

// step publishes one batch and tells whether it was accepted and not empty. An order that was committed again meanwhile stays dirty.
func (d *dirtyKeys) step(ctx context.Context) bool {
	ids, seqs := d.batch()
	if len(ids) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, publishFor)
	defer cancel()
	if d.publish(ctx, ids) != nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, id := range ids {
		if d.ids[id] == seqs[i] {
			delete(d.ids, id)
		}
	}
	return true
}

func (d *dirtyKeys) batch() (ids []int64, seqs []uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, seq := range d.ids {
		if len(ids) == dirtyBatch {
			break
		}
		ids, seqs = append(ids, id), append(seqs, seq)
	}
	return ids, seqs
}
