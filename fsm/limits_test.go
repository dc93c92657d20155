package fsm

import (
	"fmt"
	"strings"
	"testing"
)

func fresh(t testing.TB, commands ...Command) *State {
	s := New()
	for _, c := range append([]Command{TermStart{Node: "n1"}}, commands...) {
		if r := do(s, c); r.Refused() {
			t.Fatalf("%+v: %+v", c, r)
		}
	}
	return s
}

func do(s *State, c Command) Result {
	results, _ := s.Apply(s.Term()|1, Entry{Now: s.Now(), Ops: []Op{{Command: c}}})
	return results[0]
}

func letters(n int) string { return strings.Repeat("x", n) }

// want names locks to take exclusively.
func want(names ...string) []LockWant {
	out := make([]LockWant, len(names))
	for i, name := range names {
		out[i].Name = name
	}
	return out
}

func names(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprint("name", i))
	}
	return out
}

func manyWants(n int) []LockWant {
	out := make([]LockWant, n)
	for i := range out {
		out[i].Name = fmt.Sprint(i)
	}
	return out
}

func manyHeld(n int) []HeldLock {
	out := make([]HeldLock, n)
	for i := range out {
		out[i] = HeldLock{Name: fmt.Sprint(i), Token: uint64(i + 1)}
	}
	return out
}

func permits(name string, n, limit uint64) []LockWant {
	return []LockWant{{Name: name, Mode: Permits, Permits: n, Limit: limit}}
}

func rows(n int) []RowRef {
	out := make([]RowRef, n)
	for i := range out {
		out[i] = RowRef{Mapping: "m", PK: fmt.Sprint(i)}
	}
	return out
}

