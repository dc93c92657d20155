package reconcile

import (
	"context"
	"log/slog"
	"time"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/reconcile/schedule"
)

const (
	scheduleEvery = 500 * time.Millisecond // between two looks at the wall clock: it may be set
	scheduleRetry = 10 * time.Second       // after a slot that could not be proposed

	// slotAgeMax is how late a slot may be taken. After a longer silence nobody counts on it any more.
	slotAgeMax = time.Hour
)

// scheduler begins passes when their slots are due. Which slots were taken is in the replicated state, so that two leaders take none twice. It belongs to one goroutine.
type scheduler struct {
	log    Log
	clock  func() time.Time
	logger *slog.Logger
	known  map[string]*timetable // by mapping
}

// timetable is a schedule as it was parsed.
type timetable struct {
	version uint64
	plan    schedule.Plan
	broken  bool      // by a version of the program that knows more
	quiet   time.Time // nothing can be due before
	seen    uint64    // slot taken last, when quiet was worked out
}

func newScheduler(t *Task) *scheduler {
	return &scheduler{log: t.Log, clock: t.Clock, logger: t.Logger, known: map[string]*timetable{}}
}

func (s *scheduler) run(ctx context.Context) error {
	wake, stop := s.log.Watch("schedules", "")
	defer stop()
	ticker := time.NewTicker(scheduleEvery)
	defer ticker.Stop()
	for {
		s.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		case <-ticker.C:
		}
	}
}

// look takes every slot that is due.
func (s *scheduler) look(ctx context.Context) {
	var all []fsm.Schedule
	s.log.View(func(state *fsm.State) {
		state.Schedules(func(x fsm.Schedule) bool {
			all = append(all, x)
			return true
		})
	})
	now := s.clock()
	present := make(map[string]bool, len(all))
	for _, x := range all {
		present[x.Mapping] = true
		t := s.timetable(x)
		if slot := t.due(x, now); !slot.IsZero() {
			s.take(ctx, t, x, slot, now)
		}
	}
	for name := range s.known {
		if !present[name] {
			delete(s.known, name)
		}
	}
}

func (s *scheduler) timetable(x fsm.Schedule) *timetable {
	t := s.known[x.Mapping]
	if t == nil || t.version != x.Version {
		plan, err := schedule.Parse(x.Cron, x.Zone, x.WindowFrom, x.WindowTo)
		if err != nil {
			s.logger.Error("a schedule cannot be read, it begins no passes", "mapping", x.Mapping, "version", x.Version, "error", err)
		}
		t = &timetable{version: x.Version, plan: plan, broken: err != nil}
		s.known[x.Mapping] = t
	}
	return t
}

// due gives the slot that is to be taken now: the newest whose time has come, if that is not too long ago. The zero time is none.
func (t *timetable) due(x fsm.Schedule, now time.Time) (slot time.Time) {
	if t.broken || t.seen == x.LastSlot && now.Before(t.quiet) && t.quiet.Sub(now) <= slotAgeMax {
		return slot
	}
	jitter := time.Duration(x.JitterMs) * time.Millisecond
	after := now.Add(-slotAgeMax - jitter - time.Millisecond) // the next one is later than that
	if last := time.UnixMilli(int64(x.LastSlot)); last.After(after) {
		after = last
	}
	t.seen, t.quiet = x.LastSlot, now.Add(slotAgeMax)
	for next := t.plan.Next(after); !next.IsZero(); next = t.plan.Next(next) {
		if next.After(now) {
			t.sooner(next)
			break
		}
		switch begin := next.Add(schedule.Delay(x.Mapping, next, jitter)); {
		case begin.After(now):
			t.sooner(begin)
		case now.Sub(begin) <= slotAgeMax:
			slot = next
		}
	}
	return slot
}

func (t *timetable) sooner(at time.Time) {
	if at.Before(t.quiet) {
		t.quiet = at
	}
}

// take asks for the slot's pass. Whatever becomes of it, the state says which slot was taken last; only where nothing was taken is it asked again.
func (s *scheduler) take(ctx context.Context, t *timetable, x fsm.Schedule, slot, now time.Time) {
	t.quiet = now // until the state tells of the slot
	results, err := s.log.Propose(ctx, fsm.Op{Command: fsm.StartPass{Mapping: x.Mapping, Slot: uint64(slot.UnixMilli())}})
	if err != nil {
		return // it is found out at the next look
	}
	logger := s.logger.With("mapping", x.Mapping, "slot", slot.UTC().Format(time.RFC3339))
	switch r := results[0]; {
	case r.Code == fsm.CodeScheduleNotFound: // somebody else was faster, or it was deleted
	case r.Refused():
		logger.Warn("a pass could not begin at its time", "code", r.Code, "detail", r.Detail)
		t.quiet, t.seen = now.Add(scheduleRetry), x.LastSlot
	case r.Pass.ID == 0:
		logger.Warn("a pass did not begin at its time, the one before is not over")
	default:
		logger.Info("a pass begins at its time", "pass", r.Pass.ID)
	}
}
