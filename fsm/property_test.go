package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// seedOf prints the seed of a random test; QUIESCE_SEED repeats it.
func seedOf(t *testing.T) uint64 {
	seed := rand.Uint64()
	if v := os.Getenv("QUIESCE_SEED"); v != "" {
		seed, _ = strconv.ParseUint(v, 10, 64)
	}
	t.Logf("QUIESCE_SEED=%d", seed)
	return seed
}

// story is a random but plausible history: few names, so that commands meet.
type story struct {
	r    *rand.Rand
	s    *State // what is so far, to aim at things that exist
	now  uint64
	term uint64
	next int
}

func (st *story) name(prefix string, n int) string { return fmt.Sprintf("%s%d", prefix, st.r.IntN(n)) }

func (st *story) entry() (uint64, Entry) {
	if st.term == 0 || st.r.IntN(60) == 0 {
		st.term++
		return st.term, Entry{Ops: []Op{{Command: TermStart{Node: st.name("n", 3)}}}}
	}
	st.now += uint64(st.r.IntN(40))
	if st.r.IntN(40) == 0 {
		st.now += uint64(st.r.IntN(2 * KeyWindowMs)) // a long silence: many deadlines fall into one entry
	}
	e := Entry{Now: st.now}
	for range 1 + st.r.IntN(5) {
		e.Ops = append(e.Ops, Op{Command: st.command(), Key: st.key()})
	}
	return st.term, e
}

func (st *story) key() *Key {
	switch st.r.IntN(4) {
	case 0:
		return &Key{ID: st.name("k", 20), Fingerprint: uint64(st.r.IntN(2))}
	case 1:
		seq := uint64(st.r.IntN(50))
		return &Key{Client: st.name("c", 3), Seq: seq, Acked: uint64(st.r.IntN(int(seq) + 1))}
	}
	return nil
}

func (st *story) command() Command {
	st.next++
	session, lock := st.name("s", 6), st.name("l", 3)
	switch st.r.IntN(30) {
	case 0, 1:
		return OpenSession{ID: session, TTLMs: SessionTTLMinMs + uint64(st.r.IntN(2000))}
	case 2:
		return RenewSessions{IDs: []string{session, st.name("s", 6)}}
	case 3:
		return CloseSession{ID: session}
	case 4:
		v, _ := st.s.Session(session)
		return ExpireSession{ID: session, Generation: v.Generation - uint64(st.r.IntN(2))}
	case 5, 6, 7:
		return st.acquire(session)
	case 8, 9:
		return st.holderCommand(lock)
	case 10:
		return CancelTicket{ID: st.s.Token() - uint64(st.r.IntN(8))}
	case 11:
		return ClaimTicket{ID: st.s.Token() - uint64(st.r.IntN(8))}
	case 12:
		return RegisterInstance{ID: fmt.Sprintf("i%d", st.next), Session: fmt.Sprintf("is%d", st.next), Service: st.service(), Name: st.name("pod", 5), TTLMs: 1000,
			Phases: []PhaseLimit{{Phase: "reject", LimitMs: uint64(st.r.IntN(50))}}, Platform: []string{"", "", "", PlatformKubernetes}[st.r.IntN(4)]}
	case 13, 14, 15, 22, 23, 24, 25, 26:
		return st.instanceCommand()
	case 16:
		return PutMapping{Name: st.name("m", 2), Source: "main", Target: "cache", Table: "t", Spec: []byte("{}"), Columns: []byte("[]")}
	case 17, 18:
		return EnqueueEvents{Events: []RowRef{st.rowRef(), st.rowRef()}}
	case 19:
		return st.settlement()
	case 20, 21:
		return st.passCommand()
	case 27, 28:
		return st.preparedCommand()
	case 29:
		return st.steering()
	}
	if st.r.IntN(2) == 0 {
		return MarkLeaving{ID: st.name("n", 3), Incarnation: "x", WithinMs: uint64(st.r.IntN(300))}
	}
	return PutNode{Node: Node{ID: st.name("n", 3), Incarnation: "x", HTTPAddr: st.name("h", 2)}}
}