// Each command is taken at its limit and refused one beyond, having changed nothing.
func TestLimits_OfOneCommand(t *testing.T) {
	t.Parallel()
	session := OpenSession{ID: "s", TTLMs: 1000}
	mapping := PutMapping{Name: "m", Source: "s"}
	instance := RegisterInstance{ID: "i", Session: "is", Service: "svc", Name: "a", TTLMs: 1000}
	pass := StartPass{Mapping: "m", PassOptions: PassOptions{Mode: PassRewrite}}
	keysPass := StartPass{Mapping: "m", PassOptions: PassOptions{Mode: PassRewrite, Extras: true}}
	options := func(change func(*PassOptions)) StartPass {
		c := pass
		change(&c.PassOptions)
		return c
	}
	planned := func(change func(*PutSchedule)) PutSchedule {
		c := PutSchedule{Mapping: "m", PassOptions: pass.PassOptions, Cron: "@daily"}
		change(&c)
		return c
	}
	counters := func(n int) []Counter {
		out := make([]Counter, n)
		for i := range out {
			out[i].Name = fmt.Sprint("c", i)
		}
		return out
	}
	registration := func(change func(*RegisterInstance)) RegisterInstance {
		c := RegisterInstance{ID: "j", Session: "js", Service: "svc", Name: "b", TTLMs: 1000}
		change(&c)
		return c
	}
	labels := func(n int) (out []Label) {
		for i := range n {
			out = append(out, Label{Key: fmt.Sprint(i), Value: letters(NameBytesMax)})
		}
		return out
	}
	connections := func(sources, n int) (out []Connections) {
		for i := range sources {
			out = append(out, Connections{Source: fmt.Sprint(i), IDs: make([]uint64, n)})
		}
		return out
	}
	ptr := func(ms uint64) *uint64 { return &ms }
	tests := []struct {
		name    string
		before  []Command
		at      Command
		beyond  Command
		another Code // than invalid
	}{
		{name: "session id", at: OpenSession{ID: letters(IDBytesMax), TTLMs: 1000}, beyond: OpenSession{ID: letters(IDBytesMax + 1), TTLMs: 1000}},
		{name: "session name", at: OpenSession{ID: "a", Name: letters(NameBytesMax), TTLMs: 1000}, beyond: OpenSession{ID: "a", Name: letters(NameBytesMax + 1), TTLMs: 1000}},
		{name: "shortest TTL", at: OpenSession{ID: "a", TTLMs: SessionTTLMinMs}, beyond: OpenSession{ID: "a", TTLMs: SessionTTLMinMs - 1}},
		{name: "longest TTL", at: OpenSession{ID: "a", TTLMs: SessionTTLMaxMs}, beyond: OpenSession{ID: "a", TTLMs: SessionTTLMaxMs + 1}},
		{name: "lock name", before: []Command{session}, at: AcquireLock{Session: "s", Wants: want(letters(NameBytesMax))}, beyond: AcquireLock{Session: "s", Wants: want(letters(NameBytesMax + 1))}},
		{name: "wait", before: []Command{session}, at: AcquireLock{Session: "s", Wants: want("x"), WaitMs: WaitMaxMs}, beyond: AcquireLock{Session: "s", Wants: want("y"), WaitMs: WaitMaxMs + 1}},
		{name: "names", before: []Command{session}, at: AcquireLock{Session: "s", Wants: manyWants(WantsMax)}, beyond: AcquireLock{Session: "s", Wants: manyWants(WantsMax + 1)}},
		{name: "claim", before: []Command{session}, at: AcquireLock{Session: "s", Wants: want("x"), ClaimMs: WaitMaxMs}, beyond: AcquireLock{Session: "s", Wants: want("y"), ClaimMs: WaitMaxMs + 1}},
		{name: "owner", before: []Command{session}, at: AcquireLock{Session: "s", Wants: want("x"), Owner: letters(NameBytesMax)}, beyond: AcquireLock{Session: "s", Wants: want("y"), Owner: letters(NameBytesMax + 1)}},
		{name: "value", before: []Command{session}, at: AcquireLock{Session: "s", Wants: want("x"), Value: letters(ValueBytesMax)}, beyond: AcquireLock{Session: "s", Wants: want("y"), Value: letters(ValueBytesMax + 1)}},
		{name: "new value", before: []Command{session, AcquireLock{Session: "s", Wants: want("x")}}, at: SetLockValue{Session: "s", Name: "x", Token: 1, Value: letters(ValueBytesMax)}, beyond: SetLockValue{Session: "s", Name: "x", Token: 1, Value: letters(ValueBytesMax + 1)}},
		{name: "lock-delay", before: []Command{session}, at: AcquireLock{Session: "s", Wants: want("x"), DelayMs: LockDelayMaxMs}, beyond: AcquireLock{Session: "s", Wants: want("y"), DelayMs: LockDelayMaxMs + 1}},
		{name: "limit of permits", before: []Command{session}, at: AcquireLock{Session: "s", Wants: permits("x", 1, PermitsMax)}, beyond: AcquireLock{Session: "s", Wants: permits("y", 1, PermitsMax+1)}},
		{name: "permits", before: []Command{session}, at: AcquireLock{Session: "s", Wants: permits("x", 3, 3)}, beyond: AcquireLock{Session: "s", Wants: permits("y", 4, 3)}},
		{name: "names of a release", before: []Command{session, AcquireLock{Session: "s", Wants: manyWants(WantsMax)}}, at: ReleaseLock{Session: "s", Locks: manyHeld(WantsMax)}, beyond: ReleaseLock{Session: "s", Locks: manyHeld(WantsMax + 1)}},
		{name: "time to revoke", before: []Command{session, AcquireLock{Session: "s", Wants: want("x")}}, at: RevokeLock{Name: "x", WithinMs: RevokeMaxMs, Reason: "r"}, beyond: RevokeLock{Name: "x", WithinMs: RevokeMaxMs + 1, Reason: "r"}},
		{name: "reason of a force", before: []Command{session, AcquireLock{Session: "s", Wants: want("x")}}, at: ForceReleaseLock{Name: "x", Reason: letters(ReasonBytesMax)}, beyond: ForceReleaseLock{Name: "x", Reason: letters(ReasonBytesMax + 1)}},
		{name: "reason of a cancellation", before: []Command{session, OpenSession{ID: "b", TTLMs: 1000}, AcquireLock{Session: "s", Wants: want("x")}, AcquireLock{Session: "b", Wants: want("x"), WaitMs: 9}}, at: CancelTicket{ID: 2, Reason: letters(ReasonBytesMax)}, beyond: CancelTicket{ID: 2, Reason: letters(ReasonBytesMax + 1)}},
		{name: "reason", before: []Command{instance}, at: DrainInstance{ID: "i", Intent: "remove", Reason: letters(ReasonBytesMax)}, beyond: DrainInstance{ID: "i", Intent: "remove", Reason: letters(ReasonBytesMax + 1)}},
		{name: "address", at: RegisterInstance{ID: "j", Session: "js", Service: "svc", Name: "b", Address: letters(AddressBytesMax), TTLMs: 1000},
			beyond: RegisterInstance{ID: "k", Session: "ks", Service: "svc", Name: "c", Address: letters(AddressBytesMax + 1), TTLMs: 1000}},
		{name: "counters", before: []Command{instance, DrainInstance{ID: "i", Intent: "remove"}}, at: ReportPhase{ID: "i", Incarnation: 1, Phase: "reject", Seq: 1, Counters: counters(CountersMax)},
			beyond: ReportPhase{ID: "i", Incarnation: 1, Phase: "reject", Seq: 2, Counters: counters(CountersMax + 1)}},
		{name: "labels", at: registration(func(c *RegisterInstance) { c.Labels = labels(LabelsMax) }), beyond: registration(func(c *RegisterInstance) { c.ID, c.Session, c.Labels = "k", "ks", labels(LabelsMax+1) })},
		{name: "grace", at: registration(func(c *RegisterInstance) { c.GraceMs = GraceMaxMs }), beyond: registration(func(c *RegisterInstance) { c.ID, c.Session, c.GraceMs = "k", "ks", GraceMaxMs+1 })},
		{name: "phases", at: registration(func(c *RegisterInstance) { c.Phases = []PhaseLimit{{Phase: "reject", LimitMs: GraceMaxMs}} }),
			beyond: registration(func(c *RegisterInstance) {
				c.ID, c.Session, c.Phases = "k", "ks", []PhaseLimit{{Phase: "reject", LimitMs: GraceMaxMs}, {Phase: "flush", LimitMs: 1}}
			})},
		{name: "time to the kill", before: []Command{instance}, at: DrainInstance{ID: "i", Intent: "remove", KillInMs: GraceMaxMs}, beyond: DrainInstance{ID: "i", Intent: "remove", KillInMs: GraceMaxMs + 1}},
		{name: "leftovers", before: []Command{instance, DrainInstance{ID: "i", Intent: "remove"}}, at: ReportPhase{ID: "i", Incarnation: 1, Phase: "flush", Seq: 1, Unfinished: true, Keys: rows(LeftoversMax)},
			beyond: ReportPhase{ID: "i", Incarnation: 1, Phase: "flush", Seq: 2, Unfinished: true, Keys: rows(LeftoversMax + 1)}},
		{name: "notes", before: []Command{instance, DrainInstance{ID: "i", Intent: "remove"}}, at: ReportPhase{ID: "i", Incarnation: 1, Phase: "flush", Seq: 1, Unfinished: true, Notes: make([]string, NotesMax)},
			beyond: ReportPhase{ID: "i", Incarnation: 1, Phase: "flush", Seq: 2, Unfinished: true, Notes: make([]string, NotesMax+1)}},
		{name: "connections", before: []Command{instance}, at: ReportConnections{ID: "i", Incarnation: 1, Connections: connections(SourcesShownMax, ConnectionsMax)},
			beyond: ReportConnections{ID: "i", Incarnation: 1, Connections: connections(1, ConnectionsMax+1)}},
		{name: "sources of connections", before: []Command{instance}, at: ReportConnections{ID: "i", Incarnation: 1, Connections: connections(SourcesShownMax, 1)},
			beyond: ReportConnections{ID: "i", Incarnation: 1, Connections: connections(SourcesShownMax+1, 1)}},
		{name: "dependencies", at: PutService{Name: "a", DependsOn: names(DependsOnMax)}, beyond: PutService{Name: "b", DependsOn: names(DependsOnMax + 1)}},
		{name: "replicas", at: PutService{Name: "a", Replicas: ReplicasMax}, beyond: PutService{Name: "b", Replicas: ReplicasMax + 1}},
		{name: "percentage", at: PutService{Name: "a", MinAvailablePercent: 100}, beyond: PutService{Name: "b", MinAvailablePercent: 101}},
		{name: "time to settle", at: PutService{Name: "a", SettleMs: ptr(HoldMaxMs)}, beyond: PutService{Name: "b", SettleMs: ptr(HoldMaxMs + 1)}},
		{name: "patterns", at: NewCleanup{Target: "t", Patterns: names(CleanupPatternsMax)}, beyond: NewCleanup{Target: "t", Patterns: names(CleanupPatternsMax + 1)}},
		{name: "pattern", at: NewCleanup{Target: "t", Patterns: []string{letters(PatternBytesMax)}}, beyond: NewCleanup{Target: "t", Patterns: []string{letters(PatternBytesMax + 1)}}},
		{name: "literal of a pattern", at: NewCleanup{Target: "t", Patterns: []string{letters(PatternLiteralMin) + "*"}}, beyond: NewCleanup{Target: "t", Patterns: []string{letters(PatternLiteralMin-1) + "*"}}},
		{name: "canary", before: []Command{PutService{Name: "a"}}, at: NewPlan{Rules: PlanRules{Intent: PlanRestart, Services: []string{"a"}, Canary: PlanTargetsMax}},
			beyond: NewPlan{Rules: PlanRules{Intent: PlanRestart, Services: []string{"a"}, Canary: PlanTargetsMax + 1}}},
		{name: "specification", at: PutMapping{Name: "m", Spec: make([]byte, SpecBytesMax)}, beyond: PutMapping{Name: "m", Spec: make([]byte, SpecBytesMax+1)}},
		{name: "events of a batch", before: []Command{mapping}, at: EnqueueEvents{Events: rows(EventsBatchMax)}, beyond: EnqueueEvents{Events: rows(EventsBatchMax + 1)}},
		{name: "row key", before: []Command{mapping}, at: EnqueueEvents{Events: []RowRef{{Mapping: "m", PK: letters(PKBytesMax)}}}, beyond: EnqueueEvents{Events: []RowRef{{Mapping: "m", PK: letters(PKBytesMax + 1)}}}},
		{name: "time of prepared events", before: []Command{mapping}, at: PrepareEvents{Source: "s", Events: rows(1), TTLMs: PreparedTTLMaxMs}, beyond: PrepareEvents{Source: "s", Events: rows(1), TTLMs: PreparedTTLMaxMs + 1}},
		{name: "short time of prepared events", before: []Command{mapping}, at: PrepareEvents{Source: "s", Events: rows(1), TTLMs: PreparedTTLMinMs}, beyond: PrepareEvents{Source: "s", Events: rows(1), TTLMs: PreparedTTLMinMs - 1}},
		{name: "prepared events", before: []Command{mapping}, at: PrepareEvents{Source: "s", Events: rows(EventsBatchMax), TTLMs: 1000}, beyond: PrepareEvents{Source: "s", Events: rows(EventsBatchMax + 1), TTLMs: 1000}},
		{name: "spans", before: []Command{mapping}, at: EnqueueEvents{Spans: make([]byte, EventsBatchMax)}, beyond: EnqueueEvents{Spans: make([]byte, EventsBatchMax+1)}},
		{name: "probes", at: ProbePrepared{Probes: make([]Probe, ProbesBatchMax)}, beyond: ProbePrepared{Probes: make([]Probe, ProbesBatchMax+1)}},
		{name: "replay", at: ReplayEvents{Rows: rows(ReplayBatchMax)}, beyond: ReplayEvents{Rows: rows(ReplayBatchMax + 1)}},
		{name: "time of a replay", at: ReplayEvents{Rows: rows(1), DelayMs: WaitMaxMs}, beyond: ReplayEvents{Rows: rows(1), DelayMs: WaitMaxMs + 1}},
		{name: "discard", at: DiscardEvents{Rows: rows(ReplayBatchMax)}, beyond: DiscardEvents{Rows: rows(ReplayBatchMax + 1)}},
		{name: "reason of a pause", at: PauseOutbox{Scope: PauseAll, Reason: letters(ReasonBytesMax)}, beyond: PauseOutbox{Scope: PauseAll, Reason: letters(ReasonBytesMax + 1)}},
		{name: "cause of a doubt", at: ObserveStore{Kind: StoreTarget, Name: "t", Identity: "a", Cause: letters(ErrorBytesMax)},
			beyond: ObserveStore{Kind: StoreTarget, Name: "t", Before: "a", Identity: "b", Cause: letters(ErrorBytesMax + 1)}},
		{name: "repairs", before: []Command{mapping, pass}, at: CheckpointPass{ID: 2, Cursor: "1", Repairs: rows(RepairsBatchMax)}, beyond: CheckpointPass{ID: 2, From: "1", Cursor: "2", Repairs: rows(RepairsBatchMax + 1)}},
		{name: "extra keys", before: []Command{mapping, keysPass, HoldPass{ID: 2, Hold: HoldExtras}, ApprovePass{ID: 2, Limit: RepairsBatchMax + 1}},
			at:     CheckpointKeys{ID: 2, Scan: KeyCursor{Life: "a", Cursor: 1}, Extras: rows(RepairsBatchMax)},
			beyond: CheckpointKeys{ID: 2, From: KeyCursor{Life: "a", Cursor: 1}, Scan: KeyCursor{Life: "a", Cursor: 2}, Extras: rows(RepairsBatchMax + 1)}},
		{name: "approved removals", before: []Command{mapping, keysPass, HoldPass{ID: 2, Hold: HoldExtras}, ApprovePass{ID: 2, Limit: 3}},
			at:     CheckpointKeys{ID: 2, Scan: KeyCursor{Life: "a", Cursor: 1}, Counts: KeyCounts{Removed: 3}, Extras: rows(3)},
			beyond: CheckpointKeys{ID: 2, From: KeyCursor{Life: "a", Cursor: 1}, Scan: KeyCursor{Life: "a", Cursor: 2}, Counts: KeyCounts{Removed: 4}, Extras: rows(1)}},
		{name: "life of a target", before: []Command{mapping, keysPass}, at: CheckpointKeys{ID: 2, Scan: KeyCursor{Life: letters(IDBytesMax)}},
			beyond: CheckpointKeys{ID: 2, From: KeyCursor{Life: letters(IDBytesMax)}, Scan: KeyCursor{Life: letters(IDBytesMax + 1)}}},
		{name: "approved repairs", before: []Command{mapping, PutMapping{Name: "n"}, pass, StartPass{Mapping: "n", PassOptions: pass.PassOptions}, HoldPass{ID: 3, Hold: HoldCap}, HoldPass{ID: 4, Hold: HoldCap}},
			at: ApprovePass{ID: 3, Limit: TokenMax}, beyond: ApprovePass{ID: 4, Limit: TokenMax + 1}},
		{name: "confirmation of a pass", before: []Command{mapping}, at: options(func(o *PassOptions) { o.ConfirmMs = WaitMaxMs }), beyond: options(func(o *PassOptions) { o.ConfirmMs = WaitMaxMs + 1 })},
		{name: "cap", before: []Command{mapping}, at: options(func(o *PassOptions) { o.Cap = TokenMax }), beyond: options(func(o *PassOptions) { o.Cap = TokenMax + 1 })},
		{name: "share of a cap", before: []Command{mapping}, at: options(func(o *PassOptions) { o.CapPercent = 100 }), beyond: options(func(o *PassOptions) { o.CapPercent = 101 })},
		{name: "beginning of a range", before: []Command{mapping}, at: options(func(o *PassOptions) { o.From = letters(PKBytesMax) }), beyond: options(func(o *PassOptions) { o.From = letters(PKBytesMax + 1) })},
		{name: "end of a range", before: []Command{mapping}, at: options(func(o *PassOptions) { o.To = letters(PKBytesMax) }), beyond: options(func(o *PassOptions) { o.To = letters(PKBytesMax + 1) })},
		{name: "sample", before: []Command{mapping}, at: options(func(o *PassOptions) { o.SamplePPM = 1_000_000 }), beyond: options(func(o *PassOptions) { o.SamplePPM = 1_000_001 })},
		{name: "rate", before: []Command{mapping}, at: options(func(o *PassOptions) { o.RateMax = TokenMax }), beyond: options(func(o *PassOptions) { o.RateMax = TokenMax + 1 })},
		{name: "cron expression", before: []Command{mapping}, at: planned(func(c *PutSchedule) { c.Cron = letters(NameBytesMax) }), beyond: planned(func(c *PutSchedule) { c.Cron = letters(NameBytesMax + 1) })},
		{name: "zone", before: []Command{mapping}, at: planned(func(c *PutSchedule) { c.Zone = letters(NameBytesMax) }), beyond: planned(func(c *PutSchedule) { c.Zone = letters(NameBytesMax + 1) })},
		{name: "jitter", before: []Command{mapping}, at: planned(func(c *PutSchedule) { c.JitterMs = WaitMaxMs }), beyond: planned(func(c *PutSchedule) { c.JitterMs = WaitMaxMs + 1 })},
		{name: "window", before: []Command{mapping}, at: planned(func(c *PutSchedule) { c.WindowFrom, c.WindowTo = "22:00", "05:00" }), beyond: planned(func(c *PutSchedule) { c.WindowFrom = "022:00" })},
		{name: "end of a window", before: []Command{mapping}, at: planned(func(c *PutSchedule) { c.WindowTo = "05:00" }), beyond: planned(func(c *PutSchedule) { c.WindowTo = "005:00" })},
		{name: "wall clock", before: []Command{mapping}, at: planned(func(c *PutSchedule) { c.WallMs = TokenMax }), beyond: planned(func(c *PutSchedule) { c.WallMs = TokenMax + 1 })},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := fresh(t, test.before...)
			if r := do(s, test.at); r.Refused() {
				t.Fatalf("at the limit: %+v", r)
			}
			before := s.Digest()
			if r := do(s, test.beyond); r.Code != CodeInvalid {
				t.Errorf("beyond the limit: %+v", r)
			}
			if s.Digest() != before {
				t.Error("the refused command changed something")
			}
		})
	}
}

