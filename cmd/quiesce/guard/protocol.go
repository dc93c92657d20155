package guard

import (
	"time"

	"golang.org/x/sys/unix"
)

// The guard's ends of the two pipes.
const (
	ordersFD = 3
	newsFD   = 4
)

// Instant is a moment on the clock that asker and guard share.
type Instant int64

// Now reads it.
func Now() Instant {
	var t unix.Timespec
	if err := unix.ClockGettime(sharedClock, &t); err != nil {
		return 0 // before every instant that matters: asked for a clock that this system has, it does not fail
	}
	return Instant(t.Nano())
}

// In is the moment after d.
func In(d time.Duration) Instant { return Now() + Instant(d) }

// until is how long it is till then.
func (i Instant) until() time.Duration { return time.Duration(i - Now()) }

// Rest says what happens to processes that the command started and left behind when it ended.
type Rest string

const (
	EndRest   Rest = "end"   // SIGTERM, the grace, SIGKILL
	AwaitRest Rest = "wait"  // the command counts as running as long as they do
	LeaveRest Rest = "leave" // they run on
)

// Spec is what to run.
type Spec struct {
	Path  string        `json:"path"`
	Argv  []string      `json:"argv"` // with the name first
	Env   []string      `json:"env"`
	Grace time.Duration `json:"grace"` // between SIGTERM and SIGKILL
	Rest  Rest          `json:"rest"`
	Until Instant       `json:"until"`
	TTY   int           `json:"tty"` // descriptor of the terminal whose foreground the command gets, or NoTTY
}

// NoTTY is a Spec's TTY without one.
const NoTTY = -1

// order goes from the asker to the guard: the first has the Spec, each of the others one thing.
type order struct {
	Spec   *Spec   `json:"spec,omitempty"`
	Until  Instant `json:"until,omitempty"`  // the lock can be relied on till then
	Signal int     `json:"signal,omitempty"` // to pass on; with KillAt, to the command alone, which ends in its own way
	KillAt Instant `json:"kill_at,omitempty"`
}

// news goes back.
type news struct {
	Started int      `json:"started,omitempty"` // the command's process, which leads its group
	Stopped int      `json:"stopped,omitempty"` // signal that stopped it
	Outcome *Outcome `json:"outcome,omitempty"` // the last
}

// Outcome is how it ended.
type Outcome struct {
	Code   int    `json:"code"`             // exit code of the command
	Signal int    `json:"signal,omitempty"` // that killed it, else 0
	Cut    bool   `json:"cut,omitempty"`    // the guard ended it, because of the time or an order
	Rest   int    `json:"rest,omitempty"`   // processes that were left when the command had ended
	Fault  string `json:"fault,omitempty"`  // why it could not be started
}
