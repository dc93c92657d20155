package schedule

import (
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // for machines without one, such as a bare container

	"github.com/robfig/cron/v3"
)

const (
	minutesOfDay = 24 * 60
	// slotsMax: all times of the day that an expression names come within two of its days, whatever the day on which one begins to count.
	slotsMax = 3 * minutesOfDay

	fields = 5

	everyHour = 1<<24 - 1 // as the library notes it

	// stepMax is more than any zone ever turned its clock back.
	stepMax = 3 * time.Hour
)

// ErrInvalid means that a plan cannot be used. Its text says why, for whoever wrote it.
var ErrInvalid = errors.New("schedule invalid")

// The names that stand for an expression. @every is none: it counts from the start of a process, and there are several.
var descriptors = []string{"@hourly", "@daily", "@weekly", "@monthly"}

var parser = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

// Plan is a parsed schedule. The zero Plan has no slots and is always open.
type Plan struct {
	slots    *cron.SpecSchedule
	zone     *time.Location
	eachHour bool // the expression names no hour
	windowed bool
	from, to int // minutes of the day
}

// Parse reads a cron expression, the zone in which it and the window are meant (empty: UTC), and the window as HH:MM and HH:MM (both empty: all day). The error wraps [ErrInvalid].
func Parse(expression, zone, from, to string) (Plan, error) {
	var p Plan
	var err error
	if p.zone, err = loadZone(zone); err != nil {
		return Plan{}, err
	}
	if p.slots, err = parseCron(expression, p.zone); err != nil {
		return Plan{}, err
	}
	p.eachHour = p.slots.Hour&everyHour == everyHour
	if err := p.setWindow(from, to); err != nil {
		return Plan{}, err
	}
	if p.Next(time.Unix(0, 0)).IsZero() {
		return Plan{}, fmt.Errorf("%w: %q names no moment inside the window", ErrInvalid, expression)
	}
	return p, nil
}

// loadZone refuses the machine's own zone: two machines may differ in it.
func loadZone(name string) (*time.Location, error) {
	if name == "Local" {
		return nil, fmt.Errorf("%w: zone %q is not the same on every node", ErrInvalid, name)
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("%w: no zone is called %q", ErrInvalid, name)
	}
	return zone, nil
}

// parseCron keeps from the library what it would take as well: a zone inside the expression, intervals, seconds.
func parseCron(expression string, zone *time.Location) (*cron.SpecSchedule, error) {
	named := slices.Contains(descriptors, expression)
	if !named && (strings.ContainsAny(expression, "@=") || len(strings.Fields(expression)) != fields) {
		return nil, fmt.Errorf("%w: %q is neither five fields (minute hour day month weekday) nor one of %s", ErrInvalid, expression, strings.Join(descriptors, " "))
	}
	parsed, err := parser.Parse(expression)
	if err != nil {
		return nil, fmt.Errorf("%w: %q: %w", ErrInvalid, expression, err)
	}
	spec, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return nil, fmt.Errorf("%w: %q names no times", ErrInvalid, expression)
	}
	spec.Location = zone
	return spec, nil
}

func (p *Plan) setWindow(from, to string) error {
	if from == "" && to == "" {
		return nil
	}
	var err error
	if p.from, err = timeOfDay(from); err != nil {
		return err
	}
	if p.to, err = timeOfDay(to); err != nil {
		return err
	}
	if p.from == p.to {
		return fmt.Errorf("%w: a window from %s to %s is never open", ErrInvalid, from, to)
	}
	p.windowed = true
	return nil
}

func timeOfDay(text string) (minutes int, err error) {
	t, err := time.Parse("15:04", text)
	if err != nil || len(text) != len("15:04") {
		return 0, fmt.Errorf("%w: %q is no time of the day, such as 22:30; a window has two", ErrInvalid, text)
	}
	return t.Hour()*60 + t.Minute(), nil
}

// Next is the first slot after a moment that lies inside the window; the zero time if there is none within years.
func (p Plan) Next(after time.Time) time.Time {
	if p.slots == nil {
		return time.Time{}
	}
	slot := after
	for range slotsMax {
		if slot = p.slots.Next(slot.In(p.zone)); slot.IsZero() {
			return slot
		}
		if p.Open(slot) && (p.eachHour || !p.repeats(slot)) {
			return slot
		}
	}
	return time.Time{}
}

// repeats tells whether the clocks of the zone showed the same time before, and were turned back.
func (p Plan) repeats(slot time.Time) bool {
	_, now := slot.In(p.zone).Zone()
	_, before := slot.Add(-stepMax).In(p.zone).Zone()
	if before <= now {
		return false
	}
	_, then := slot.Add(-time.Duration(before-now) * time.Second).In(p.zone).Zone()
	return then == before
}

// Open tells whether a moment lies inside the window.
func (p Plan) Open(now time.Time) bool {
	if !p.windowed {
		return true
	}
	local := now.In(p.zone)
	at := local.Hour()*60 + local.Minute()
	if p.from < p.to {
		return p.from <= at && at < p.to
	}
	return at >= p.from || at < p.to
}

// Delay is how long after its slot something begins: the same for all who ask, below the limit, and spread over it by name and slot.
func Delay(name string, slot time.Time, limit time.Duration) time.Duration {
	if limit <= 0 {
		return 0
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %s", slot.UnixMilli(), name)
	return time.Duration(mix(h.Sum64()) % uint64(limit)).Truncate(time.Millisecond)
}

// mix spreads the bits of a hash whose upper ones depend little on its last bytes.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	return x ^ x>>33
}
