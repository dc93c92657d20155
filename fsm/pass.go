package fsm

// PassMode is what a pass does with the differences that it has confirmed.
type PassMode string

const (
	PassDryRun     PassMode = "dry_run"    // reports them
	PassInvalidate PassMode = "invalidate" // reports them and enqueues an event for each, which removes its keys
	PassRewrite    PassMode = "rewrite"    // reports them and enqueues an event for each, which writes its keys anew
)

// PassState is where a pass stands. The last three are its end.
type PassState string

const (
	PassRunning   PassState = "running"
	PassPaused    PassState = "paused" // somebody asked for it
	PassHeld      PassState = "held"   // it asks for an approval, see PassHold
	PassDone      PassState = "done"
	PassFailed    PassState = "failed"
	PassCancelled PassState = "cancelled"
)

func (s PassState) ended() bool { return s == PassDone || s == PassFailed || s == PassCancelled }

// PassPhase is what a pass goes over.
type PassPhase string

const (
	PassRows PassPhase = ""     // the table
	PassKeys PassPhase = "keys" // the target's keys, for those without a row
)

// PassHold is what a held pass asks for.
type PassHold string

const (
	HoldCap    PassHold = "cap"    // as much was repaired as may be without somebody's word
	HoldExtras PassHold = "extras" // keys without a row were found, and are removed only by somebody's word
)

// PassOptions are what a pass is asked to do. The keys of StartPass, Pass and Schedule are those of one record.
type PassOptions struct {
	Mode       PassMode `cbor:"4,keyasint"`
	Cap        uint64   `cbor:"6,keyasint"`            // repairs at most, but for CapPercent
	ConfirmMs  uint64   `cbor:"7,keyasint"`            // a difference must outlast this before it counts
	CapPercent uint64   `cbor:"17,keyasint,omitempty"` // of the rows compared so far: as many repairs are allowed where they are more than Cap
	From       string   `cbor:"18,keyasint,omitempty"` // first row key, canonical; empty: that of the table
	To         string   `cbor:"19,keyasint,omitempty"` // first row key that is not looked at any more; empty: none
	SamplePPM  uint64   `cbor:"20,keyasint,omitempty"` // rows in a million that are looked at, at random; 0: all
	Extras     bool     `cbor:"21,keyasint,omitempty"` // looks for keys without a row, after the rows
	Fill       bool     `cbor:"22,keyasint,omitempty"` // a key that may be absent is written too; needs PassRewrite. What was absent does not count for the cap
	RateMax    uint64   `cbor:"23,keyasint,omitempty"` // rows, or keys, in a second at most; 0: as many as the load allows
}

// fit tells whether they are within bounds and go together.
func (o PassOptions) fit() bool {
	switch o.Mode {
	case PassDryRun, PassInvalidate, PassRewrite:
	default:
		return false
	}
	return o.ConfirmMs <= WaitMaxMs && o.Cap <= TokenMax && o.CapPercent <= 100 && len(o.From) <= PKBytesMax && len(o.To) <= PKBytesMax && o.SamplePPM <= 1_000_000 &&
		o.RateMax <= TokenMax && (!o.Fill || o.Mode == PassRewrite)
}

// whole: the pass leaves out no row.
func (o PassOptions) whole() bool { return o.From == "" && o.To == "" && o.SamplePPM%1_000_000 == 0 }

// Pass is one reconciliation run over one mapping. Cursor and counts are logged at each checkpoint, so a new leader resumes in the middle
// of the table with the right figures.
type Pass struct {
	ID       uint64 `cbor:"1,keyasint"`
	Mapping  string `cbor:"2,keyasint"`
	Revision uint64 `cbor:"3,keyasint"` // of the mapping when the pass began; another one fails the pass
	PassOptions
	State      PassState    `cbor:"5,keyasint"`
	Cursor     string       `cbor:"8,keyasint,omitempty"` // last compared row key, canonical; empty before the first
	Counts     PassCounts   `cbor:"9,keyasint"`
	Expected   PassSum      `cbor:"10,keyasint"` // digest of what the table says
	Actual     PassSum      `cbor:"11,keyasint"` // digest of what the cache holds
	Samples    []Difference `cbor:"12,keyasint,omitempty"`
	StartedAt  uint64       `cbor:"13,keyasint"` // cluster time
	FinishedAt uint64       `cbor:"14,keyasint,omitempty"`
	Reason     string       `cbor:"15,keyasint,omitempty"` // why it failed, is held or stopped
	Index      uint64       `cbor:"16,keyasint"`
	Phase      PassPhase    `cbor:"24,keyasint,omitempty"`
	Hold       PassHold     `cbor:"25,keyasint,omitempty"` // what it asks for while it is held
	Estimate   uint64       `cbor:"26,keyasint,omitempty"` // rows that the pass was thought to look at when it began: those of its range, or of its sample
	Filled     uint64       `cbor:"27,keyasint,omitempty"` // of the repairs, those of keys that were allowed to be absent
	Slot       uint64       `cbor:"28,keyasint,omitempty"` // of the schedule that began it, 0 for somebody's wish
	Keys       KeyCounts    `cbor:"29,keyasint"`
	Scan       KeyCursor    `cbor:"30,keyasint"`
	Removals   uint64       `cbor:"31,keyasint,omitempty"` // keys without a row that may be removed: what was approved
	Cause      string       `cbor:"32,keyasint,omitempty"` // of the doubt that began it
}