func (st *story) acquire(session string) Command {
	return AcquireLock{Session: session, Owner: st.name("o", 2), Wants: st.wants(), WaitMs: uint64(st.r.IntN(3) * 100), ClaimMs: uint64(st.r.IntN(80)),
		Reentrant: st.r.IntN(3) == 0, DelayMs: uint64(st.r.IntN(3) * 30)}
}

func (st *story) wants() []LockWant {
	var out []LockWant
	for _, i := range st.r.Perm(4)[:1+st.r.IntN(3)] {
		w := LockWant{Name: fmt.Sprint("l", i), Mode: LockMode(st.r.IntN(3))}
		if w.Mode == Permits {
			w.Permits, w.Limit = uint64(1+st.r.IntN(2)), 3
		}
		out = append(out, w)
	}
	return out
}

// holderCommand is what some holder of a lock, or an operator, may do with it.
func (st *story) holderCommand(name string) Command {
	var all []Grant
	st.s.Grants(name, func(g Grant) bool { all = append(all, g); return true })
	if len(all) == 0 {
		return AcquireLock{Session: st.name("s", 6), Wants: want(name), WaitMs: 100}
	}
	g := all[st.r.IntN(len(all))]
	switch st.r.IntN(10) {
	case 0:
		return DowngradeLock{Session: g.Session, Name: name, Token: g.Token}
	case 1, 2:
		return HandOffLock{Session: g.Session, Name: name, Token: g.Token, To: []string{"", st.name("s", 6)}[st.r.IntN(2)]}
	case 3:
		return ForceReleaseLock{Name: name, Token: g.Token * uint64(st.r.IntN(2)), Reason: "story"}
	case 4:
		return RevokeLock{Name: name, WithinMs: uint64(1 + st.r.IntN(60)), Reason: "story"}
	case 5:
		return SetLockValue{Session: g.Session, Name: name, Token: g.Token, Value: st.name("v", 3)}
	}
	return ReleaseLock{Session: g.Session, Locks: []HeldLock{{Name: name, Token: g.Token}}}
}

// instanceCommand is what some instance, its platform, an operator or the leader may say.
func (st *story) instanceCommand() Command {
	var all []Instance
	st.s.Instances("", func(v Instance) bool { all = append(all, v); return true })
	if len(all) == 0 || st.r.IntN(8) == 0 {
		return st.serviceCommand()
	}
	v := all[st.r.IntN(len(all))]
	switch st.r.IntN(12) {
	case 0, 1, 2:
		return SetInstanceReady{ID: v.ID, Incarnation: v.Incarnation}
	case 3, 4:
		return DrainInstance{ID: v.ID, Incarnation: v.Incarnation, Intent: []string{IntentRestart, IntentRemove}[st.r.IntN(2)], KillInMs: uint64(st.r.IntN(2) * st.r.IntN(300))}
	case 5:
		return ReportPhase{ID: v.ID, Incarnation: v.Incarnation, Phase: Phases[st.r.IntN(len(Phases))], Seq: v.PhaseSeq + uint64(st.r.IntN(3)),
			Unfinished: st.r.IntN(2) == 0, Keys: []RowRef{st.rowRef()}}
	case 6:
		return PauseInstance{ID: v.ID, Force: st.r.IntN(3) == 0}
	case 7:
		return ResumeInstance{ID: v.ID}
	case 8:
		return UndoDrain{ID: v.ID}
	case 9:
		return st.planCommand()
	case 10:
		if st.r.IntN(2) == 0 {
			return ReportConnections{ID: v.ID, Incarnation: v.Incarnation, Connections: []Connections{{Source: "main", IDs: []uint64{uint64(st.r.IntN(9))}}}}
		}
		return AdoptInstance{ID: v.ID, Incarnation: v.Incarnation, Step: []string{AdoptKeys, AdoptTransactions, AdoptDone}[st.r.IntN(3)]}
	}
	return FinishInstance{ID: v.ID, Incarnation: v.Incarnation, Left: st.r.IntN(2) == 0}
}

