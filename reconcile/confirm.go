package reconcile

import (
	"context"
	"time"

	"github.com/quiescehq/quiesce/mysql"
)

// waiting are open rows whose last sandwich is taken, and which only the relay of the outbox table can still explain. There is one batch of them at a time, and the scan goes on
// meanwhile.
type waiting struct {
	rows  []*stretch
	seen  []sandwich
	since time.Time
}

// confirmDue rules on the open rows that are old enough.
func (p *pass) confirmDue(ctx context.Context) error {
	for {
		p.settleWaiting()
		now := p.log.Now()
		if len(p.waiting.rows) > 0 || now < p.logged.ConfirmMs {
			break
		}
		batch := p.window.due(now-p.logged.ConfirmMs, mysql.BatchRowsMax)
		if len(batch) == 0 {
			break
		}
		if err := p.confirm(ctx, batch); err != nil {
			return err
		}
	}
	open := p.window.open
	p.progress.update(func(shown *Progress) { shown.Open = open })
	return nil
}

func (p *pass) confirm(ctx context.Context, batch []*stretch) error {
	suspects := make([]*suspect, len(batch))
	for i, s := range batch {
		suspects[i] = s.open
	}
	seen, err := p.reread(ctx, suspects)
	if err != nil {
		return err
	}
	p.waiting = waiting{rows: batch, seen: seen, since: time.Now()}
	return nil
}

// settleWaiting asks about the rows that wait, and keeps those for which the relay has not come far enough. After RelayWait they are hot: nobody can say what is on its way to them.
func (p *pass) settleWaiting() {
	w := p.waiting
	p.waiting = waiting{}
	if len(w.rows) == 0 {
		return
	}
	late := time.Since(w.since) >= p.config.RelayWait
	suspects := make([]*suspect, len(w.rows))
	for i, s := range w.rows {
		suspects[i] = s.open
	}
	p.interrogate(suspects, w.seen)
	for i, s := range w.rows {
		ruling := s.open.confirm(w.seen[i])
		if ruling == ruledWait && !late {
			p.waiting.since = w.since
			p.waiting.rows, p.waiting.seen = append(p.waiting.rows, s), append(p.waiting.seen, w.seen[i])
			continue
		}
		p.close(s, w.seen[i], ruling)
	}
}

// close gives an open row its verdict, unless it was opened anew.
func (p *pass) close(s *stretch, seen sandwich, ruling ruling) {
	switch ruling {
	case ruledHot, ruledWait:
		s.tally.countHot()
	case ruledMatch:
		s.tally.count(seen.look)
	case ruledConfirmed:
		s.tally.count(seen.look)
		s.found, s.repair, s.example = &s.open.ref, p.repairOf(seen), p.example(s.open, seen)
	default:
		return
	}
	s.open = nil
	p.window.open--
}