// Allowance is the number of repairs that the pass may have made so far without another word. Filling what was absent is none.
func (p Pass) Allowance() uint64 {
	return max(p.Cap, p.Counts.Rows/100*p.CapPercent)
}

// Divergent is the number of differences that the pass found. Filling what was absent is none: nobody had promised that it was there.
func (p Pass) Divergent() uint64 {
	return p.Counts.Differences() - min(p.Filled, p.Counts.Missing) + p.Keys.Extra
}

// KeyCounts are keys of the target, by what became of them in the second phase of a pass.
type KeyCounts struct {
	_       struct{} `cbor:",toarray"`
	Looked  uint64   // that the servers went over, about
	Matched uint64   // that have the form of the mapping's keys
	Foreign uint64   // of those, what no tuple renders to: left alone
	Hot     uint64   // whose row came or went meanwhile, or has an event on its way: no verdict
	Extra   uint64   // without a row, confirmed
	Removed uint64   // events enqueued for extra keys
}

// KeyCursor is a place in the target's keys. It holds for one life of the target only.
type KeyCursor struct {
	_      struct{} `cbor:",toarray"`
	Life   string
	Cursor uint64
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

// StartPass begins a pass. A mapping has one unfinished pass at a time. With a slot it is the schedule of the mapping that asks, and gives the options: each slot
// begins one pass, whoever asks how often, or none if the last one is not over. With Doubt it is to end the doubt about the mapping.
type StartPass struct {
	Mapping string `cbor:"1,keyasint"`
	PassOptions
	Slot  uint64 `cbor:"28,keyasint,omitempty"` // milliseconds of the wall clock for which the schedule planned it
	Doubt bool   `cbor:"33,keyasint,omitempty"`
}

func (StartPass) kind() Kind { return kindStartPass }

func (c StartPass) apply(s *State) Result {
	options := c.PassOptions
	if c.Slot != 0 {
		planned, ok := s.schedules.get(c.Mapping)
		if !ok || c.Slot <= planned.LastSlot || c.Slot > TokenMax {
			return refuse(CodeScheduleNotFound, "no such schedule, or its slot has been taken")
		}
		options = planned.PassOptions
	}
	if !options.fit() {
		return refuse(CodeInvalid, "pass options out of bounds")
	}
	m, ok := s.mappings.get(c.Mapping)
	if !ok {
		return refuse(CodeMappingNotFound, "no such mapping: "+c.Mapping)
	}
	doubt, inDoubt := s.doubts.get(c.Mapping)
	if c.Doubt && !inDoubt {
		return refuse(CodePassNotFound, "the mapping is not in doubt")
	}
	last, unfinished := s.Unfinished(c.Mapping)
	// What an earlier doubt began and still asks for somebody's word has lost its purpose: this pass goes over all again, and asks again.
	replaces := c.Doubt && unfinished && last.Cause != "" && last.State == PassHeld && last.ID != doubt.Pass
	if unfinished && !replaces || s.passesRunning() >= PassesRunningMax {
		if c.Slot != 0 {
			return s.skipSlot(c.Mapping, c.Slot)
		}
		return refuse(CodePassRunning, "a pass over this mapping is not over, or as many passes as may are running")
	}
	if replaces {
		s.endPass(last.ID, PassCancelled, "the mapping is in doubt again")
	}
	if s.passes.len() >= PassesMax {
		oldest, ok := s.oldestPass()
		if !ok {
			return refuse(CodePassRunning, "as many passes as may are not over")
		}
		s.passes.delete(oldest)
	}
	p := Pass{ID: s.nextToken(), Mapping: c.Mapping, Revision: m.Revision, PassOptions: options, State: PassRunning, StartedAt: s.counters.Now, Slot: c.Slot,
		Index: s.nextRevision()}
	if c.Doubt {
		p.Cause = doubt.Cause
		doubt.Pass, doubt.Index = p.ID, p.Index
		s.doubts.set(c.Mapping, doubt)
	}
	s.passes.set(p.ID, p)
	if c.Slot != 0 {
		s.takeSlot(c.Mapping, c.Slot, p.ID)
	}
	return Result{Pass: &PassResult{ID: p.ID, State: p.State}}
}

// oldestPass is that of the history that goes first.
func (s *State) oldestPass() (oldest uint64, ok bool) {
	s.passes.ascend(0, func(id uint64, p Pass) bool {
		oldest, ok = id, p.State.ended()
		return !ok
	})
	return oldest, ok
}

// Unfinished gives the pass over a mapping that is not over: there is one at most.
func (s *State) Unfinished(mapping string) (found Pass, ok bool) {
	s.passes.ascend(0, func(_ uint64, p Pass) bool {
		if ok = p.Mapping == mapping && !p.State.ended(); ok {
			found = p
		}
		return !ok
	})
	return found, ok
}

// CheckpointPass logs progress: the cursor, the counts and digests up to it, differences to show, and the rows to repair, whose events
// enter the outbox in the same entry. From names the cursor that this checkpoint continues: one that was proposed twice, or by a leader
// that no longer is, does not count rows twice.
type CheckpointPass struct {
	ID       uint64       `cbor:"1,keyasint"`
	From     string       `cbor:"2,keyasint"`
	Cursor   string       `cbor:"3,keyasint"`
	Counts   PassCounts   `cbor:"4,keyasint"`            // totals
	Expected PassSum      `cbor:"5,keyasint"`            // totals
	Actual   PassSum      `cbor:"6,keyasint"`            // totals
	Samples  []Difference `cbor:"7,keyasint,omitempty"`  // new ones
	Repairs  []RowRef     `cbor:"8,keyasint,omitempty"`  // in the mode of the pass
	Estimate uint64       `cbor:"9,keyasint,omitempty"`  // rows of the table, 0: as before
	Filled   uint64       `cbor:"10,keyasint,omitempty"` // total
}

func (CheckpointPass) kind() Kind { return kindCheckpointPass }

func (c CheckpointPass) apply(s *State) Result {
	p, code := s.runningPass(c.ID)
	if code != "" {
		return refuse(code, "no such pass is running")
	}
	if p.Phase != PassRows || p.Cursor != c.From || len(c.Cursor) > PKBytesMax || len(c.Repairs) > RepairsBatchMax {
		return refuse(CodeInvalid, "the checkpoint does not continue the pass")
	}
	tokens, r := s.repair(p, c.Repairs)
	if r.Refused() {
		return r
	}
	if c.Estimate != 0 {
		p.Estimate = c.Estimate
	}
	p.Filled = c.Filled
	p.Cursor, p.Counts, p.Expected, p.Actual, p.Index = c.Cursor, c.Counts, c.Expected, c.Actual, s.nextRevision()
	p.Samples = appendSamples(p.Samples, c.Samples)
	s.passes.set(p.ID, p)
	return Result{Pass: &PassResult{ID: p.ID, State: p.State, Tokens: tokens}}
}

// repair enqueues an event for each row, all or none.
func (s *State) repair(p Pass, rows []RowRef) ([]EventToken, Result) {
	if len(rows) == 0 {
		return nil, Result{}
	}
	r := EnqueueEvents{Events: rows, Pass: p.ID, Drop: p.Mode == PassInvalidate}.apply(s)
	if r.Refused() {
		return nil, r
	}
	return r.Outbox.Tokens, Result{}
}

// CheckpointKeys logs progress of the second phase, as CheckpointPass does of the first; the first one of a pass begins the phase. A target that is in another life begins
// at its first key again, with counts of its own.
type CheckpointKeys struct {
	ID      uint64       `cbor:"1,keyasint"`
	From    KeyCursor    `cbor:"2,keyasint"`
	Scan    KeyCursor    `cbor:"3,keyasint"`
	Counts  KeyCounts    `cbor:"4,keyasint"`           // totals
	Samples []Difference `cbor:"5,keyasint,omitempty"` // new ones
	Extras  []RowRef     `cbor:"6,keyasint,omitempty"` // to be removed
}

func (CheckpointKeys) kind() Kind { return kindCheckpointKeys }

func (c CheckpointKeys) apply(s *State) Result {
	p, code := s.runningPass(c.ID)
	if code != "" {
		return refuse(code, "no such pass is running")
	}
	if !p.Extras || p.Scan != c.From || len(c.Scan.Life) > IDBytesMax || len(c.Extras) > RepairsBatchMax || c.Counts.Removed > p.Removals {
		return refuse(CodeInvalid, "the checkpoint does not continue the pass")
	}
	tokens, r := s.repair(p, c.Extras)
	if r.Refused() {
		return r
	}
	p.Phase, p.Scan, p.Keys, p.Index = PassKeys, c.Scan, c.Counts, s.nextRevision()
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

func (s *State) passesRunning() int {
	n := 0
	s.passes.ascend(0, func(_ uint64, p Pass) bool {
		if p.State == PassRunning {
			n++
		}
		return true
	})
	return n
}

// Pass gives a pass by id.
func (s *State) Pass(id uint64) (Pass, bool) { return s.passes.get(id) }

// Passes visits the passes in the order in which they began, from the given id.
func (s *State) Passes(from uint64, visit func(Pass) bool) {
	s.passes.ascend(from, func(_ uint64, p Pass) bool { return visit(p) })
}