// Each collection takes its maximum and answers the next with the code that says so.
func TestLimits_OfCollections(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		max    int
		before []Command
		add    func(i int) Command
		code   Code
	}{
		{"sessions", SessionsMax, nil, func(i int) Command { return OpenSession{ID: fmt.Sprint(i), TTLMs: 1000} }, CodeSessionsFull},
		{"holds of a reentrant owner", ReentrancyMax, []Command{OpenSession{ID: "a", TTLMs: 1000}},
			func(i int) Command { return AcquireLock{Session: "a", Wants: want("x"), Reentrant: true} }, CodeReentrancyLimit},
		{"tickets", TicketsMax, []Command{OpenSession{ID: "a", TTLMs: 1000}, OpenSession{ID: "b", TTLMs: 1000}, AcquireLock{Session: "a", Wants: want("x")}},
			func(i int) Command {
				return AcquireLock{Session: "b", Owner: fmt.Sprint(i), Wants: want("x"), WaitMs: 1000}
			}, CodeTicketsFull},
		{"nodes", NodesMax, nil, func(i int) Command { return PutNode{Node: Node{ID: fmt.Sprint(i)}} }, CodeNodesFull},
		{"services", ServicesMax, nil, func(i int) Command { return PutService{Name: fmt.Sprint(i), MaxUnavailable: 1} }, CodeServicesFull},
		{"cleanups", CleanupsMax, nil, func(i int) Command { return NewCleanup{Target: "t", Patterns: []string{"key:*"}, DelayMs: 1000} }, CodeCleanupsFull},
		{"pauses", PausesMax, nil, func(i int) Command { return PauseOutbox{Scope: PauseTarget, Name: fmt.Sprint(i)} }, CodePausesFull},
		{"stores", StoresMax, nil, func(i int) Command { return ObserveStore{Kind: StoreTarget, Name: fmt.Sprint(i), Identity: "x"} }, CodeStoresFull},
		{"prepares", PreparedMax, []Command{PutMapping{Name: "m", Source: "s"}},
			func(i int) Command {
				return PrepareEvents{Source: "s", Events: []RowRef{{Mapping: "m", PK: "1"}}, TTLMs: 1000}
			}, CodeOutboxFull},
		{"mappings", MappingsMax, nil, func(i int) Command { return PutMapping{Name: fmt.Sprint(i)} }, CodeMappingsFull},
		{"instances", InstancesMax, nil, func(i int) Command {
			return RegisterInstance{ID: fmt.Sprint(i), Session: fmt.Sprint("s", i), Service: "svc", Name: fmt.Sprint(i % 7), TTLMs: 1000}
		}, CodeInstancesFull},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := fresh(t, test.before...)
			for i := range test.max {
				if r := do(s, test.add(i)); r.Refused() {
					t.Fatalf("number %d: %+v", i+1, r)
				}
			}
			if r := do(s, test.add(test.max)); r.Code != test.code {
				t.Errorf("number %d: %+v, want %s", test.max+1, r, test.code)
			}
		})
	}
}