func (st *story) serviceCommand() Command {
	ms := func() *uint64 { n := uint64(st.r.IntN(4) * 50); return &n }
	c := PutService{Name: st.service(), SettleMs: ms(), RestartHoldMs: ms(), LostHoldMs: ms(), Freeze: Switch(st.r.IntN(3)), Replicas: uint32(st.r.IntN(2) * 4)}
	switch st.r.IntN(4) {
	case 0:
		c.MaxUnavailable = uint32(1 + st.r.IntN(2))
	case 1:
		c.MaxUnavailablePercent = uint32(1 + st.r.IntN(60))
	case 2:
		c.MinAvailable = uint32(1 + st.r.IntN(3))
	default:
		c.MinAvailablePercent = uint32(1 + st.r.IntN(80))
	}
	if st.r.IntN(3) == 0 {
		c.Cleanup = &ServiceCleanup{Target: "cache", Patterns: []string{"order:*"}, DelayMs: uint64(st.r.IntN(100))}
	}
	if st.r.IntN(3) == 0 {
		c.DependsOn = []string{st.service()}
	}
	return c
}

func (st *story) service() string { return []string{"orders", "stock"}[st.r.IntN(2)] }

func (st *story) planCommand() Command {
	var last Plan
	st.s.Plans(0, func(p Plan) bool { last = p; return st.r.IntN(3) > 0 })
	switch st.r.IntN(6) {
	case 0:
		return PausePlan{ID: last.ID}
	case 1:
		return ResumePlan{ID: last.ID}
	case 2:
		return CancelPlan{ID: last.ID, Failed: st.r.IntN(2) == 0}
	case 3:
		return StartPlan{ID: last.ID}
	case 4:
		var id uint64
		st.s.Cleanups(0, func(v Cleanup) bool { id = v.ID; return true })
		return []Command{NewCleanup{Target: "cache", Patterns: []string{"ord*"}, DelayMs: uint64(st.r.IntN(200))}, CheckpointCleanup{ID: id, Done: st.r.IntN(2) == 0},
			CancelCleanup{ID: id}}[st.r.IntN(3)]
	}
	c := PlanRules{Intent: PlanRestart, Services: []string{"orders", "stock"}[st.r.IntN(2):], Canary: uint32(st.r.IntN(2)), Wave: uint32(st.r.IntN(3)),
		ObserveMs: uint64(st.r.IntN(100)), PauseAfter: st.r.IntN(4) == 0, HaltAfter: uint32(1 + st.r.IntN(3)), DeadlineMs: uint64(st.r.IntN(3) * 2000)}
	if st.r.IntN(3) == 0 {
		c.Intent, c.AllowZero = PlanShutdown, true
	}
	return NewPlan{Rules: c, Start: st.r.IntN(3) > 0}
}

func (st *story) rowRef() RowRef { return RowRef{Mapping: st.name("m", 2), PK: st.name("pk", 5)} }

// preparedCommand is what an application or the leader says of announced events.
func (st *story) preparedCommand() Command {
	var all []Prepared
	st.s.AllPrepared(0, func(p Prepared) bool { all = append(all, p); return true })
	if len(all) == 0 || st.r.IntN(3) == 0 {
		c := PrepareEvents{Source: "main", Events: []RowRef{st.rowRef(), st.rowRef()}, TTLMs: PreparedTTLMinMs + uint64(st.r.IntN(500))}
		st.s.Instances("", func(v Instance) bool { c.Instance = v.ID; return st.r.IntN(3) > 0 })
		if st.r.IntN(2) == 0 {
			c.Spans = []byte{0, 2}
		}
		return c
	}
	p := all[st.r.IntN(len(all))]
	switch st.r.IntN(5) {
	case 0:
		return SubmitPrepared{ID: p.ID}
	case 1:
		return CancelPrepared{ID: p.ID}
	case 2:
		return ProbePrepared{Probes: []Probe{{ID: p.ID, Verdict: VerdictOpen, DelayMs: uint64(st.r.IntN(100))}}}
	case 3:
		return ProbePrepared{Probes: []Probe{{ID: p.ID, Verdict: VerdictRolledBack}, {ID: all[0].ID, Verdict: VerdictCommitted}}}
	}
	return DeleteMapping{Name: st.name("m", 2)}
}

