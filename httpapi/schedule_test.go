package httpapi

import (
	"fmt"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// TestSchedule_ComingSlotsAreInItsZoneAndWindow: three of them, each later than the one before.
func TestSchedule_ComingSlotsAreInItsZoneAndWindow(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	e.do(put, "/v1/mappings/m", `{"table":"t"}`)
	r := e.do(put, "/v1/mappings/m/schedule", `{"cron":"30 */6 * * *","zone":"Asia/Kolkata","window":{"from":"22:00","to":"07:00"},"extras":false,"cap":5}`)
	version := into[api.ScheduleVersion](t, r).Version
	got := e.do(get, "/v1/mappings/m/schedule", "")
	s := into[api.Schedule](t, got)
	if s.Version != version || got.header.Get("Etag") != fmt.Sprintf(`"%d"`, version) || *s.Cap != 5 || *s.CapPercent != 0 || s.LastSlot != "" || len(s.Next) != 3 {
		t.Fatalf("%+v, %v", s, got.header)
	}
	before := time.Now()
	for _, text := range s.Next {
		next, err := time.Parse(time.RFC3339, text)
		if err != nil || !next.After(before) || next.Minute() != 30 || next.Hour() != 0 && next.Hour() != 6 || text[len(text)-6:] != "+05:30" {
			t.Errorf("%s after %v: %v", text, before, err)
		}
		before = next
	}
}

// TestSchedule_SlotsAreToldOnceTheyCame: when the schedule was put is none.
func TestSchedule_SlotsAreToldOnceTheyCame(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	e.do(put, "/v1/mappings/m", `{"table":"t"}`)
	version := into[api.ScheduleVersion](t, e.do(put, "/v1/mappings/m/schedule", `{"cron":"@hourly"}`)).Version
	slot := uint64(time.Now().UnixMilli()) + 1_000
	pass := e.must(fsm.StartPass{Mapping: "m", Slot: slot}).Pass.ID
	e.must(fsm.StartPass{Mapping: "m", Slot: slot + 1_000})
	s := into[api.Schedules](t, e.do(get, "/v1/schedules", "")).Schedules[0]
	want := time.UnixMilli(int64(slot + 1_000)).UTC().Format(time.RFC3339)
	if s.LastPass != pass || s.Skipped != 1 || s.LastSlot != want {
		t.Errorf("%+v, want slot %s", s, want)
	}
	if p := e.pass(pass); p.Slot == "" {
		t.Errorf("%+v", p)
	}
	if p := e.do(put, "/v1/mappings/m/schedule", `{"cron":"@daily"}`, "If-Match", fmt.Sprint(version+1)).problem(t); p.Code != api.CodeVersionMismatch {
		t.Errorf("%+v", p)
	}
	if r := e.do(remove, "/v1/mappings/m/schedule", "", "If-Match", fmt.Sprint(version)); r.status != 204 {
		t.Errorf("%d %s", r.status, r.body)
	}
}