func TestLimits_LocksFullRefusesTheNextName(t *testing.T) {
	t.Parallel()
	s := fresh(t, OpenSession{ID: "a", TTLMs: 1000})
	for i := range LocksMax - 1 { // fills the table, without digests and indexes
		s.grants.rows.Set(grantKey("held", uint64(TokenMax-i)), &row[string, Grant]{})
	}
	if r := do(s, AcquireLock{Session: "a", Wants: want("x", "y")}); r.Code != CodeLocksFull {
		t.Fatalf("one too many: %+v", r)
	}
	if r := do(s, AcquireLock{Session: "a", Wants: want("x")}); r.Refused() {
		t.Fatalf("the last one: %+v", r)
	}
	if r := do(s, AcquireLock{Session: "a", Wants: want("y")}); r.Code != CodeLocksFull {
		t.Fatalf("beyond: %+v", r)
	}
}

func TestLimits_OutboxFullRefusesWholeBatchesAndStillFolds(t *testing.T) {
	t.Parallel()
	s := fresh(t, PutMapping{Name: "m"})
	for i := range PendingMax - 1 { // the events' own rules are tested elsewhere; this fills the table, without digests
		pk := fmt.Sprint(i)
		s.events.rows.Set(eventKey("m", pk), &row[string, Event]{value: Event{Mapping: "m", PK: pk}})
	}
	if r := do(s, EnqueueEvents{Events: []RowRef{{Mapping: "m", PK: "0"}, {Mapping: "m", PK: "a"}, {Mapping: "m", PK: "b"}}}); r.Code != CodeOutboxFull {
		t.Fatalf("one too many: %+v", r)
	}
	if r := do(s, EnqueueEvents{Events: []RowRef{{Mapping: "m", PK: "0"}, {Mapping: "m", PK: "a"}}}); r.Refused() {
		t.Fatalf("the last one: %+v", r)
	}
	if r := do(s, EnqueueEvents{Events: []RowRef{{Mapping: "m", PK: "0"}, {Mapping: "m", PK: "a"}}}); r.Refused() || !r.Outbox.Tokens[0].Coalesced {
		t.Fatalf("a full outbox folds events of rows that are pending: %+v", r)
	}
}