// steering is what an operator, or a leader that saw another store, says.
func (st *story) steering() Command {
	switch st.r.IntN(6) {
	case 0:
		return PauseOutbox{Scope: PauseMapping, Name: st.name("m", 2), Reason: st.name("r", 2)}
	case 1:
		return ResumeOutbox{Scope: PauseMapping, Name: st.name("m", 2)}
	case 2:
		return ReplayEvents{Rows: []RowRef{st.rowRef(), st.rowRef()}, StepMicros: 20_000}
	case 3:
		return DiscardEvents{Rows: []RowRef{st.rowRef()}}
	case 4:
		was, _ := st.s.Store(StoreTarget, "cache")
		return ObserveStore{Kind: StoreTarget, Name: "cache", Before: was.Identity, Identity: st.name("run", 3), Cause: []string{"", "restarted"}[st.r.IntN(2)]}
	}
	return StartPass{Mapping: st.name("m", 2), PassOptions: PassOptions{Mode: PassRewrite, Cap: TokenMax, Extras: true}, Doubt: true}
}

func (st *story) settlement() Command {
	ref := st.rowRef()
	e, _ := st.s.Event(ref)
	m, _ := st.s.Mapping(ref.Mapping)
	a := Settlement{Row: ref, Revision: m.Revision, Token: e.Token}
	switch st.r.IntN(3) {
	case 0:
		return SettleEvents{Events: []Settlement{a}}
	case 1:
		return FailEvents{Events: []Failure{{Event: a, Class: "x", DelayMs: 10, Attempt: true}}}
	}
	return BuryEvents{Events: []Failure{{Event: a, Class: "x"}}}
}

// passCommand is what an operator, a schedule or the leader says of passes.
func (st *story) passCommand() Command {
	var last Pass
	st.s.Passes(0, func(p Pass) bool { last = p; return st.r.IntN(4) > 0 })
	mapping := st.name("m", 2)
	options := PassOptions{Mode: []PassMode{PassDryRun, PassInvalidate, PassRewrite}[st.r.IntN(3)], Cap: uint64(st.r.IntN(3)), CapPercent: uint64(st.r.IntN(2)), Extras: st.r.IntN(2) == 0,
		SamplePPM: uint64(st.r.IntN(2)) * 1000}
	planned, _ := st.s.Schedule(mapping)
	extra := []RowRef{{Mapping: last.Mapping, PK: st.name("pk", 5)}}
	switch st.r.IntN(15) {
	case 0:
		return FinishPass{ID: last.ID, Reason: []string{"", "failed"}[st.r.IntN(2)]}
	case 1:
		return CheckpointPass{ID: last.ID, From: last.Cursor, Cursor: st.name("pk", 9), Repairs: []RowRef{{Mapping: last.Mapping, PK: "pk1"}}, Filled: uint64(st.r.IntN(2))}
	case 2, 3:
		counts := last.Keys
		counts.Extra++
		counts.Removed = min(counts.Removed+1, last.Removals)
		return CheckpointKeys{ID: last.ID, From: last.Scan, Scan: KeyCursor{Life: st.name("life", 2), Cursor: uint64(st.r.IntN(9))}, Counts: counts, Extras: extra[:min(1, last.Removals)]}
	case 4:
		return HoldPass{ID: last.ID, Hold: []PassHold{HoldCap, HoldExtras}[st.r.IntN(2)], Reason: "story"}
	case 5, 6:
		return ApprovePass{ID: last.ID, Limit: uint64(st.r.IntN(3))}
	case 7:
		return PausePass{ID: last.ID}
	case 8:
		return ResumePass{ID: last.ID}
	case 9:
		return CancelPass{ID: last.ID}
	case 10:
		return PutSchedule{Mapping: mapping, PassOptions: options, Cron: st.name("cron", 2), IfVersion: planned.Version * uint64(st.r.IntN(2)), WallMs: uint64(st.r.IntN(500))}
	case 11, 12:
		return StartPass{Mapping: mapping, Slot: planned.LastSlot + uint64(st.r.IntN(100))}
	case 13:
		if st.r.IntN(4) == 0 {
			return DeleteSchedule{Mapping: mapping}
		}
		return EnqueueEvents{Events: []RowRef{st.rowRef()}, Drop: true}
	}
	return StartPass{Mapping: mapping, PassOptions: options}
}

type logged struct {
	term  uint64
	entry Entry
}

