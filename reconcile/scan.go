package reconcile

import (
	"context"
	"time"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
)

// chunk is what one read gave. Of a sample it may have no rows and the place that it came to.
type chunk struct {
	rows  []mapping.Row
	place []string
	last  bool
}

// partOf is the part of the table that a pass goes over. The id of the pass is the salt of its sample, so that the next leader goes on with the same one.
func partOf(record fsm.Pass) (mysql.Part, error) {
	from, err := placeOf("from", record.From)
	if err != nil {
		return mysql.Part{}, err
	}
	to, err := placeOf("to", record.To)
	return mysql.Part{From: from, To: to, SamplePPM: record.SamplePPM, Salt: record.ID}, err
}

func placeOf(what, encoded string) ([]string, error) {
	if encoded == "" {
		return nil, nil
	}
	place, err := mapping.DecodeKey(encoded)
	if err != nil {
		return nil, &failure{"range_invalid: " + what + ": " + err.Error()}
	}
	return place, nil
}

// sampled tells whether the pass leaves rows out by chance.
func (p *pass) sampled() bool { return p.part.SamplePPM%mysql.SampleWhole != 0 }

// scan reads the table in the order of its key, one chunk ahead of the judge, and ends with a last chunk.
func (p *pass) scan(ctx context.Context, after []string, out chan<- chunk) error {
	size := newSizer(p.config)
	p.fit(size)
	for {
		if err := p.admit(ctx); err != nil {
			return err
		}
		var read mysql.Chunk
		err := p.retry(ctx, laneScan, func() error {
			began := time.Now()
			var err error
			read, err = p.source.ReadPart(ctx, p.mapping, p.part, after, size.rows)
			switch {
			case err != nil:
				size.failed()
			case p.sampled() && read.Place != nil:
				size.took(size.rows, time.Since(began)) // that the server went over
			default:
				size.took(len(read.Rows), time.Since(began))
			}
			return err
		})
		if err != nil {
			return err
		}
		p.progress.update(func(shown *Progress) { shown.ChunkRows = size.rows })
		if err := p.spend(ctx, len(read.Rows), len(read.Rows)*p.mapping.KeyCount()); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case out <- chunk{rows: read.Rows, place: read.Place, last: read.Place == nil}:
		}
		if read.Place == nil {
			return nil
		}
		after = read.Place
	}
}

// fit has the sizer ask for few rows at a time where there is a rate, since whoever wants to be spared is spared by many short reads and not by a long one now and then; and for more where few of the rows that the server goes over are drawn.
func (p *pass) fit(size *sizer) {
	if p.logged.RateMax > 0 {
		size.max = min(size.max, rowsAtATime(int(min(p.logged.RateMax, perSecondMax))))
	}
	if p.config.KeysPerSecond > 0 {
		size.max = min(size.max, rowsAtATime(p.config.KeysPerSecond/p.mapping.KeyCount()))
	}
	if p.sampled() {
		scale := func(rows int) int {
			return int(min(mysql.SampleRowsMax, uint64(rows)*mysql.SampleWhole/p.part.SamplePPM))
		}
		size.max, size.rows = scale(size.max), scale(size.rows)
	}
	size.set(size.rows)
}

// rowsAtATime are those of ten milliseconds, or chunkRowsMin if they take no longer than half a second: less would let round trips decide the rate.
func rowsAtATime(perSecond int) int {
	return max(1, perSecond/100, min(chunkRowsMin, (perSecond+1)/2))
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