// TestPrepared_SubmitHasItsRoom: what is announced counts as pending from then on, so that a submit never meets a full outbox.
func TestPrepared_SubmitHasItsRoom(t *testing.T) {
	t.Parallel()
	s := fresh(t, PutMapping{Name: "m", Source: "s"})
	for i := range PendingMax - 3 {
		pk := fmt.Sprint(i)
		s.events.rows.Set(eventKey("m", pk), &row[string, Event]{value: Event{Mapping: "m", PK: pk}})
	}
	two := []RowRef{{Mapping: "m", PK: "a"}, {Mapping: "m", PK: "b"}}
	prepared := do(s, PrepareEvents{Source: "s", Events: two, TTLMs: 1000})
	if prepared.Refused() {
		t.Fatalf("%+v", prepared)
	}
	if r := do(s, PrepareEvents{Source: "s", Events: two, TTLMs: 1000}); r.Code != CodeOutboxFull {
		t.Fatalf("a second one: %+v", r)
	}
	if r := do(s, EnqueueEvents{Events: two}); r.Code != CodeOutboxFull {
		t.Fatalf("events that take the room of prepared ones: %+v", r)
	}
	if r := do(s, EnqueueEvents{Events: []RowRef{{Mapping: "m", PK: "c"}}}); r.Refused() {
		t.Fatalf("the last free place: %+v", r)
	}
	if r := do(s, SubmitPrepared{ID: prepared.Prepared.ID}); r.Refused() || len(r.Prepared.Tokens) != 2 || s.PendingCount() != PendingMax {
		t.Fatalf("%+v, %d pending", r, s.PendingCount())
	}
}