// history builds a random history, with the invariants checked after every entry.
func history(t *testing.T, seed uint64, entries int) []logged {
	st := &story{r: rand.New(rand.NewPCG(seed, 1)), s: New()}
	var out []logged
	for range entries {
		term, e := st.entry()
		out = append(out, logged{term, e})
		before := *st.s
		st.s.onGrant = func(v Instance) { checkGrant(t, st.s, v) }
		apply(t, st.s, term, e)
		if st.s.Now() < before.Now() || st.s.Revision() < before.Revision() || st.s.Token() < before.Token() {
			t.Fatalf("I2: a counter fell: %+v to %+v", before.counters, st.s.counters)
		}
	}
	return out
}

func TestState_SameDigestHoweverTheLogIsApplied(t *testing.T) {
	t.Parallel()
	seed := seedOf(t)
	for run := range uint64(6) {
		log := history(t, seed+run, 400)
		batched, single, restored := New(), New(), New()
		cut := rand.New(rand.NewPCG(seed, run)).IntN(len(log))
		for i, l := range log {
			batched.Apply(l.term, l.entry)
			for _, op := range l.entry.Ops {
				single.Apply(l.term, Entry{Now: l.entry.Now, Ops: []Op{op}})
			}
			restored.Apply(l.term, l.entry)
			if i == cut {
				restored = throughSnapshot(t, restored)
			}
			if batched.Digest() != single.Digest() || batched.Digest() != restored.Digest() {
				t.Fatalf("run %d: after entry %d (%+v) digests differ: batched %s, single %s, through a snapshot %s",
					run, i, l.entry, batched.Digest(), single.Digest(), restored.Digest())
			}
		}
		if batched.Revision() == 0 || batched.Token() == 0 {
			t.Fatal("nothing happened")
		}
	}
}

func throughSnapshot(t *testing.T, s *State) *State {
	t.Helper()
	var b bytes.Buffer
	if err := s.Clone().WriteSnapshot(&b); err != nil {
		t.Fatal(err)
	}
	whole := b.Bytes()
	out, err := ReadSnapshot(&b)
	if err != nil {
		t.Fatal(err)
	}
	if err := out.check(); err != nil {
		t.Fatalf("restored: %v", err)
	}
	var again bytes.Buffer // a restored row takes the digest of its bytes: they must be what its value encodes to
	if err := out.Clone().WriteSnapshot(&again); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.Bytes(), whole) {
		t.Fatal("the snapshot of a restored state differs from that of which it was restored")
	}
	return out
}

func TestState_DigestSeesEveryRow(t *testing.T) {
	t.Parallel()
	for _, l := range history(t, seedOf(t), 200) {
		s := New()
		s.Apply(1, Entry{Ops: []Op{{Command: TermStart{}}}})
		before, revision := s.Digest(), s.Revision()
		results, _ := s.Apply(1, Entry{Ops: l.entry.Ops[:1]})
		if changed := s.Digest() != before; changed != (s.Revision() != revision) {
			t.Fatalf("%+v: digest changed %v, revision %d to %d, result %+v", l.entry.Ops[0], changed, revision, s.Revision(), results[0])
		}
	}
}

func TestState_RevisionCountsChanges(t *testing.T) {
	t.Parallel()
	s := New()
	steps := []struct {
		c    Command
		want uint64
	}{
		{TermStart{}, 1},
		{Tick{}, 1},
		{OpenSession{ID: "a", TTLMs: 1000}, 2},
		{OpenSession{ID: "a", TTLMs: 1000}, 2},
		{AcquireLock{Session: "a", Wants: want("x")}, 3},
		{AcquireLock{Session: "nobody", Wants: want("y")}, 3},
		{PutNode{Node: Node{ID: "n"}}, 4},
		{PutNode{Node: Node{ID: "n"}}, 4},
		{CloseSession{ID: "a"}, 5},
	}
	for _, step := range steps {
		if r := apply(t, s, 1, Entry{Ops: []Op{{Command: step.c}}})[0]; r.Index != step.want || s.Revision() != step.want {
			t.Fatalf("%T: result index %d, revision %d, want %d", step.c, r.Index, s.Revision(), step.want)
		}
	}
}

