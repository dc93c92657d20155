package history

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Kind is what is done.
type Kind uint8

// What clients do.
const (
	Acquire Kind = iota + 1
	Attach       // asks how a ticket stands
	Release
	Cancel
	Downgrade
	HandOff
	Validate
	Look   // reads holders and queue
	Renew  // noted only when the session was gone
	Finish // closes the session
)

// What happens by itself; see complete.
const (
	Expire  Kind = iota + 100 // the end of a session
	TimeOut                   // the end of a wait
	Lapse                     // the end of a grant that nobody came for
)

var kindNames = map[Kind]string{Acquire: "acquire", Attach: "attach", Release: "release", Cancel: "cancel", Downgrade: "downgrade", HandOff: "hand off",
	Validate: "validate", Look: "look", Renew: "renew", Finish: "finish", Expire: "expire", TimeOut: "time out", Lapse: "lapse"}

// Outcome is what the caller learned.
type Outcome uint8

const (
	Unknown     Outcome = iota // applied or not
	Done                       // release, cancel, downgrade, hand-off, finish; a validation or a look that was answered
	Granted                    // acquire, attach
	Queued                     // acquire: it waits, or waited; attach: it still does
	Held                       // acquire: refused
	NotHolder                  // release, downgrade, hand-off: refused
	NoSuccessor                // hand-off: refused
	Gone                       // the session had ended
	TimedOut                   // attach: it waited in vain
	Ended                      // attach: cancelled, lapsed, or given back since; cancel: too late
	Lost                       // attach, cancel: there is no such ticket, which nobody may hear
)

var outcomeNames = map[Outcome]string{Unknown: "?", Done: "done", Granted: "granted", Queued: "queued", Held: "held", NotHolder: "not the holder",
	NoSuccessor: "no successor", Gone: "gone", TimedOut: "timed out", Ended: "ended", Lost: "no such ticket"}

// Mode of a lock.
type Mode uint8

const (
	Exclusive Mode = iota
	Shared
	Permits
)

// Want is a name that somebody asks for.
type Want struct {
	Name           string
	Mode           Mode
	Permits, Limit int
}

// Grant is what a client knows of a lock that it holds.
type Grant struct {
	Name  string
	Token uint64
	Count int `json:",omitempty"`
}

// Seen is a lock as a look shows it.
type Seen struct {
	Name    string
	Holders []Holder
	Queue   []Waiting
}

// Holder is one grant of a lock that is looked at.
type Holder struct {
	Session, Owner string
	Token          uint64
	Permits, Count int
}

// Waiting is one place in a queue that is looked at.
type Waiting struct {
	Session string
	Ticket  uint64
}

// Op is one operation. Its fields up to Call are what was asked, those from Outcome on what was answered.
type Op struct {
	ID      int
	Client  int
	Kind    Kind
	Session string
	Owner   string        `json:",omitempty"`
	Wants   []Want        `json:",omitempty"` // Acquire
	Wait    time.Duration `json:",omitempty"` // Acquire: 0 for a try
	Claim   time.Duration `json:",omitempty"`
	Counts  bool          `json:",omitempty"` // Acquire: reentrant
	Grants  []Grant       `json:",omitempty"` // Release; Downgrade, HandOff and Validate: one; Look: the names
	Ticket  uint64        `json:",omitempty"` // Attach, Cancel
	Of      int           `json:",omitempty"` // Attach, Cancel, TimeOut, Lapse: the acquire; found by its ticket when 0
	To      string        `json:",omitempty"` // HandOff
	Call    int64

	Outcome Outcome
	Got     []Grant `json:",omitempty"` // Acquire, Attach
	Told    uint64  `json:",omitempty"` // Acquire: its ticket; HandOff: that of the successor
	Heir    Holder  `json:",omitzero"`  // HandOff: the successor; Acquire, Validate: who is said to hold the first name
	Valid   bool    `json:",omitempty"`
	Sight   []Seen  `json:",omitempty"`
	Return  int64

	proven bool     // an acquire of unknown outcome whose result was seen later
	tokens []uint64 // of an acquire, beside its Wants; 0 where nobody ever saw it
}

// Never is the return of what does not return.
const Never = math.MaxInt64

// names of all locks that the operation is about.
func (o *Op) names() []string {
	var out []string
	for _, w := range o.Wants {
		out = append(out, w.Name)
	}
	for _, g := range o.Grants {
		out = append(out, g.Name)
	}
	return out
}

func (o *Op) ofSession() bool { return o.Kind == Finish || o.Kind == Expire || o.Kind == Renew }

// String tells the operation in one line.
func (o *Op) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", o.Session, kindNames[o.Kind])
	if o.Owner != "" {
		fmt.Fprintf(&b, " as %s", o.Owner)
	}
	for _, w := range o.Wants {
		fmt.Fprintf(&b, " %s%s", w.Name, [...]string{"", " shared", fmt.Sprintf(" %d of %d", w.Permits, w.Limit)}[w.Mode])
	}
	for _, g := range o.Grants {
		fmt.Fprintf(&b, " %s/%d", g.Name, g.Token)
	}
	switch {
	case o.Kind == Acquire && o.Wait > 0:
		fmt.Fprintf(&b, " within %s", o.Wait)
	case o.Ticket != 0:
		fmt.Fprintf(&b, " ticket %d", o.Ticket)
	case o.Of != 0:
		fmt.Fprintf(&b, " of %d", o.Of)
	case o.To != "":
		fmt.Fprintf(&b, " to %s", o.To)
	}
	return b.String()
}

// Answer tells in one line what the caller learned.
func (o *Op) Answer() string {
	var b strings.Builder
	b.WriteString(outcomeNames[o.Outcome])
	if o.Told != 0 {
		fmt.Fprintf(&b, " ticket %d", o.Told)
	}
	for _, g := range o.Got {
		fmt.Fprintf(&b, " %s/%d", g.Name, g.Token)
		if g.Count > 0 {
			fmt.Fprintf(&b, "×%d", g.Count)
		}
	}
	switch o.Kind {
	case Validate:
		fmt.Fprintf(&b, " %t", o.Valid)
	case Look:
		fmt.Fprintf(&b, " %+v", o.Sight)
	}
	if o.Heir.Session != "" {
		fmt.Fprintf(&b, " (%s/%d)", o.Heir.Session, o.Heir.Token)
	}
	return b.String()
}
