package api

// PutSchedule has a pass over a mapping begin again and again.
type PutSchedule struct {
	Cron     string      `json:"cron" minLength:"1" maxLength:"256" doc:"Five fields (minute, hour, day, month, weekday), or @hourly, @daily, @weekly, @monthly"`
	Zone     string      `json:"zone,omitempty" maxLength:"256" doc:"Of the cron expression and the window, such as Europe/Berlin; UTC without it"`
	JitterMs uint64      `json:"jitter_ms,omitempty" maximum:"86400000" doc:"A pass begins up to this late, so that mappings do not all begin at once"`
	Window   *PassWindow `json:"window,omitempty" doc:"When passes may begin and run"`
	PassOptions
}

// PassWindow is a time of the day. It may go over midnight.
type PassWindow struct {
	From string `json:"from" pattern:"^([01][0-9]|2[0-3]):[0-5][0-9]$" doc:"HH:MM"`
	To   string `json:"to" pattern:"^([01][0-9]|2[0-3]):[0-5][0-9]$" doc:"HH:MM; a pass that is not over then stands still until the next window"`
}

// ScheduleVersion answers the PUT of a schedule.
type ScheduleVersion struct {
	Version uint64 `json:"version"`
}

// Schedule is a schedule and what came of it.
type Schedule struct {
	Mapping string `json:"mapping"`
	Version uint64 `json:"version"`
	PutSchedule
	Next     []string `json:"next" doc:"The next three slots, in the schedule's zone; none: it never comes"`
	LastSlot string   `json:"last_slot,omitempty" format:"date-time" doc:"That began a pass or was skipped"`
	LastPass uint64   `json:"last_pass,omitempty" doc:"That a slot began"`
	Skipped  uint64   `json:"skipped,omitempty" doc:"Slots at which the pass before was not over"`
	Index    uint64   `json:"index" doc:"Revision of its last change"`
}

// Schedules is a page of schedules.
type Schedules struct {
	Page
	Schedules []Schedule `json:"schedules"`
}
