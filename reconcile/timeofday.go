package reconcile

import (
	"time"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/reconcile/schedule"
)

// windowEvery is how often the time of the day is looked at while a pass has a window.
const windowEvery = time.Second

// windows keeps the plans of the mappings whose schedule has a window.
type windows map[string]plannedWindow

type plannedWindow struct {
	version uint64
	plan    schedule.Plan
}

// open tells whether the pass has a window, and whether it is open. A pass that somebody asked for has none. Neither has one whose schedule went meanwhile, or cannot be read any more: it is to end some time.
func (w windows) open(log Log, p fsm.Pass, now time.Time) (windowed, open bool) {
	if p.Slot == 0 {
		return false, true
	}
	var planned fsm.Schedule
	log.View(func(s *fsm.State) { planned, _ = s.Schedule(p.Mapping) })
	if planned.WindowFrom == "" {
		return false, true
	}
	known, ok := w[p.Mapping]
	if !ok || known.version != planned.Version {
		plan, err := schedule.Parse(planned.Cron, planned.Zone, planned.WindowFrom, planned.WindowTo)
		if err != nil {
			return false, true
		}
		known = plannedWindow{version: planned.Version, plan: plan}
		w[p.Mapping] = known
	}
	return true, known.plan.Open(now)
}
