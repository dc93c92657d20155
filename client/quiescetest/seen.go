package quiescetest

import (
	"encoding/json"
	"slices"

	"github.com/quiescehq/quiesce/fsm"
)

// eventsSeenMax bounds the accepted events that are remembered; the oldest go first.
const eventsSeenMax = 100_000

// Event is an accepted event.
type Event struct {
	Mapping string
	PK      string // the first part of the key, as text
	Token   uint64
}

// seen remembers what the state forgets: events that were folded into later ones, and all phases of a drain but the last. The node's lock
// guards it.
type seen struct {
	events []Event
	token  uint64 // of the last of them: a repeated request is answered with older ones
	phases map[string][]string
	seq    map[string]uint64 // of an instance's last report

	prepared map[uint64]fsm.PrepareEvents // those that are open, by their id
}

func newSeen() *seen {
	return &seen{phases: map[string][]string{}, seq: map[string]uint64{}, prepared: map[uint64]fsm.PrepareEvents{}}
}

func (s *seen) note(c fsm.Command, r fsm.Result) {
	if r.Refused() {
		return
	}
	switch c := c.(type) {
	case fsm.EnqueueEvents:
		s.noteEvents(c.Events, c.Spans, r.Outbox.Tokens)
	case fsm.PrepareEvents:
		s.prepared[r.Prepared.ID] = c
	case fsm.SubmitPrepared:
		if p, open := s.prepared[c.ID]; open && r.Prepared.Ended {
			s.noteEvents(p.Events, p.Spans, r.Prepared.Tokens)
		}
		delete(s.prepared, c.ID)
	case fsm.CancelPrepared:
		delete(s.prepared, c.ID)
	case fsm.ReportPhase:
		if c.Seq > s.seq[c.ID] {
			s.seq[c.ID] = c.Seq
			s.phases[c.ID] = append(s.phases[c.ID], c.Phase)
		}
	}
}

// noteEvents notes an event for each token. Spans says how many rows each one names, if not one: then it is told by its last.
func (s *seen) noteEvents(rows []fsm.RowRef, spans []byte, tokens []fsm.EventToken) {
	next := 0
	for i, t := range tokens {
		next++
		if len(spans) > 0 {
			next += int(spans[i]) - 1
		}
		if t.Token <= s.token { // one that named nothing has none
			continue
		}
		s.token = t.Token
		row := rows[next-1]
		s.events = append(s.events, Event{Mapping: row.Mapping, PK: firstPart(row.PK), Token: t.Token})
	}
	if over := len(s.events) - eventsSeenMax; over > 0 {
		s.events = slices.Delete(s.events, 0, over)
	}
}

func firstPart(pk string) string {
	var parts []string
	if err := json.Unmarshal([]byte(pk), &parts); err != nil || len(parts) == 0 {
		return pk
	}
	return parts[0]
}
