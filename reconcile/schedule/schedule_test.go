package schedule

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func parse(t *testing.T, cron, zone, from, to string) Plan {
	t.Helper()
	p, err := Parse(cron, zone, from, to)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func moment(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// slots lists n slots after a moment, in UTC.
func slots(p Plan, after time.Time, n int) (out []string) {
	for range n {
		after = p.Next(after)
		out = append(out, after.UTC().Format("01-02 15:04"))
	}
	return out
}

func TestPlan_Slots(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ cron, zone, from, to, after, want string }{
		{"0 3 * * *", "", "", "", "2026-03-01T03:00:00Z", "[03-02 03:00 03-03 03:00]"},
		{"0 3 * * *", "", "", "", "2026-03-01T02:59:59.999Z", "[03-01 03:00 03-02 03:00]"},
		{"*/20 * * * *", "", "", "", "2026-03-01T03:21:00Z", "[03-01 03:40 03-01 04:00 03-01 04:20]"},
		{"@hourly", "", "", "", "2026-03-01T23:30:00Z", "[03-02 00:00 03-02 01:00]"},
		{"@daily", "Asia/Kolkata", "", "", "2026-03-01T00:00:00Z", "[03-01 18:30 03-02 18:30]"},
		{"@weekly", "", "", "", "2026-03-02T00:00:00Z", "[03-08 00:00 03-15 00:00]"},
		{"@monthly", "America/New_York", "", "", "2026-01-15T00:00:00Z", "[02-01 05:00 03-01 05:00 04-01 04:00]"},
		{"0 0 29 2 *", "", "", "", "2026-01-01T00:00:00Z", "[02-29 00:00]"},
		{"30 9 * * mon-fri", "Europe/Berlin", "", "", "2026-07-03T12:00:00Z", "[07-06 07:30 07-07 07:30]"},
		{"0 * * * *", "", "22:00", "01:00", "2026-03-01T12:00:00Z", "[03-01 22:00 03-01 23:00 03-02 00:00 03-02 22:00]"},
		{"* * * * *", "", "05:00", "05:01", "2026-03-01T05:00:00Z", "[03-02 05:00 03-03 05:00]"},
	} {
		p := parse(t, test.cron, test.zone, test.from, test.to)
		n := 1 + (len(test.want)-len("[01-02 15:04]"))/len(" 01-02 15:04")
		if got := fmt.Sprint(slots(p, moment(t, test.after), n)); got != test.want {
			t.Errorf("%s %s %s-%s after %s: %s, want %s", test.cron, test.zone, test.from, test.to, test.after, got, test.want)
		}
	}
}

// Berlin's clocks go from 2 to 3 on 29 March 2026, and from 3 to 2 on 25 October; those of Lord Howe by half an hour on 5 April.
func TestPlan_SlotsOverChangesOfTheClock(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, cron, zone, after, want string
		n                             int
	}{
		{"an hour of the night that there is twice", "30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "[10-25 00:30 10-26 01:30]", 2},
		{"and that there is not", "30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", "[03-28 01:30 03-30 00:30]", 2},
		{"the same time of the day", "0 6 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", "[03-28 05:00 03-29 04:00 03-30 04:00]", 3},
		{"every hour goes on", "0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", "[10-25 00:00 10-25 01:00 10-25 02:00]", 3},
		{"every hour goes on in spring", "0 * * * *", "Europe/Berlin", "2026-03-28T23:30:00Z", "[03-29 00:00 03-29 01:00 03-29 02:00]", 3},
		{"half an hour", "45 1 * * *", "Australia/Lord_Howe", "2026-04-03T16:00:00Z", "[04-04 14:45 04-05 15:15]", 2},
	} {
		p := parse(t, test.cron, test.zone, "", "")
		if got := fmt.Sprint(slots(p, moment(t, test.after), test.n)); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

func TestPlan_WindowOverMidnight(t *testing.T) {
	t.Parallel()
	p := parse(t, "@hourly", "Europe/Berlin", "22:30", "05:00")
	for at, want := range map[string]bool{
		"2026-07-01T22:29:59+02:00": false, "2026-07-01T22:30:00+02:00": true, "2026-07-02T00:00:00+02:00": true, "2026-07-02T04:59:59+02:00": true,
		"2026-07-02T05:00:00+02:00": false, "2026-01-01T21:30:00Z": true, "2026-01-01T21:29:00Z": false,
	} {
		if p.Open(moment(t, at)) != want {
			t.Errorf("%s: open %v", at, !want)
		}
	}
	day := parse(t, "@hourly", "", "09:00", "17:00")
	for at, want := range map[string]bool{"2026-07-01T08:59:00Z": false, "2026-07-01T09:00:00Z": true, "2026-07-01T16:59:59Z": true, "2026-07-01T17:00:00Z": false} {
		if day.Open(moment(t, at)) != want {
			t.Errorf("%s: open %v", at, !want)
		}
	}
	if !(Plan{}).Open(time.Now()) || !(Plan{}).Next(time.Now()).IsZero() {
		t.Error("the zero plan is not what it says")
	}
}

func TestPlan_SlotsDoNotDependOnWhoAsks(t *testing.T) {
	t.Parallel()
	p := parse(t, "15 */3 * * *", "Europe/Berlin", "20:00", "10:00")
	from, end := moment(t, "2026-03-25T00:00:00Z"), moment(t, "2026-04-03T00:00:00Z")
	var all []time.Time
	for at := p.Next(from); at.Before(end); at = p.Next(at) {
		all = append(all, at)
	}
	next := 0
	for at := from; at.Before(all[len(all)-1]); at = at.Add(7 * time.Minute) {
		for !all[next].After(at) {
			next++
		}
		for _, zone := range []*time.Location{time.UTC, time.FixedZone("x", -9*3600)} {
			if got := p.Next(at.In(zone)); !got.Equal(all[next]) {
				t.Fatalf("after %s: %s, want %s", at, got, all[next])
			}
		}
	}
}

func TestParse_RefusesWhatCannotBePlanned(t *testing.T) {
	t.Parallel()
	for _, test := range [][4]string{
		{"", "", "", ""}, {"* * * *", "", "", ""}, {"0 * * * * *", "", "", ""}, {"61 * * * *", "", "", ""}, {"@every 5m", "", "", ""}, {"@reboot", "", "", ""}, {"@yearly", "", "", ""},
		{"TZ=UTC", "", "", ""}, {"TZ=Europe/Berlin 0 3 * * *", "", "", ""}, {"CRON_TZ=UTC * * * *", "", "", ""}, {"0 0 31 2 *", "", "", ""}, {"@daily ", "", "", ""},
		{"@daily", "Europe/Nowhere", "", ""}, {"@daily", "Local", "", ""}, {"@daily", "../etc", "", ""},
		{"@daily", "", "22:00", ""}, {"@daily", "", "", "05:00"}, {"@daily", "", "22:00", "22:00"}, {"@daily", "", "24:00", "05:00"}, {"@daily", "", "2:00", "05:00"}, {"@daily", "", "02:00:00", "05:00"},
		{"0 12 * * *", "", "22:00", "05:00"},
	} {
		if p, err := Parse(test[0], test[1], test[2], test[3]); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %+v, %v", test, p, err)
		}
	}
}

func TestDelay_IsBelowItsLimitTheSameForAllAndSpread(t *testing.T) {
	t.Parallel()
	const limit, names = 10 * time.Minute, 2_000
	slot := moment(t, "2026-03-01T03:00:00Z")
	var buckets [10]int
	for i := range names {
		name := fmt.Sprintf("mapping-%d", i)
		d := Delay(name, slot, limit)
		if d < 0 || d >= limit || d != Delay(name, slot.In(time.FixedZone("x", 3600)), limit) {
			t.Fatalf("%s: %s", name, d)
		}
		buckets[d*10/limit]++
	}
	for i, n := range buckets {
		if n < names/20 || n > names/5 {
			t.Errorf("%d of %d delays are in tenth %d", n, names, i+1)
		}
	}
	if Delay("a", slot, limit) == Delay("a", slot.Add(24*time.Hour), limit) {
		t.Error("each day the same")
	}
	if Delay("a", slot, 0) != 0 {
		t.Error("a delay without a limit")
	}
}
