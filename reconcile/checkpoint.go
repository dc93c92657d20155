package reconcile

import (
	"context"
	"fmt"
	"strings"
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

// checkpoint logs one step. In a rewrite it stops the pass at the first difference beyond its cap.
func (p *pass) checkpoint(ctx context.Context) error {
	if _, err := p.mappingRecord(); err != nil {
		return err
	}
	limit := fsm.RepairsBatchMax
	left := uint64(limit)
	if p.logged.Mode == fsm.PassRewrite {
		left = p.logged.Cap - min(p.logged.Cap, p.logged.Counts.Repaired)
		limit = int(min(uint64(limit), left))
	}
	steps, more := p.window.take(limit)
	if len(steps) > 0 {
		if err := p.logSteps(ctx, steps); err != nil {
			return err
		}
	}
	if more != nil && uint64(limit) == left && p.logged.Mode == fsm.PassRewrite {
		return &failure{fmt.Sprintf("cap exceeded: %d rows are being repaired, as many as this pass may, and more differ, the next is %s",
			p.logged.Counts.Repaired, more.PK)}
	}
	return nil
}

func (p *pass) logSteps(ctx context.Context, steps []*stretch) error {
	c := p.step(steps)
	answer, err := p.propose(ctx, c)
	if err != nil {
		return err
	}
	if answer.Refused() {
		// Most likely an earlier attempt was applied and its answer lost. Going on from the record is right whatever happened.
		return fmt.Errorf("%w: %s", errMoved, answer.Detail)
	}
	p.logged.Cursor, p.logged.Counts, p.logged.Expected, p.logged.Actual = c.Cursor, c.Counts, c.Expected, c.Actual
	p.saved = time.Now()
	return nil
}

// step adds steps to what is logged.
func (p *pass) step(steps []*stretch) fsm.CheckpointPass {
	c := fsm.CheckpointPass{ID: p.logged.ID, From: p.logged.Cursor, Cursor: steps[len(steps)-1].cursor}
	sum := tally{counts: p.logged.Counts, expected: sumOf(p.logged.Expected), actual: sumOf(p.logged.Actual)}
	for _, s := range steps {
		sum.merge(s.tally)
		if s.example != nil {
			c.Samples = append(c.Samples, *s.example)
		}
		if s.found != nil && p.logged.Mode == fsm.PassRewrite {
			c.Repairs = append(c.Repairs, *s.found)
		}
	}
	sum.counts.Repaired += uint64(len(c.Repairs))
	c.Counts, c.Expected, c.Actual = sum.counts, passSum(sum.expected), passSum(sum.actual)
	return c
}

func sumOf(s fsm.PassSum) mapping.Sum   { return mapping.Sum{Count: s.Count, Hi: s.Hi, Lo: s.Lo} }
func passSum(s mapping.Sum) fsm.PassSum { return fsm.PassSum{Count: s.Count, Hi: s.Hi, Lo: s.Lo} }

// example keeps a difference to be shown, as long as the pass has room for it.
func (p *pass) example(s *suspect, v sandwich) *fsm.Difference {
	if p.samples >= fsm.SamplesMax {
		return nil
	}
	p.samples++
	d := fsm.Difference{PK: s.ref.PK, Key: p.mapping.Keys(s.key)[v.look.at], Class: v.look.verdict.String(), Actual: show(v.actual[v.look.at])}
	if writes, err := p.mapping.AppendWrites(nil, s.key, v.row, 0); err == nil {
		d.Expected = showValue(writes[v.look.at].Value, writes[v.look.at].Fields)
	}
	return &d
}

func show(a mapping.Actual) string {
	switch a.Type {
	case mapping.TypeNone:
		return ""
	case mapping.TypeString, mapping.TypeHash:
		return showValue(a.Value, a.Fields)
	}
	return "(" + a.Type + ")"
}

// showValue gives text that fits a sample, in valid UTF-8: the record travels as JSON.
func showValue(value []byte, fields []mapping.Field) string {
	var b strings.Builder
	if fields == nil {
		b.Write(value[:min(len(value), fsm.SampleBytesMax)])
	}
	for _, f := range fields {
		if b.Len() > fsm.SampleBytesMax {
			break
		}
		if !f.Null {
			fmt.Fprintf(&b, "%s=%s ", f.Name, f.Value[:min(len(f.Value), fsm.SampleBytesMax)])
		}
	}
	text := strings.TrimSuffix(b.String(), " ")
	return strings.ToValidUTF8(text[:min(len(text), fsm.SampleBytesMax)], "")
}
