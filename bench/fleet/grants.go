package fleet

import (
	"context"
	"maps"
	"sync"
	"time"
)

// record is what happened in restarts, by revisions: that of the command that freed a place is also that of the grant it led to.
type record struct {
	mu    *sync.Mutex
	freed map[uint64]time.Time
	heard map[uint64][]time.Time // the first grants of a plan share the revision of its start
	moved chan struct{}          // holds one: something came back
}

func newRecord() record {
	return record{mu: new(sync.Mutex), freed: map[uint64]time.Time{}, heard: map[uint64][]time.Time{}, moved: make(chan struct{}, 1)}
}

func (r *record) free(revision uint64, sent time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.freed[revision] = sent
	select {
	case r.moved <- struct{}{}:
	default:
	}
}

func (r *record) hear(revision uint64, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard[revision] = append(r.heard[revision], at)
}

// AwaitRestarts waits until so many instances have come back.
func (f *Fleet) AwaitRestarts(ctx context.Context, n int) error {
	for f.Restarts() < n {
		select {
		case <-f.record.moved:
		case <-f.ctx.Done():
			return context.Cause(f.ctx)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Restarts is how many instances have come back so far.
func (f *Fleet) Restarts() int {
	f.record.mu.Lock()
	defer f.record.mu.Unlock()
	return len(f.record.freed)
}

// Grants is when places were freed, and when grants were heard, each by the revision of the command that did it.
func (f *Fleet) Grants() (freed map[uint64]time.Time, heard map[uint64][]time.Time) {
	f.record.mu.Lock()
	defer f.record.mu.Unlock()
	return maps.Clone(f.record.freed), maps.Clone(f.record.heard)
}

// Latencies are the times from the sending of what freed a place to the hearing of the grant that it led to. Grants at the revision of the
// start have been caused by it: their times are apart. Any other grant that nothing freed a place for is unpaired.
func Latencies(freed map[uint64]time.Time, heard map[uint64][]time.Time, startRevision uint64, started time.Time) (grants, first []time.Duration, unpaired int) {
	for revision, times := range heard {
		from, paired := freed[revision]
		switch {
		case revision == startRevision:
			for _, at := range times {
				first = append(first, at.Sub(started))
			}
		case paired && len(times) == 1:
			grants = append(grants, times[0].Sub(from))
		default:
			unpaired += len(times)
		}
	}
	return grants, first, unpaired
}
