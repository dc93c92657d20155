package fsm

// Schedule has a pass over a mapping begin again and again. The state keeps what was asked and which slot was taken last; the leader works out the slots.
type Schedule struct {
	Mapping string `cbor:"1,keyasint"`
	PassOptions
	Cron       string `cbor:"32,keyasint"`
	Zone       string `cbor:"33,keyasint,omitempty"` // of the cron expression and the window, as the tz database calls it; empty: UTC
	JitterMs   uint64 `cbor:"34,keyasint,omitempty"` // a pass begins up to this late, so that mappings do not all begin at once
	WindowFrom string `cbor:"35,keyasint,omitempty"` // time of the day, HH:MM, from which passes may begin and run
	WindowTo   string `cbor:"36,keyasint,omitempty"` // until which; a pass that is not over then stands still until the next window
	Version    uint64 `cbor:"37,keyasint"`           // from the token counter
	LastSlot   uint64 `cbor:"38,keyasint,omitempty"` // milliseconds of the wall clock
	LastPass   uint64 `cbor:"39,keyasint,omitempty"` // that a slot began
	Skipped    uint64 `cbor:"40,keyasint,omitempty"` // slots at which the pass before was not over
	Index      uint64 `cbor:"41,keyasint"`
}

// ScheduleResult answers the schedule commands.
type ScheduleResult struct {
	Version uint64 `cbor:"1,keyasint,omitempty" json:",omitempty"`
}

// PutSchedule gives a mapping a schedule, or another one; the same again changes nothing. Slots up to Now do not count: it begins with the next. IfVersion 0 asks nothing.
type PutSchedule struct {
	Mapping string `cbor:"1,keyasint"`
	PassOptions
	Cron       string `cbor:"32,keyasint"`
	Zone       string `cbor:"33,keyasint,omitempty"`
	JitterMs   uint64 `cbor:"34,keyasint,omitempty"`
	WindowFrom string `cbor:"35,keyasint,omitempty"`
	WindowTo   string `cbor:"36,keyasint,omitempty"`
	IfVersion  uint64 `cbor:"37,keyasint,omitempty"`
	WallMs     uint64 `cbor:"38,keyasint,omitempty"` // now, by the wall clock of who asks
}

func (PutSchedule) kind() Kind { return kindPutSchedule }

func (c PutSchedule) apply(s *State) Result {
	if !c.fit() || c.Cron == "" || len(c.Cron) > NameBytesMax || len(c.Zone) > NameBytesMax || len(c.WindowFrom) > timeOfDayBytes || len(c.WindowTo) > timeOfDayBytes ||
		c.JitterMs > WaitMaxMs || c.WallMs > TokenMax {
		return refuse(CodeInvalid, "schedule out of bounds")
	}
	if !s.mappings.has(c.Mapping) {
		return refuse(CodeMappingNotFound, "no such mapping: "+c.Mapping)
	}
	old, known := s.schedules.get(c.Mapping)
	if c.IfVersion != 0 && c.IfVersion != old.Version {
		return refuse(CodeVersionMismatch, "the schedule has another version")
	}
	next := Schedule{Mapping: c.Mapping, PassOptions: c.PassOptions, Cron: c.Cron, Zone: c.Zone, JitterMs: c.JitterMs, WindowFrom: c.WindowFrom, WindowTo: c.WindowTo,
		Version: old.Version, LastSlot: old.LastSlot, LastPass: old.LastPass, Skipped: old.Skipped, Index: old.Index}
	if known && next == old {
		return Result{Schedule: &ScheduleResult{Version: old.Version}}
	}
	next.Version, next.LastSlot, next.Index = s.nextToken(), max(old.LastSlot, c.WallMs), s.nextRevision()
	s.schedules.set(c.Mapping, next)
	return Result{Schedule: &ScheduleResult{Version: next.Version}}
}

const timeOfDayBytes = len("23:59")

// DeleteSchedule ends a schedule. A pass that it began goes on.
type DeleteSchedule struct {
	Mapping   string `cbor:"1,keyasint"`
	IfVersion uint64 `cbor:"2,keyasint,omitempty"`
}

func (DeleteSchedule) kind() Kind { return kindDeleteSchedule }

func (c DeleteSchedule) apply(s *State) Result {
	old, known := s.schedules.get(c.Mapping)
	switch {
	case !known:
		return refuse(CodeScheduleNotFound, "no such schedule")
	case c.IfVersion != 0 && c.IfVersion != old.Version:
		return refuse(CodeVersionMismatch, "the schedule has another version")
	}
	s.schedules.delete(c.Mapping)
	return Result{Schedule: &ScheduleResult{Version: old.Version}}
}

func (s *State) takeSlot(mapping string, slot, pass uint64) {
	planned, _ := s.schedules.get(mapping)
	planned.LastSlot, planned.LastPass, planned.Index = slot, pass, s.nextRevision()
	s.schedules.set(mapping, planned)
}

// skipSlot: the pass before is not over. Its slot is taken all the same, or it would be made up for at a time that nobody planned.
func (s *State) skipSlot(mapping string, slot uint64) Result {
	planned, _ := s.schedules.get(mapping)
	planned.LastSlot, planned.Index = slot, s.nextRevision()
	planned.Skipped++
	s.schedules.set(mapping, planned)
	return Result{Pass: &PassResult{}}
}

// Schedule gives the schedule of a mapping.
func (s *State) Schedule(mapping string) (Schedule, bool) { return s.schedules.get(mapping) }

// Schedules visits the schedules in the order of their mappings.
func (s *State) Schedules(visit func(Schedule) bool) {
	s.schedules.ascend("", func(_ string, x Schedule) bool { return visit(x) })
}
