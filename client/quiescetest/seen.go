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
}

func newSeen() *seen { return &seen{phases: map[string][]string{}, seq: map[string]uint64{}} }

func (s *seen) note(c fsm.Command, r fsm.Result) {
	if r.Refused() {
		return
	}
	switch c := c.(type) {
	case fsm.EnqueueEvents:
		s.noteEvents(c, r.Outbox.Tokens)
	case fsm.ReportPhase:
		if c.Seq > s.seq[c.ID] {
			s.seq[c.ID] = c.Seq
			s.phases[c.ID] = append(s.phases[c.ID], c.Phase)
		}
	}
}

func (s *seen) noteEvents(c fsm.EnqueueEvents, tokens []fsm.EventToken) {
	for i, t := range tokens {
		if t.Token <= s.token {
			continue
		}
		s.token = t.Token
		s.events = append(s.events, Event{Mapping: c.Events[i].Mapping, PK: firstPart(c.Events[i].PK), Token: t.Token})
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
