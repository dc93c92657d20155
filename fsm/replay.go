package fsm

import "fmt"

// ReplayEvents makes new events of dead letters: with new tokens, and no attempts spent. The first becomes due after DelayMs, each further
// one StepMicros later, so that a target is not flooded. Rows without a dead letter are passed over.
type ReplayEvents struct {
	Rows       []RowRef `cbor:"1,keyasint"`
	DelayMs    uint64   `cbor:"2,keyasint,omitempty"`
	StepMicros uint64   `cbor:"3,keyasint,omitempty"`
	WallMs     uint64   `cbor:"4,keyasint,omitempty"` // when it was asked, to be shown only
}

func (ReplayEvents) kind() Kind { return kindReplayEvents }

func (c ReplayEvents) apply(s *State) Result {
	n := uint64(len(c.Rows))
	if n == 0 || n > ReplayBatchMax || c.StepMicros > replayStepMaxMicros || c.DelayMs+c.StepMicros*n/1000 > WaitMaxMs {
		return refuse(CodeInvalid, "number of rows or delay out of bounds")
	}
	if s.events.len()+s.reserved+len(c.Rows) > PendingMax {
		return refuse(CodeOutboxFull, "as many events are pending as may be")
	}
	r := OutboxResult{}
	for _, ref := range c.Rows {
		if !s.dead.has(ref.key()) {
			continue
		}
		s.enqueueEvent(ref, 0, c.DelayMs+r.Settled*c.StepMicros/1000)
		r.Settled++
	}
	if r.Settled > 0 {
		s.auditDead("outbox.replay", c.Rows, r.Settled, c.WallMs)
	}
	return Result{Outbox: &r}
}

// DiscardEvents forgets dead letters.
type DiscardEvents struct {
	Rows   []RowRef `cbor:"1,keyasint"`
	WallMs uint64   `cbor:"2,keyasint,omitempty"`
}

func (DiscardEvents) kind() Kind { return kindDiscardEvents }

func (c DiscardEvents) apply(s *State) Result {
	if len(c.Rows) == 0 || len(c.Rows) > ReplayBatchMax {
		return refuse(CodeInvalid, "number of rows out of bounds")
	}
	r := OutboxResult{}
	for _, ref := range c.Rows {
		if s.exhume(ref) {
			r.Settled++
		}
	}
	if r.Settled > 0 {
		s.auditDead("outbox.discard", c.Rows, r.Settled, c.WallMs)
	}
	return Result{Outbox: &r}
}

func (s *State) auditDead(action string, rows []RowRef, changed, wallMs uint64) {
	s.audit(Act{WallMs: wallMs, Action: action, Subject: fmt.Sprintf("%d dead letters", changed),
		Details: []string{"the first of " + rows[0].Mapping + ": " + clip(rows[0].PK, ReasonBytesMax/2)}})
}
