// Package schedule works out when something that is planned by a cron expression is due, and when it may run. It knows no passes and starts nothing.
//
// # Purpose
//
// A [Plan] has slots, the moments of its expression, and a window of the day. [Plan.Next] gives the next slot inside the window, [Plan.Open] tells whether the window is open, [Delay] spreads what
// would begin at the same moment.
//
// # Invariants
//
//   - What Next gives depends on nothing but the plan and the moment asked for: two nodes find the same slots. (TestPlan_SlotsDoNotDependOnWhoAsks)
//   - A plan that was parsed has a slot: one whose window lets none through is refused. (TestParse_RefusesWhatCannotBePlanned)
//   - A time of the day that a change of the clock repeats is one slot, unless the expression names no hour; one that it leaves out is none. (TestPlan_SlotsOverChangesOfTheClock)
//   - The window is half-open, and may begin in the evening and end in the morning. (TestPlan_WindowOverMidnight)
//
// # Ownership
//
// A Plan is immutable.
//
// # Time
//
// The caller's. Zones come from the machine's tz database, or from the one that is built in where the machine has none.
//
// # Limits
//
// An expression has five fields or is @hourly, @daily, @weekly or @monthly. Next looks at slotsMax slots of the expression, which is more than two days have minutes.
//
// # Not here
//
// Who took which slot (fsm), what is done with it (reconcile).
package schedule
