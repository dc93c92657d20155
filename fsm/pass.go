package fsm

// PassMode is what a pass does with the differences that it has confirmed.
type PassMode string

const (
	PassDryRun  PassMode = "dry_run" // reports them
	PassRewrite PassMode = "rewrite" // reports them and enqueues an event for each
)

// PassState is where a pass stands.
type PassState string

const (
	PassRunning   PassState = "running"
	PassDone      PassState = "done"
	PassFailed    PassState = "failed"
	PassCancelled PassState = "cancelled"
)

// Pass is one reconciliation run over one mapping. Cursor and counts are logged at each checkpoint, so a new leader resumes in the middle
// of the table with the right figures.
type Pass struct {
	ID         uint64       `cbor:"1,keyasint"`
	Mapping    string       `cbor:"2,keyasint"`
	Revision   uint64       `cbor:"3,keyasint"` // of the mapping when the pass began; another one fails the pass
	Mode       PassMode     `cbor:"4,keyasint"`
	State      PassState    `cbor:"5,keyasint"`
	Cap        uint64       `cbor:"6,keyasint"`           // repairs at most
	ConfirmMs  uint64       `cbor:"7,keyasint"`           // a difference must outlast this before it counts
	Cursor     string       `cbor:"8,keyasint,omitempty"` // last compared row key, canonical; empty before the first
	Counts     PassCounts   `cbor:"9,keyasint"`
	Expected   PassSum      `cbor:"10,keyasint"` // digest of what the table says
	Actual     PassSum      `cbor:"11,keyasint"` // digest of what the cache holds
	Samples    []Difference `cbor:"12,keyasint,omitempty"`
	StartedAt  uint64       `cbor:"13,keyasint"` // cluster time
	FinishedAt uint64       `cbor:"14,keyasint,omitempty"`
	Reason     string       `cbor:"15,keyasint,omitempty"` // why it failed or stopped
	Index      uint64       `cbor:"16,keyasint"`
}

// PassCounts are rows by verdict.
type PassCounts struct {
	_          struct{} `cbor:",toarray"`
	Rows       uint64   // compared so far
	Equal      uint64
	FormatOnly uint64 // same content, written differently
	Hot        uint64 // differed while a change was on its way: no verdict
	Stale      uint64
	Missing    uint64
	WrongType  uint64
	NoTTL      uint64
	Repaired   uint64 // events enqueued for differences
}

// Differences is the number of confirmed differences.
func (c PassCounts) Differences() uint64 { return c.Stale + c.Missing + c.WrongType + c.NoTTL }

// PassSum is a mergeable digest over rows: a count and sums modulo 2^64.
type PassSum struct {
	_     struct{} `cbor:",toarray"`
	Count uint64
	Hi    uint64
	Lo    uint64
}

// Difference is one confirmed difference, kept to be shown.
type Difference struct {
	_        struct{} `cbor:",toarray"`
	PK       string
	Key      string
	Class    string
	Expected string // clipped
	Actual   string // clipped
}

// PassResult answers the pass commands.
type PassResult struct {
	ID     uint64       `cbor:"1,keyasint,omitempty" json:",omitempty"`
	State  PassState    `cbor:"2,keyasint,omitempty" json:",omitempty"`
	Tokens []EventToken `cbor:"3,keyasint,omitempty" json:",omitempty"` // of the repairs in a checkpoint
}

// StartPass begins a pass. One pass per mapping runs at a time.
type StartPass struct {
	Mapping   string   `cbor:"1,keyasint"`
	Mode      PassMode `cbor:"2,keyasint"`
	Cap       uint64   `cbor:"3,keyasint"`
	ConfirmMs uint64   `cbor:"4,keyasint"`
}

func (StartPass) kind() Kind { return kindStartPass }

func (c StartPass) apply(s *State) Result {
	if (c.Mode != PassDryRun && c.Mode != PassRewrite) || c.ConfirmMs > WaitMaxMs || c.Cap > TokenMax {
		return refuse(CodeInvalid, "pass mode, cap or delay out of bounds")
	}
	m, ok := s.mappings.get(c.Mapping)
	if !ok {
		return refuse(CodeMappingNotFound, "no such mapping: "+c.Mapping)
	}
	running := 0
	oldest := uint64(0)
	s.passes.ascend(0, func(id uint64, p Pass) bool {
		if p.State == PassRunning {
			running++
		} else if oldest == 0 {
			oldest = id
		}
		return true
	})
	if s.passRunning(c.Mapping) || running >= PassesRunningMax {
		return refuse(CodePassRunning, "a pass over this mapping, or as many passes as may, are running")
	}
	if s.passes.len() >= PassesMax {
		s.passes.delete(oldest)
	}
	p := Pass{ID: s.nextToken(), Mapping: c.Mapping, Revision: m.Revision, Mode: c.Mode, State: PassRunning, Cap: c.Cap,
		ConfirmMs: c.ConfirmMs, StartedAt: s.counters.Now, Index: s.nextRevision()}
	s.passes.set(p.ID, p)
	return Result{Pass: &PassResult{ID: p.ID, State: p.State}}
}

