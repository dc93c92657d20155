package reconcile

import (
	"context"
	"math"
	"time"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
)

// judge takes the chunks in, confirms what differs when it is old enough, and logs what is settled. It returns nil when the whole table is.
func (p *pass) judge(ctx context.Context, chunks <-chan chunk) error {
	p.samples = len(p.logged.Samples)
	ended := false
	for {
		if err := p.confirmDue(ctx); err != nil {
			return err
		}
		if err := p.checkpointIfDue(ctx, ended); err != nil {
			return err
		}
		if ended && len(p.window.stretches) == 0 {
			return nil
		}
		c, err := p.next(ctx, chunks, ended)
		if err != nil {
			return err
		}
		if c == nil {
			continue
		}
		if err := p.judgeChunk(ctx, c); err != nil {
			return err
		}
		ended = c.last
	}
}

// next waits for a chunk, unless there is no room or none left, or for the time at which something is due. It is nil when there is no chunk yet.
func (p *pass) next(ctx context.Context, chunks <-chan chunk, ended bool) (*chunk, error) {
	if ended || p.window.open >= p.config.OpenMax {
		chunks = nil
		why := waitConfirming
		if len(p.waiting.rows) > 0 {
			why = waitRelay
		}
		p.progress.wait(laneJudge, why)
		defer p.progress.wait(laneJudge, "")
	}
	timer := time.NewTimer(p.untilDue())
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case c := <-chunks:
		return &c, nil
	case <-timer.C:
		return nil, nil
	}
}

// untilDue is how long nothing but a new chunk can give work.
func (p *pass) untilDue() time.Duration {
	wait := time.Duration(math.MaxInt64)
	if len(p.waiting.rows) > 0 {
		wait = relayPoll
	} else if opened, ok := p.window.earliest(); ok {
		due, now := opened+p.logged.ConfirmMs, p.log.Now()
		wait = time.Duration(due-min(now, due)) * time.Millisecond
	}
	if ready, _ := p.window.closed(); ready > 0 {
		wait = min(wait, max(0, p.config.CheckpointEvery-time.Since(p.saved)))
	}
	return wait
}

// judgeChunk compares rows with the cache, reads again what does not match, and adds all of it to the window.
func (p *pass) judgeChunk(ctx context.Context, c *chunk) error {
	if _, err := p.mappingRecord(); err != nil {
		return err
	}
	for rows := c.rows; len(rows) > 0; {
		n := cut(rows, p.mapping.KeyCount())
		if err := p.judgeBatch(ctx, rows[:n]); err != nil {
			return err
		}
		rows = rows[n:]
	}
	if p.sampled() && c.place != nil { // so that the next leader does not go over what was not drawn again
		p.window.add(&stretch{cursor: mapping.EncodeKey(c.place)})
	}
	open := p.window.open
	p.progress.update(func(shown *Progress) { shown.Open = open })
	return nil
}

// judgment is what became of one row of a batch: a final look, hot, an open suspect, or what is to be filled.
type judgment struct {
	look    look
	hot     bool
	fill    bool
	suspect *suspect
	actual  []mapping.Actual // of its keys; only of a suspect
}

func (p *pass) judgeBatch(ctx context.Context, rows []mapping.Row) error {
	keys := make([]string, 0, p.mapping.KeyCount()*len(rows))
	for i := range rows {
		if rows[i].Key != nil {
			keys = p.mapping.AppendKeys(keys, rows[i].Key)
		}
	}
	actuals, err := p.readKeys(ctx, keys)
	if err != nil {
		return err
	}
	judgments := make([]judgment, len(rows))
	var suspects []*judgment
	for i := range rows {
		j, row := &judgments[i], &rows[i]
		if row.Key == nil { // names no key, so there is nothing to compare
			j.look = look{verdict: mapping.Equal}
			continue
		}
		n := p.mapping.KeyCount()
		if j.look, err = examine(p.examiner, row, keys[:n], actuals[:n]); err != nil {
			return err
		}
		if !j.look.matches() {
			ref := fsm.RowRef{Mapping: p.logged.Mapping, PK: mapping.EncodeKey(row.Key)}
			j.suspect, j.actual = &suspect{key: row.Key, ref: ref}, actuals[:n]
			suspects = append(suspects, j)
		}
		keys, actuals = keys[n:], actuals[n:]
	}
	if err := p.investigate(ctx, suspects); err != nil {
		return err
	}
	p.file(rows, judgments)
	return nil
}

// investigate reads suspects again until each is explained or open. Those with a pending event are hot at once: under load they are many,
// and reading them would explain nothing.
func (p *pass) investigate(ctx context.Context, suspects []*judgment) error {
	p.log.View(func(s *fsm.State) {
		for _, j := range suspects {
			_, j.hot = s.Event(j.suspect.ref)
			j.hot = j.hot || s.RowPrepared(j.suspect.ref)
		}
	})
	left := make([]*judgment, 0, len(suspects))
	for _, j := range suspects {
		// What is absent is filled at the first look: the event reads the row anew and overwrites nothing, so it does no harm where a change is on its way.
		j.fill = !j.hot && p.logged.Fill && j.look.verdict == mapping.Missing
		if !j.hot && !j.fill {
			left = append(left, j)
		}
	}
	for looks := 0; len(left) > 0 && looks < looksMax; looks++ {
		var again []*judgment
		for len(left) > 0 {
			n := min(len(left), mysql.BatchRowsMax)
			moving, err := p.lookAgain(ctx, left[:n])
			if err != nil {
				return err
			}
			again, left = append(again, moving...), left[n:]
		}
		left = again
	}
	for _, j := range left {
		j.hot = true
	}
	return nil
}

// lookAgain rules on a batch of suspects and gives back those that moved.
func (p *pass) lookAgain(ctx context.Context, batch []*judgment) (again []*judgment, err error) {
	suspects := make([]*suspect, len(batch))
	for i, j := range batch {
		suspects[i] = j.suspect
	}
	seen, err := p.reread(ctx, suspects)
	if err != nil {
		return nil, err
	}
	p.interrogate(suspects, seen)
	for i, j := range batch {
		switch j.suspect.rule(seen[i]) {
		case ruledMatch:
			j.look, j.suspect = seen[i].look, nil
		case ruledHot:
			j.hot = true
		case ruledAgain:
			again = append(again, j)
		}
	}
	return again, nil
}

// file adds judged rows to the window, in their order.
func (p *pass) file(rows []mapping.Row, judgments []judgment) {
	var run tally
	plain := 0 // rows since the last open one
	for i, j := range judgments {
		plain++
		switch {
		case j.hot:
			run.countHot()
		case j.suspect == nil:
			run.count(j.look)
		case j.fill:
			run.count(j.look)
			p.window.add(&stretch{cursor: mapping.EncodeKey(rows[i].PK), tally: run, found: &j.suspect.ref, repair: repairFill,
				example: p.example(j.suspect, sandwich{row: &rows[i], actual: j.actual, look: j.look})})
			run, plain = tally{}, 0
		default:
			p.window.add(&stretch{cursor: mapping.EncodeKey(rows[i].PK), tally: run, open: j.suspect})
			run, plain = tally{}, 0
		}
		if i == len(rows)-1 && plain > 0 {
			p.window.add(&stretch{cursor: mapping.EncodeKey(rows[i].PK), tally: run})
		}
	}
	p.progress.compared(len(rows))
}