func TestSnapshot_AnyDamagedByteIsRefused(t *testing.T) {
	t.Parallel()
	s := New()
	for _, l := range history(t, seedOf(t), 150) {
		s.Apply(l.term, l.entry)
	}
	var b bytes.Buffer
	if err := s.Clone().WriteSnapshot(&b); err != nil {
		t.Fatal(err)
	}
	whole := b.Bytes()
	for i := 0; i < len(whole); i += 1 + len(whole)/500 {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 1 << (i % 8)
		if _, err := ReadSnapshot(bytes.NewReader(damaged)); !errors.Is(err, ErrDamagedSnapshot) {
			t.Fatalf("bit %d of byte %d flipped: %v", i%8, i, err)
		}
		if _, err := ReadSnapshot(bytes.NewReader(whole[:i])); !errors.Is(err, ErrDamagedSnapshot) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
}

// A snapshot is written while entries are applied; the race detector watches.
func TestSnapshot_WrittenBesideApply(t *testing.T) {
	t.Parallel()
	log := history(t, seedOf(t), 400)
	s := New()
	for _, l := range log[:200] {
		s.Apply(l.term, l.entry)
	}
	clone, want := s.Clone(), s.Digest()
	done := make(chan *State)
	go func() { done <- throughSnapshot(t, clone) }()
	for _, l := range log[200:] {
		s.Apply(l.term, l.entry)
	}
	if got := (<-done).Digest(); got != want {
		t.Fatalf("the snapshot has digest %s, the state had %s", got, want)
	}
}

func FuzzDecodeEntry(f *testing.F) {
	f.Add(EncodeEntry(Entry{Now: 1, Ops: []Op{{Command: OpenSession{ID: "a", TTLMs: 1000}}}}))
	f.Add(EncodeEntry(Entry{Ops: []Op{{Command: TermStart{Node: "n"}, Key: &Key{ID: "k"}}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := DecodeEntry(b)
		if err != nil {
			if !errors.Is(err, ErrDamagedEntry) && !errors.Is(err, ErrUnknownKind) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		New().Apply(1, e) // what can be decoded must not panic
	})
}

// FuzzCommand goes below the checksum: any body of any kind is refused or applied, never a panic, and the invariants hold.
func FuzzCommand(f *testing.F) {
	for kind, info := range kinds {
		if info.decode != nil {
			f.Add(uint8(kind), []byte{0xa0})
			f.Add(uint8(kind), []byte{1, 'a', 1, 1, 'x', 0, 0, 0, 0, 0, 0, 0, 0, 0})
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, body []byte) {
		c, err := decodeCommand(Kind(kind), commandVersion, body)
		if err != nil {
			return
		}
		s := New()
		s.Apply(1, Entry{Ops: []Op{{Command: TermStart{}}, {Command: OpenSession{ID: "a", TTLMs: 1000}}}})
		s.Apply(1, Entry{Ops: []Op{{Command: c}}})
		if err := s.check(); err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
	})
}

// A deadline that moved leaves its old timer behind. A replica that was restored has no such left-over, and must still act in the same
// order when one entry's time jumps over everything.
func TestState_LeftOverTimersDecideNothing(t *testing.T) {
	t.Parallel()
	s := fresh(t, PutNode{Node: Node{ID: "n", Incarnation: "x"}}, OpenSession{ID: "a", TTLMs: 1000}, OpenSession{ID: "b", TTLMs: 1000},
		AcquireLock{Session: "a", Wants: want("x")}, AcquireLock{Session: "b", Wants: want("x"), WaitMs: 200},
		MarkLeaving{ID: "n", Incarnation: "x", WithinMs: 100}, MarkLeaving{ID: "n", Incarnation: "x", WithinMs: 300})
	for _, client := range []string{"c", "d"} {
		for i := range uint64(3) {
			s.Apply(1, Entry{Now: 10 + i, Ops: []Op{{Command: Tick{}, Key: &Key{Client: client, Seq: i, Acked: i}}}})
		}
	}
	restored := throughSnapshot(t, s)
	for _, now := range []uint64{1000, 10 * KeyWindowMs} {
		s.Apply(1, Entry{Now: now, Ops: []Op{{Command: Tick{}}}})
		restored.Apply(1, Entry{Now: now, Ops: []Op{{Command: Tick{}}}})
		if s.Digest() != restored.Digest() {
			t.Fatalf("at %d the restored replica differs", now)
		}
	}
}
