package reconcile

import (
	"context"
	"time"

	"github.com/quiescehq/quiesce/mapping"
)

// scan reads the table in the order of its key, one chunk ahead of the judge, and ends with an empty chunk.
func (p *pass) scan(ctx context.Context, after []string, out chan<- []mapping.Row) error {
	size := newSizer(p.config)
	for {
		var rows []mapping.Row
		err := p.retry(ctx, laneScan, func() error {
			began := time.Now()
			var err error
			rows, err = p.source.ReadChunk(ctx, p.mapping, after, size.rows)
			if err != nil {
				size.failed()
			} else {
				size.took(len(rows), time.Since(began))
			}
			return err
		})
		if err != nil {
			return err
		}
		p.progress.update(func(shown *Progress) { shown.ChunkRows = size.rows })
		select {
		case <-ctx.Done():
			return ctx.Err()
		case out <- rows:
		}
		if len(rows) == 0 {
			return nil
		}
		after = rows[len(rows)-1].PK
	}
}

// sizer finds the number of rows that a read gives in the time it may take: a long statement holds back the server's purge, and one past
// the query timeout gives nothing at all.
type sizer struct {
	rows     int
	max      int
	target   time.Duration
	rowNanos float64 // moving average
}

func newSizer(config Config) *sizer {
	return &sizer{rows: config.ChunkRowsStart, max: config.ChunkRowsMax, target: config.ChunkTime}
}

// took learns from a read. Growth is at most twofold a read, since one small chunk may have come from memory and the next from disk.
func (s *sizer) took(rows int, d time.Duration) {
	if rows == 0 {
		return
	}
	now := float64(max(d, 1)) / float64(rows)
	if s.rowNanos == 0 {
		s.rowNanos = now
	}
	s.rowNanos = (s.rowNanos + now) / 2
	want := float64(s.target) / s.rowNanos
	s.set(int(min(want, float64(2*s.rows))))
}

// failed asks for less: the read may have failed because it was too slow.
func (s *sizer) failed() { s.set(s.rows / 2) }

func (s *sizer) set(rows int) { s.rows = max(min(rows, s.max), min(chunkRowsMin, s.max)) }
