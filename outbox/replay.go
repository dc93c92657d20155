package outbox

import (
	"time"

	"github.com/quiescehq/quiesce/fsm"
)

// WrittenSince gives the rows of a target whose keys may have been written from the given moment on: settled since, or under way. covered is false when some may
// have been forgotten, or were another leader's. A target that lost its writes since then gets them again by events for these rows.
// It must not be called inside Log.View.
func (t *Task) WrittenSince(target string, since time.Time) (rows []fsm.RowRef, covered bool) {
	t.mu.Lock()
	r := t.current
	t.mu.Unlock()
	if r == nil {
		return nil, false
	}
	of := map[string]bool{}
	t.log.View(func(s *fsm.State) {
		s.Mappings("", func(m fsm.Mapping) bool { of[m.Name] = m.Target == target; return true })
	})
	return r.ledger.writtenSince(since, func(row fsm.RowRef) bool { return of[row.Mapping] })
}

func (l *ledger) writtenSince(since time.Time, wanted func(fsm.RowRef) bool) (rows []fsm.RowRef, covered bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := map[fsm.RowRef]bool{}
	for row := range l.claims {
		found[row] = wanted(row)
	}
	for i := range l.ring {
		if s := &l.ring[i]; !s.at.Before(since) {
			found[s.row] = wanted(s.row)
		}
	}
	for row, of := range found {
		if of {
			rows = append(rows, row)
		}
	}
	return rows, since.After(l.since)
}