func TestIdempotency_WindowsAreBounded(t *testing.T) {
	t.Parallel()
	s := fresh(t)
	keyed := func(k Key) Result {
		results, _ := s.Apply(1, Entry{Now: s.Now(), Ops: []Op{{Command: Tick{}, Key: &k}}})
		return results[0]
	}
	for i := range uint64(KeyOutstandingMax) {
		if r := keyed(Key{Client: "c", Seq: i}); r.Refused() {
			t.Fatalf("result %d of a client: %+v", i+1, r)
		}
	}
	if r := keyed(Key{Client: "c", Seq: KeyOutstandingMax}); r.Code != CodeKeysOutstanding {
		t.Fatalf("one too many: %+v", r)
	}
	if r := keyed(Key{Client: "c", Seq: KeyOutstandingMax, Acked: 1}); r.Refused() {
		t.Fatalf("after an acknowledgement: %+v", r)
	}
	if r := keyed(Key{Client: "c", Seq: 0}); r.Code != CodeKeyAcknowledged {
		t.Fatalf("a late copy of an acknowledged request ran again: %+v", r)
	}
	for i := range KeysMax {
		keyed(Key{ID: fmt.Sprint(i)})
	}
	if w := s.KeyWindow(); w.Count != KeysMax {
		t.Errorf("%d results are kept", w.Count)
	}
	if _, found := s.replay(stored(Key{Client: "c", Seq: KeyOutstandingMax})); found {
		t.Error("the oldest results must go first")
	}
	if _, found := s.replay(stored(Key{ID: fmt.Sprint(KeysMax - 1)})); !found {
		t.Error("the newest result is gone")
	}
}

