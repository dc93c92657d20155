package rediscache

import "fmt"

// Outcome is what became of one guarded write. The zero value is OutcomeUnknown on purpose: an answer that was never read must not settle
// an event.
type Outcome uint8

const (
	OutcomeUnknown               Outcome = iota
	OutcomeApplied                       // the data key holds the write
	OutcomeSuperseded                    // the guard has this token or a newer one: done, nothing to write
	OutcomeTooLate                       // past the deadline, or the server's clock was set back: begin again, with less
	OutcomeBeganBeforeInvalidate         // an invalidate came after Begin: begin again at once
	OutcomeWrongType                     // data key or guard is of a type that is not ours; nothing was changed
	OutcomeUnconfirmed                   // written, or superseded, and too few confirmed it in time: begin again
)

// scriptOutcomes are the answers of the apply script, as the protocol numbers them.
var scriptOutcomes = map[int64]Outcome{
	1:  OutcomeApplied,
	0:  OutcomeSuperseded,
	-2: OutcomeTooLate,
	-3: OutcomeBeganBeforeInvalidate,
	-4: OutcomeWrongType,
}

var outcomeNames = [...]string{
	OutcomeUnknown:               "unknown",
	OutcomeApplied:               "applied",
	OutcomeSuperseded:            "superseded",
	OutcomeTooLate:               "too_late",
	OutcomeBeganBeforeInvalidate: "began_before_invalidate",
	OutcomeWrongType:             "wrong_type",
	OutcomeUnconfirmed:           "unconfirmed",
}

// Settled reports that the event needs no further delivery.
func (o Outcome) Settled() bool { return o == OutcomeApplied || o == OutcomeSuperseded }

func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return fmt.Sprintf("Outcome(%d)", uint8(o))
}
