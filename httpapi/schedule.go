package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/reconcile/schedule"
)

// slotsShown are the coming slots of a schedule that an answer tells.
const slotsShown = 3

func (s *Server) putSchedule() operation[api.PutSchedule, api.ScheduleVersion] {
	return operation[api.PutSchedule, api.ScheduleVersion]{s: s, name: api.OpPutSchedule,
		plan: func(ctx context.Context, c call[api.PutSchedule]) (fsm.Command, error) {
			b, window := c.body, windowOf(c.body)
			if p := checkSchedule(b, window); p != nil {
				return nil, p
			}
			options, err := s.passOptions(ctx, c.subject, &b.PassOptions)
			if err != nil {
				return nil, err
			}
			return fsm.PutSchedule{Mapping: c.subject, PassOptions: options, Cron: b.Cron, Zone: b.Zone, JitterMs: b.JitterMs, WindowFrom: window.From, WindowTo: window.To,
				IfVersion: c.ifMatch, WallMs: wallMs()}, nil
		},
		answer: func(r fsm.Result) (api.ScheduleVersion, int) {
			return api.ScheduleVersion{Version: r.Schedule.Version}, http.StatusOK
		},
	}
}

func windowOf(b *api.PutSchedule) api.PassWindow {
	if b.Window == nil {
		return api.PassWindow{}
	}
	return *b.Window
}

// checkSchedule finds out what of a schedule is wrong by leaving the rest of it out.
func checkSchedule(b *api.PutSchedule, window api.PassWindow) *refusal {
	for _, part := range []struct{ field, cron, zone, from, to string }{
		{"body.cron", b.Cron, "", "", ""},
		{"body.zone", "@daily", b.Zone, "", ""},
		{"body.window", "@hourly", "", window.From, window.To},
		{"body", b.Cron, b.Zone, window.From, window.To},
	} {
		if _, err := schedule.Parse(part.cron, part.zone, part.from, part.to); err != nil {
			return invalid(part.field, err.Error())
		}
	}
	return nil
}

func (s *Server) deleteSchedule() operation[nothing, nothing] {
	return operation[nothing, nothing]{s: s, name: api.OpDeleteSchedule,
		plan: func(_ context.Context, c call[nothing]) (fsm.Command, error) {
			return fsm.DeleteSchedule{Mapping: c.subject, IfVersion: c.ifMatch}, nil
		},
	}
}

func findSchedule(v view, mapping string) (api.Schedule, uint64, fsm.Code) {
	x, ok := v.Schedule(mapping)
	if !ok {
		return api.Schedule{}, 0, fsm.CodeScheduleNotFound
	}
	return scheduleOf(x, time.Now()), x.Version, ""
}

func listSchedules(v view, _ *Listing, p *page) api.Schedules {
	out, now := api.Schedules{Schedules: []api.Schedule{}}, time.Now()
	v.Schedules(func(x fsm.Schedule) bool {
		if x.Mapping < p.from() {
			return true
		}
		take, further := p.row(x.Mapping, true)
		if take {
			out.Schedules = append(out.Schedules, scheduleOf(x, now))
		}
		return further
	})
	out.Page = p.head()
	return out
}

func scheduleOf(x fsm.Schedule, now time.Time) api.Schedule {
	limit, percent := x.Cap, x.CapPercent
	out := api.Schedule{Mapping: x.Mapping, Version: x.Version, Next: []string{}, LastPass: x.LastPass, Skipped: x.Skipped, Index: x.Index,
		PutSchedule: api.PutSchedule{Cron: x.Cron, Zone: x.Zone, JitterMs: x.JitterMs, PassOptions: api.PassOptions{Mode: string(x.Mode), Range: rangeOf(x.PassOptions), Extras: x.Extras,
			FillMissing: x.Fill, Cap: &limit, CapPercent: &percent, ConfirmDelayMs: x.ConfirmMs, Rate: x.RateMax}}}
	if sampled(x.PassOptions) {
		out.Sample = float64(x.SamplePPM) / wholePPM
	}
	if x.WindowFrom != "" || x.WindowTo != "" {
		out.Window = &api.PassWindow{From: x.WindowFrom, To: x.WindowTo}
	}
	if x.LastPass != 0 || x.Skipped != 0 { // before, it is when the schedule was put
		out.LastSlot = time.UnixMilli(int64(x.LastSlot)).UTC().Format(time.RFC3339)
	}
	plan, err := schedule.Parse(x.Cron, x.Zone, x.WindowFrom, x.WindowTo)
	if err != nil {
		return out // another version took it
	}
	for next := plan.Next(now); !next.IsZero() && len(out.Next) < slotsShown; next = plan.Next(next) {
		out.Next = append(out.Next, next.Format(time.RFC3339))
	}
	return out
}
