package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mysql"
)

// mover relays one outbox table. Its fields belong to the goroutine of run.
type mover struct {
	task   *Task
	name   string
	source Source
	place  *place
	logger *slog.Logger

	fails  complaint
	logged []uint64 // rows that the log has and the table may still have: they are only deleted. At most one reading's
	limit  int      // rows of the next reading
	poll   time.Duration
}

func newMover(t *Task, name string) *mover {
	logger := t.Logger.With("source", name)
	return &mover{task: t, name: name, source: t.Sources[name], place: t.places[name], logger: logger, limit: t.config.RowsMax, poll: t.config.PollMin,
		fails: complaint{logger: logger, what: "rows of the outbox table are not relayed"}}
}

// run moves rows until ctx ends. A nudge cuts the wait short, but not that after a failure.
func (m *mover) run(ctx context.Context) error {
	pauses, stop := m.task.Log.Watch("pauses", "")
	defer stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		nudged := m.place.nudged
		if m.fails.failures > 0 {
			nudged = nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-pauses:
		case <-nudged:
			m.poll = m.task.config.PollMin
		case <-timer.C:
		}
		timer.Reset(m.step(ctx))
	}
}

var errFull = errors.New("as many events are pending as may be")

// step moves one batch and tells when to go on.
func (m *mover) step(ctx context.Context) time.Duration {
	if m.task.paused(m.name) {
		m.place.update(func(s *Status) { s.State, s.Detail = StatePaused, "" })
		return aLongTime // the end of a pause wakes
	}
	began := time.Now()
	read, whole, err := m.move(ctx)
	switch {
	case ctx.Err() != nil:
		return aLongTime
	case errors.Is(err, errFull):
		m.fails.recover()
		m.limit = max(m.limit/2, 1) // there may be room for a few
		m.place.update(func(s *Status) { s.State, s.Detail = StateFull, "" })
		return m.task.config.FullWait
	case err != nil:
		m.fails.fail(reason(err), err)
		m.place.update(func(s *Status) { s.State, s.Detail = StateFailing, reason(err) })
		return doubling(m.task.config.RetryMin, m.task.config.RetryMax, m.fails.failures)
	}
	m.fails.recover()
	m.limit = min(2*m.limit, m.task.config.RowsMax)
	m.place.update(func(s *Status) { s.State, s.Detail = StateRunning, "" })
	return m.pace(read, whole, time.Since(began))
}

// pace: a table that fills is read again at once, one that gets rows soon, a quiet one seldom. Where reading is slow (rows that are deleted and
// not purged, as long as some transaction may see them), it takes up at most half of the time.
func (m *mover) pace(read int, whole bool, took time.Duration) time.Duration {
	switch {
	case !whole:
		return 0
	case read > 0:
		m.poll = m.task.config.PollMin
	default:
		m.poll = min(2*m.poll, m.task.config.PollMax)
	}
	return max(m.poll, min(took, m.task.config.RetryMax))
}

// move reads the first rows, has the log take them, and removes them, in this order: whatever it is that fails in between, rows are relayed once
// more and never less. whole is false while there may be more.
func (m *mover) move(ctx context.Context) (read int, whole bool, err error) {
	if err := m.forget(ctx); err != nil {
		return 0, false, err
	}
	limit := m.limit
	reading := m.place.begun.Add(1) // before the statement begins: who took a mark until now gets a later reading
	batch, err := m.source.Read(ctx, limit)
	if err != nil {
		return 0, false, err
	}
	m.place.update(func(s *Status) { s.Oldest = batch.Oldest })
	sorted, err := m.sort(ctx, batch.Rows)
	if err != nil {
		return 0, false, err
	}
	if len(sorted.rows) > 0 {
		if err := m.enqueue(ctx, sorted.rows); err != nil {
			return 0, false, err
		}
	}
	m.logged = sorted.accepted
	if err := m.refuse(ctx, sorted.refused); err != nil {
		return 0, false, err
	}
	if whole = len(batch.Rows) < limit; whole {
		m.place.reached(reading)
	}
	m.place.update(func(s *Status) { s.RelayedTotal += uint64(len(sorted.accepted)) })
	return len(batch.Rows), whole, m.forget(ctx)
}

// enqueue makes events of rows, in one entry.
func (m *mover) enqueue(ctx context.Context, rows []fsm.RowRef) error {
	result, err := m.task.propose(ctx, fsm.EnqueueEvents{Events: rows})
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errNotLogged, err)
	case result.Code == fsm.CodeOutboxFull:
		return errFull
	case result.Refused(): // a mapping that went meanwhile: the next look knows
		return fmt.Errorf("%w: %s: %s", errNotLogged, result.Code, result.Detail)
	}
	return nil
}

// forget deletes what the log has.
func (m *mover) forget(ctx context.Context) error {
	if len(m.logged) == 0 {
		return nil
	}
	if err := m.source.Delete(ctx, m.logged); err != nil {
		return err
	}
	m.logged = nil
	return nil
}

// refuse sets aside what cannot become events.
func (m *mover) refuse(ctx context.Context, refused []mysql.Refusal) error {
	if len(refused) == 0 {
		return nil
	}
	if err := m.source.Refuse(ctx, refused); err != nil {
		return err
	}
	m.logger.Warn("rows of the outbox table are not what the relay can accept; they are in quiesce_refused", "rows", len(refused), "first", refused[0].ID, "reason", refused[0].Reason)
	m.place.update(func(s *Status) { s.RefusedTotal += uint64(len(refused)) })
	return nil
}

var errNotLogged = errors.New("the log did not take the rows")

// reason is what a failure is called in a status: never a driver's text.
func reason(err error) string {
	for _, known := range []error{mysql.ErrNoTables, mysql.ErrUnreachable, mysql.ErrDenied, mysql.ErrNotPrimary, mysql.ErrTableChanged, errNotLogged, errMapper} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return "failed"
}