func TestAudit_IsBoundedOldestOut(t *testing.T) {
	t.Parallel()
	s := fresh(t, OpenSession{ID: "a", TTLMs: 1000})
	for range ActsMax + 3 {
		do(s, AcquireLock{Session: "a", Wants: want("x")})
		do(s, ForceReleaseLock{Name: "x", Reason: "r"})
	}
	n, first := 0, uint64(0)
	s.Acts(0, func(a Act) bool {
		if n++; n == 1 {
			first = a.ID
		}
		return true
	})
	if n != ActsMax || first != s.Token() {
		t.Errorf("%d acts are kept, the newest is %d, want %d and %d", n, first, ActsMax, s.Token())
	}
}

func TestPass_HistoryIsBoundedOldestOut(t *testing.T) {
	t.Parallel()
	s := fresh(t, PutMapping{Name: "m"})
	first := uint64(0)
	for range PassesMax + 3 {
		r := do(s, StartPass{Mapping: "m", PassOptions: PassOptions{Mode: PassDryRun}})
		if r.Refused() {
			t.Fatalf("%+v", r)
		}
		if first == 0 {
			first = r.Pass.ID
		}
		do(s, FinishPass{ID: r.Pass.ID})
	}
	if s.passes.len() != PassesMax {
		t.Errorf("%d passes are kept", s.passes.len())
	}
	if _, ok := s.Pass(first); ok {
		t.Error("the oldest pass must go first")
	}
}