func (s *State) passRunning(mapping string) bool {
	found := false
	s.passes.ascend(0, func(_ uint64, p Pass) bool {
		found = p.Mapping == mapping && p.State == PassRunning
		return !found
	})
	return found
}

// CheckpointPass logs progress: the cursor, the counts and digests up to it, differences to show, and the rows to repair, whose events
// enter the outbox in the same entry. From names the cursor that this checkpoint continues: one that was proposed twice, or by a leader
// that no longer is, does not count rows twice.
type CheckpointPass struct {
	ID       uint64       `cbor:"1,keyasint"`
	From     string       `cbor:"2,keyasint"`
	Cursor   string       `cbor:"3,keyasint"`
	Counts   PassCounts   `cbor:"4,keyasint"`           // totals
	Expected PassSum      `cbor:"5,keyasint"`           // totals
	Actual   PassSum      `cbor:"6,keyasint"`           // totals
	Samples  []Difference `cbor:"7,keyasint,omitempty"` // new ones
	Repairs  []RowRef     `cbor:"8,keyasint,omitempty"`
}

func (CheckpointPass) kind() Kind { return kindCheckpointPass }

func (c CheckpointPass) apply(s *State) Result {
	p, code := s.runningPass(c.ID)
	if code != "" {
		return refuse(code, "no such pass is running")
	}
	if p.Cursor != c.From || len(c.Cursor) > PKBytesMax || len(c.Repairs) > RepairsBatchMax {
		return refuse(CodeInvalid, "the checkpoint does not continue the pass")
	}
	var tokens []EventToken
	if len(c.Repairs) > 0 {
		r := EnqueueEvents{Events: c.Repairs, Pass: p.ID}.apply(s)
		if r.Refused() {
			return r
		}
		tokens = r.Outbox.Tokens
	}
	p.Cursor, p.Counts, p.Expected, p.Actual, p.Index = c.Cursor, c.Counts, c.Expected, c.Actual, s.nextRevision()
	p.Samples = appendSamples(p.Samples, c.Samples)
	s.passes.set(p.ID, p)
	return Result{Pass: &PassResult{ID: p.ID, State: p.State, Tokens: tokens}}
}

func appendSamples(have, more []Difference) []Difference {
	out := make([]Difference, 0, len(have)+len(more))
	out = append(out, have...)
	for _, d := range more {
		if len(out) == SamplesMax {
			break
		}
		d.Expected, d.Actual = clip(d.Expected, SampleBytesMax), clip(d.Actual, SampleBytesMax)
		out = append(out, d)
	}
	return out
}

func (s *State) runningPass(id uint64) (Pass, Code) {
	p, ok := s.passes.get(id)
	switch {
	case !ok:
		return p, CodePassNotFound
	case p.State != PassRunning:
		return p, CodePassEnded
	}
	return p, ""
}

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

func (CancelPass) kind() Kind              { return kindCancelPass }
func (c CancelPass) apply(s *State) Result { return s.endPass(c.ID, PassCancelled, "") }

func (s *State) endPass(id uint64, to PassState, reason string) Result {
	p, code := s.runningPass(id)
	if code != "" {
		return refuse(code, "no such pass is running")
	}
	p.State, p.Reason, p.FinishedAt, p.Index = to, clip(reason, ErrorBytesMax), s.counters.Now, s.nextRevision()
	s.passes.set(id, p)
	s.settleDoubt(p)
	return Result{Pass: &PassResult{ID: id, State: to}}
}

// Pass gives a pass by id.
func (s *State) Pass(id uint64) (Pass, bool) { return s.passes.get(id) }

// Passes visits the passes in the order in which they began, from the given id.
func (s *State) Passes(from uint64, visit func(Pass) bool) {
	s.passes.ascend(from, func(_ uint64, p Pass) bool { return visit(p) })
}
