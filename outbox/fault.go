package outbox

import (
	"context"
	"errors"

	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
	"github.com/quiescehq/quiesce/rediscache"
)

// Classes of failure, as events, dead letters and breakers show them.
const (
	ClassTargetDown        = "target_down"
	ClassTargetNotPrimary  = "target_not_primary"
	ClassTargetBusy        = "target_busy"
	ClassTargetFull        = "target_full"
	ClassTargetDenied      = "target_denied"
	ClassTargetUnconfirmed = "target_unconfirmed"
	ClassTargetConfig      = "target_config"
	ClassTargetUnexpected  = "target_unexpected"

	ClassSourceDown       = "source_down"
	ClassSourceNotPrimary = "source_not_primary"
	ClassSourceDenied     = "source_denied"
	ClassSourceUnexpected = "source_unexpected"
	ClassTableChanged     = "table_changed"

	ClassWrongType    = "wrong_type"
	ClassUnrenderable = "unrenderable"
	ClassTooLarge     = "too_large"
	ClassKeyInvalid   = "pk_invalid"
	ClassTooLate      = "too_late"
	ClassFenced       = "fenced"
)

// blame says who is at fault, and so whose account is charged.
type blame uint8

const (
	blameRow    blame = iota // the row's attempts
	blameTarget              // the target's breaker
	blameSource              // the breaker of the source's table
	blameNobody              // a race that was lost: neither
)

// fault is one classified failure. detail is a sentence of this project: an operator gets no driver's text, which may hold addresses or values.
type fault struct {
	blame     blame
	class     string
	detail    string
	permanent bool  // the same row could only fail again
	suspect   bool  // the answer has no class, so that a row of the batch may be its cause
	cause     error // for the log
}

var (
	faultWrongType = fault{blame: blameRow, class: ClassWrongType, permanent: true, detail: "the key holds a value of another type"}
	faultTooLate   = fault{blame: blameRow, class: ClassTooLate, detail: "the row could not be read and written within the target's deadline"}
	faultFenced    = fault{blame: blameNobody, class: ClassFenced, detail: "the key was invalidated again and again while the row was read"}
)

// targetFaults and sourceFaults go by sentinel; the last entry of each is for what has none.
var (
	targetFaults = []struct {
		sentinel error
		fault    fault
	}{
		{rediscache.ErrUnreachable, fault{class: ClassTargetDown, detail: "the target did not answer"}},
		{context.DeadlineExceeded, fault{class: ClassTargetDown, detail: "the target did not answer in time"}},
		{rediscache.ErrNotPrimary, fault{class: ClassTargetNotPrimary, detail: "the target is not the primary"}},
		{rediscache.ErrSnooze, fault{class: ClassTargetBusy, detail: "the target cannot serve now"}},
		{rediscache.ErrOutOfMemory, fault{class: ClassTargetFull, detail: "the target is out of memory"}},
		{rediscache.ErrDenied, fault{class: ClassTargetDenied, detail: "the target refuses this node's account"}},
		{rediscache.ErrUnconfirmed, fault{class: ClassTargetUnconfirmed, detail: "too few of the target's servers confirmed the write"}},
		{rediscache.ErrConfig, fault{class: ClassTargetConfig, detail: "the target cannot do what its configuration asks for"}},
		{nil, fault{class: ClassTargetUnexpected, detail: "the target gave an answer that has no class", suspect: true}},
	}
	sourceFaults = []struct {
		sentinel error
		fault    fault
	}{
		{mysql.ErrUnreachable, fault{class: ClassSourceDown, detail: "the source did not answer"}},
		{context.DeadlineExceeded, fault{class: ClassSourceDown, detail: "the source did not answer in time"}},
		{mysql.ErrNotPrimary, fault{class: ClassSourceNotPrimary, detail: "the source is read-only"}},
		{mysql.ErrDenied, fault{class: ClassSourceDenied, detail: "the source refuses this node's account"}},
		{mysql.ErrTableChanged, fault{class: ClassTableChanged, detail: "the table is not what the mapping was made for"}},
		{nil, fault{class: ClassSourceUnexpected, detail: "the source gave an answer that has no class", suspect: true}},
	}
)

func targetFault(err error) *fault {
	for _, known := range targetFaults {
		if known.sentinel == nil || errors.Is(err, known.sentinel) {
			f := known.fault
			f.blame, f.cause = blameTarget, err
			return &f
		}
	}
	return nil // not reached: the last entry takes everything
}

func sourceFault(err error) *fault {
	for _, known := range sourceFaults {
		if known.sentinel == nil || errors.Is(err, known.sentinel) {
			f := known.fault
			f.blame, f.cause = blameSource, err
			return &f
		}
	}
	return nil // not reached: the last entry takes everything
}

// rowFault is for what mapping says about a row. Its errors hold column names and keys, no values.
func rowFault(class string, err error) *fault {
	return &fault{blame: blameRow, class: class, detail: err.Error(), permanent: true, cause: err}
}

func renderFault(err error) *fault {
	if errors.Is(err, mapping.ErrTooLarge) {
		return rowFault(ClassTooLarge, err)
	}
	return rowFault(ClassUnrenderable, err)
}