func TestInstance_HistoryKeepsFirstAndLast(t *testing.T) {
	t.Parallel()
	s := fresh(t, RegisterInstance{ID: "i", Session: "is", Service: "svc", Name: "a", TTLMs: 1000}, DrainInstance{ID: "i", Intent: "remove"})
	do(s, ReportPhase{ID: "i", Incarnation: 1, Phase: "reject", Seq: 1})
	v, _ := s.Instance("i")
	before := len(v.History)
	do(s, ReportPhase{ID: "i", Incarnation: 1, Phase: "reject", Seq: 2})
	if v, _ = s.Instance("i"); len(v.History) != before {
		t.Errorf("a report of the same phase is news: %+v", v.History)
	}
	for seq := range uint64(3 * InstanceHistoryMax) {
		do(s, ReportPhase{ID: "i", Incarnation: 1, Phase: Phases[2+seq%2], Seq: seq + 3})
	}
	v, _ = s.Instance("i")
	if len(v.History) != InstanceHistoryMax || v.History[0].State != InstanceRegistered {
		t.Errorf("%+v", v.History)
	}
}

func stored(k Key) (*Key, string) {
	row, _ := k.row()
	return &k, row
}

func TestPlan_HistoryIsBoundedAndThoseUnderWayStay(t *testing.T) {
	t.Parallel()
	s := fresh(t)
	for i := range PlansMax {
		name := fmt.Sprint("svc", i)
		do(s, PutService{Name: name})
		do(s, RegisterInstance{ID: name, Session: "s" + name, Service: name, Name: "a", TTLMs: 1000}) // a draining one keeps its plan running
	}
	first := do(s, NewPlan{Rules: PlanRules{Intent: PlanRestart, Services: []string{"svc0"}}})
	for i := range PlansMax {
		if r := do(s, NewPlan{Rules: PlanRules{Intent: PlanRestart, Services: []string{fmt.Sprint("svc", i)}}, Start: true}); r.Refused() {
			t.Fatalf("number %d: %+v", i+1, r)
		}
	}
	if _, kept := s.Plan(first.Plan.ID); kept || s.plans.len() != PlansMax {
		t.Errorf("%d plans are kept", s.plans.len())
	}
	if r := do(s, NewPlan{Rules: PlanRules{Intent: PlanRestart, Services: []string{"svc0"}}}); r.Code != CodePlansFull {
		t.Errorf("%+v", r)
	}
}

func TestPlan_TooManyInstancesAreRefused(t *testing.T) {
	t.Parallel()
	s := fresh(t)
	for i := range PlanTargetsMax + 1 {
		do(s, RegisterInstance{ID: fmt.Sprint(i), Session: fmt.Sprint("s", i), Service: "svc", Name: fmt.Sprint(i), TTLMs: 1000})
	}
	if r := do(s, NewPlan{Rules: PlanRules{Intent: PlanRestart, Services: []string{"svc"}}, Start: true}); r.Code != CodeInvalid {
		t.Errorf("%+v", r)
	}
	do(s, FinishInstance{ID: "0", Incarnation: 1, Left: true})
	if r := do(s, NewPlan{Rules: PlanRules{Intent: PlanRestart, Services: []string{"svc"}}, Start: true}); r.Refused() {
		t.Errorf("%+v", r)
	}
}
