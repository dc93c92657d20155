package reconcile

import (
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
)

// suspect is a row that did not look right. It becomes open when a sandwich could not explain the difference, and is confirmed when a
// later one sees the same row with a cache that still differs and nothing was on its way in between.
type suspect struct {
	key []string // canonical tuple
	ref fsm.RowRef

	open     bool
	since    uint64      // revision of the state before the sandwich that opened it
	opened   uint64      // cluster time then
	expected mapping.Sum // digests of the row's keys then
	rearms   int
}

// ruling is what a sandwich says about a suspect.
type ruling int

const (
	ruledAgain     ruling = iota + 1 // it moved while we looked: look again
	ruledHot                         // a change is on its way, or it never stands still: no verdict
	ruledMatch                       // row and cache agree now
	ruledOpen                        // an unexplained difference, to be confirmed later
	ruledConfirmed                   // stable divergence
	ruledWait                        // it would be, if the relay of the outbox table had come so far: ask again
)

// rule judges a suspect that is not open yet.
func (s *suspect) rule(v sandwich) ruling {
	switch {
	case v.row == nil, v.pending:
		return ruledHot
	case v.steady && v.look.matches():
		return ruledMatch
	case v.relay == relayPaused:
		return ruledHot
	case !v.steady, v.touched, !v.covered:
		return ruledAgain
	}
	s.arm(v)
	return ruledOpen
}

// confirm judges an open suspect whose time has come. A row that changed or was delivered since it was opened is opened anew, for the
// difference seen then may have been repaired and the one seen now be too young.
func (s *suspect) confirm(v sandwich) ruling {
	switch {
	case v.row == nil, v.pending:
		return ruledHot
	case v.steady && v.look.matches():
		return ruledMatch
	case v.relay == relayPaused:
		return ruledHot
	case v.steady && v.still() && v.look.expected == s.expected:
		if v.relay == relayBehind {
			return ruledWait
		}
		return ruledConfirmed
	case s.rearms == rearmsMax:
		return ruledHot
	}
	s.rearms++
	s.arm(v)
	return ruledOpen
}

func (s *suspect) arm(v sandwich) {
	s.open, s.since, s.opened, s.expected = true, v.since, v.at, v.look.expected
}
