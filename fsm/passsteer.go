package fsm

// FinishPass ends a pass as done, or as failed when there is a reason.
type FinishPass struct {
	ID     uint64 `cbor:"1,keyasint"`
	Reason string `cbor:"2,keyasint,omitempty"`
}

func (FinishPass) kind() Kind { return kindFinishPass }

func (c FinishPass) apply(s *State) Result {
	to := PassDone
	if c.Reason != "" {
		to = PassFailed
	}
	return s.endPass(c.ID, to, c.Reason)
}

// CancelPass ends a pass at somebody's wish.
type CancelPass struct {
	ID uint64 `cbor:"1,keyasint"`
}

func (CancelPass) kind() Kind { return kindCancelPass }

func (c CancelPass) apply(s *State) Result { return s.endPass(c.ID, PassCancelled, "") }

func (s *State) endPass(id uint64, to PassState, reason string) Result {
	p, ok := s.passes.get(id)
	switch {
	case !ok:
		return refuse(CodePassNotFound, "no such pass")
	case p.State.ended(), to != PassCancelled && p.State != PassRunning:
		return refuse(CodePassEnded, "no such pass is running")
	}
	p.State, p.Reason, p.Hold, p.FinishedAt, p.Index = to, clip(reason, ErrorBytesMax), "", s.counters.Now, s.nextRevision()
	s.passes.set(id, p)
	s.settleDoubt(p)
	s.thinHistory(p.Mapping)
	return Result{Pass: &PassResult{ID: id, State: to}}
}

// thinHistory drops most of the samples of all but the last ended passes of a mapping: figures are kept for long, rows are not.
func (s *State) thinHistory(mapping string) {
	var full []uint64
	s.passes.ascend(0, func(id uint64, p Pass) bool {
		if p.Mapping == mapping && p.State.ended() && len(p.Samples) > SamplesOldMax {
			full = append(full, id)
		}
		return true
	})
	for _, id := range full[:max(0, len(full)-PassesFullMax)] {
		p, _ := s.passes.get(id)
		p.Samples = append([]Difference(nil), p.Samples[:SamplesOldMax]...)
		p.Index = s.nextRevision()
		s.passes.set(id, p)
	}
}

// HoldPass has a running pass wait for somebody's approval.
type HoldPass struct {
	ID     uint64   `cbor:"1,keyasint"`
	Hold   PassHold `cbor:"2,keyasint"`
	Reason string   `cbor:"3,keyasint"`
}

func (HoldPass) kind() Kind { return kindHoldPass }

func (c HoldPass) apply(s *State) Result {
	p, code := s.runningPass(c.ID)
	if code != "" {
		return refuse(code, "no such pass is running")
	}
	if c.Hold != HoldCap && c.Hold != HoldExtras {
		return refuse(CodeInvalid, "a pass is held at its cap or for extra keys")
	}
	p.State, p.Hold, p.Reason, p.Index = PassHeld, c.Hold, clip(c.Reason, ErrorBytesMax), s.nextRevision()
	s.passes.set(p.ID, p)
	return Result{Pass: &PassResult{ID: p.ID, State: p.State}}
}

// ApprovePass lets a held pass go on: to repair Limit rows in all, or to remove Limit extra keys. 0 is as much again, or as many as were found. For extra keys the second phase
// begins anew, and confirms each key again before it removes it.
type ApprovePass struct {
	ID     uint64 `cbor:"1,keyasint"`
	Limit  uint64 `cbor:"2,keyasint,omitempty"`
	WallMs uint64 `cbor:"3,keyasint,omitempty"` // when it was asked, to be shown only
}

func (ApprovePass) kind() Kind { return kindApprovePass }

func (c ApprovePass) apply(s *State) Result {
	p, ok := s.passes.get(c.ID)
	switch {
	case !ok:
		return refuse(CodePassNotFound, "no such pass")
	case p.State != PassHeld:
		return refuse(CodePassNotHeld, "the pass asks for nothing")
	case c.Limit > TokenMax:
		return refuse(CodeInvalid, "limit out of bounds")
	case s.passesRunning() >= PassesRunningMax:
		return refuse(CodePassRunning, "as many passes as may are running")
	}
	limit := c.Limit
	switch {
	case p.Hold == HoldExtras && limit == 0:
		limit = p.Keys.Extra
	case p.Hold == HoldCap && limit == 0:
		limit = min(2*max(p.Allowance(), 1), TokenMax)
	}
	if p.Hold == HoldExtras {
		p.Removals, p.Keys, p.Scan = limit, KeyCounts{}, KeyCursor{}
	} else {
		p.Cap = limit
	}
	s.audit(Act{WallMs: c.WallMs, Action: "pass.approve", Subject: p.Mapping, Reason: string(p.Hold)})
	p.State, p.Hold, p.Reason, p.Index = PassRunning, "", "", s.nextRevision()
	s.passes.set(p.ID, p)
	return Result{Pass: &PassResult{ID: p.ID, State: p.State}}
}

// PausePass has a running pass stand still. One that is paused stays so.
type PausePass struct {
	ID uint64 `cbor:"1,keyasint"`
}

func (PausePass) kind() Kind { return kindPausePass }

func (c PausePass) apply(s *State) Result { return s.turnPass(c.ID, PassRunning, PassPaused) }

// ResumePass has a paused pass go on. One that runs goes on running.
type ResumePass struct {
	ID uint64 `cbor:"1,keyasint"`
}

func (ResumePass) kind() Kind { return kindResumePass }

func (c ResumePass) apply(s *State) Result { return s.turnPass(c.ID, PassPaused, PassRunning) }

func (s *State) turnPass(id uint64, from, to PassState) Result {
	p, ok := s.passes.get(id)
	switch {
	case !ok:
		return refuse(CodePassNotFound, "no such pass")
	case p.State == to:
		return Result{Pass: &PassResult{ID: id, State: to}}
	case p.State == PassHeld:
		return refuse(CodePassHeld, "the pass asks for an approval: approve or cancel it")
	case p.State != from:
		return refuse(CodePassEnded, "the pass is over")
	case to == PassRunning && s.passesRunning() >= PassesRunningMax:
		return refuse(CodePassRunning, "as many passes as may are running")
	}
	p.State, p.Index = to, s.nextRevision()
	s.passes.set(id, p)
	return Result{Pass: &PassResult{ID: id, State: to}}
}
