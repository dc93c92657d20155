package reconcile

import (
	"context"
	"fmt"
	"time"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
)

// checkpointIfDue logs what is settled: every CheckpointEvery, as soon as a checkpoint's repairs are full, and without delay at the end.
func (p *pass) checkpointIfDue(ctx context.Context, ended bool) error {
	for {
		ready, found := p.window.closed()
		full := found >= fsm.RepairsBatchMax
		if ready == 0 || !ended && !full && time.Since(p.saved) < p.config.CheckpointEvery {
			return nil
		}
		if err := p.checkpoint(ctx); err != nil {
			return err
		}
	}
}

// checkpoint logs one step. A pass that repairs is held at the first difference beyond its allowance.
func (p *pass) checkpoint(ctx context.Context) error {
	if _, err := p.mappingRecord(); err != nil {
		return err
	}
	steps, beyond := p.window.take(fsm.RepairsBatchMax, p.allowance())
	if len(steps) > 0 {
		if err := p.logSteps(ctx, steps); err != nil {
			return err
		}
	}
	if beyond == nil {
		return nil
	}
	c := p.logged.Counts
	return p.hold(ctx, fsm.HoldCap, fmt.Sprintf("cap: %d of %d rows differed and were repaired, as many as this pass may without another word; more differ; next: %s",
		c.Repaired-p.logged.Filled, c.Rows, beyond.found.PK))
}

// allowance tells of one stretch after the other whether its repair is within what the pass may do. Filling what was absent always is, and a dry run repairs nothing.
func (p *pass) allowance() func(*stretch) bool {
	sofar := p.logged
	return func(s *stretch) bool {
		sofar.Counts.Rows += s.tally.counts.Rows
		if s.repair != repairKeys || p.logged.Mode == fsm.PassDryRun {
			return true
		}
		sofar.Counts.Repaired++
		return sofar.Counts.Repaired-sofar.Filled <= sofar.Allowance()
	}
}

func (p *pass) logSteps(ctx context.Context, steps []*stretch) error {
	c := p.step(steps)
	if len(c.Cursor) > fsm.PKBytesMax {
		return &failure{fmt.Sprintf("not_comparable: a primary key of %d bytes, at most %d can be kept as a place in the table", len(c.Cursor), fsm.PKBytesMax)}
	}
	answer, err := p.propose(ctx, c)
	if err != nil {
		return err
	}
	if answer.Refused() {
		// Most likely an earlier attempt was applied and its answer lost. Going on from the record is right whatever happened.
		return fmt.Errorf("%w: %s", errMoved, answer.Detail)
	}
	p.logged.Cursor, p.logged.Counts, p.logged.Expected, p.logged.Actual, p.logged.Filled = c.Cursor, c.Counts, c.Expected, c.Actual, c.Filled
	p.logged.Estimate = p.estimate
	p.saved = time.Now()
	return nil
}

// step adds steps to what is logged.
func (p *pass) step(steps []*stretch) fsm.CheckpointPass {
	c := fsm.CheckpointPass{ID: p.logged.ID, From: p.logged.Cursor, Cursor: steps[len(steps)-1].cursor, Filled: p.logged.Filled, Estimate: p.estimate}
	sum := tally{counts: p.logged.Counts, expected: sumOf(p.logged.Expected), actual: sumOf(p.logged.Actual)}
	for _, s := range steps {
		sum.merge(s.tally)
		if s.example != nil {
			c.Samples = append(c.Samples, *s.example)
		}
		if s.found == nil || s.repair == repairNone || p.logged.Mode == fsm.PassDryRun {
			continue
		}
		c.Repairs = append(c.Repairs, *s.found)
		if s.repair == repairFill {
			c.Filled++
		}
	}
	sum.counts.Repaired += uint64(len(c.Repairs))
	c.Counts, c.Expected, c.Actual = sum.counts, passSum(sum.expected), passSum(sum.actual)
	return c
}

func sumOf(s fsm.PassSum) mapping.Sum   { return mapping.Sum{Count: s.Count, Hi: s.Hi, Lo: s.Lo} }
func passSum(s mapping.Sum) fsm.PassSum { return fsm.PassSum{Count: s.Count, Hi: s.Hi, Lo: s.Lo} }

// repairOf is what a confirmed difference asks for.
func (p *pass) repairOf(seen sandwich) repair {
	switch {
	case p.logged.Mode == fsm.PassInvalidate && !seen.present():
		return repairNone
	case p.logged.Fill && seen.look.verdict == mapping.Missing:
		return repairFill
	}
	return repairKeys
}

// classUnverified is shown of a key whose value nobody can judge: readers fill it.
const classUnverified = "unverified"

// example keeps a difference to be shown, as long as the pass has room for it. What the mapping masks is not in it.
func (p *pass) example(s *suspect, v sandwich) *fsm.Difference {
	if p.samples >= fsm.SamplesMax {
		return nil
	}
	p.samples++
	class := v.look.verdict.String()
	if !p.mapping.NeedsRow() {
		class = classUnverified
	}
	return &fsm.Difference{PK: s.ref.PK, Key: p.mapping.Keys(s.key)[v.look.at], Class: class,
		Expected: p.mapping.ShowRow(v.row, fsm.SampleBytesMax), Actual: p.mapping.ShowActual(v.actual[v.look.at], fsm.SampleBytesMax)}
}
