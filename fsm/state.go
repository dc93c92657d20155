package fsm

import "fmt"

// State is the replicated state. The zero value is not usable; see New.
type State struct {
	counters counters

	nodes     *table[string, Node]
	sessions  *table[string, Session]
	grants    *table[string, Grant] // by grantKey; its changes are those of the name
	tickets   *table[uint64, Ticket]
	stored    *table[string, storedResult]
	modified  *table[string, uint64] // table name -> revision of its last change
	services  *table[string, Service]
	instances *table[string, Instance]
	mappings  *table[string, Mapping]
	events    *table[string, Event]      // pending, by eventKey
	dead      *table[string, DeadLetter] // by eventKey
	passes    *table[uint64, Pass]
	acked     *table[string, acknowledged] // by client, of Key.row()
	delays    *table[string, uint64]       // lock name -> end of its delay, cluster time
	acts      *table[uint64, Act]
	records   *table[string, Record] // by service
	plans     *table[uint64, Plan]
	cleanups  *table[uint64, Cleanup]
	prepared  *table[uint64, Prepared]
	pauses    *table[string, Pause]    // by pauseKey
	stores    *table[string, Store]    // by storeKey
	doubts    *table[string, Doubt]    // by mapping
	schedules *table[string, Schedule] // by mapping

	// Derived from the tables, rebuilt by Restore, no part of the digest.
	timers      timers         // housekeeping
	urgent      timers         // deadlines that somebody waits for
	queues      index          // lock name / ticket
	holdings    index          // session / token, lock name
	waits       index          // session / ticket
	asking      index          // party / ticket
	reentering  index          // party / ticket of a reentrant wait
	uses        map[string]use // by lock name
	owns        map[partyOfLock]own
	holding     map[party]int          // grants
	revoked     map[string]int         // session -> grants that it was asked to give back
	outstanding map[string]int         // idempotency client -> stored results
	ages        ages                   // of stored results
	timesOldest bool                   // a timer for the oldest of them is set
	members     index                  // service / live instance, in the order of registration
	drains      index                  // service / queued instance, in the order of its band and of asking
	held        index                  // service / ended instance whose place is kept
	orphans     index                  // "" / ended instance that is not adopted yet
	named       map[serviceName]string // live instance
	occupied    map[string]occupancy
	working     map[string]uint64       // service -> plan that is under way
	due         index                   // mapping / pending event, by the time of its next attempt; dueIndex
	pending     map[string]int          // mapping -> pending events
	buried      map[string]int          // mapping -> dead letters
	buriedAs    map[string][]ClassCount // the same by class of failure
	probes      index                   // source / prepared events, by the time of the next look at their fence
	preparers   index                   // instance / prepared events
	reserved    int                     // rows of prepared events
	reservedOf  map[string]int          // mapping -> such rows
	announced   map[RowRef]int          // row -> prepares that name it

	// Of the entry that is being applied.
	entryTerm uint64
	changes   []Change
	touched   []touch

	onGrant func(Instance) // test seam: at the moment of a drain grant; nil outside tests
}

// counters are the scalars of the state.
type counters struct {
	_        struct{} `cbor:",toarray"`
	Now      uint64   // cluster time, milliseconds
	Revision uint64   // +1 per state-changing command
	Token    uint64   // last token given: locks, tickets, grants and sync events share one order
	Term     uint64   // Raft term of the last TermStart
	Stored   uint64   // idempotency results ever stored
}

// touch is a table that an entry changed, and the revision of the last change.
type touch struct {
	table    string
	revision uint64
}

// Change names one row that an entry touched; watchers are woken by it.
type Change struct {
	Table   string
	Key     string
	Deleted bool
}

// New gives the empty state, as it stands before the first log entry.
func New() *State {
	s := &State{}
	s.nodes = newTable[string, Node]("nodes", &s.changes)
	s.sessions = newTable[string, Session]("sessions", &s.changes)
	s.grants = newTable[string, Grant]("locks", &s.changes)
	s.grants.key = nameOfGrant
	s.tickets = newTable[uint64, Ticket]("tickets", &s.changes)
	s.stored = newTable[string, storedResult]("stored", &s.changes)
	s.modified = newTable[string, uint64]("modified", nil)
	s.services = newTable[string, Service]("services", &s.changes)
	s.instances = newTable[string, Instance]("instances", &s.changes)
	s.mappings = newTable[string, Mapping]("mappings", &s.changes)
	s.events = newTable[string, Event]("events", &s.changes)
	s.dead = newTable[string, DeadLetter]("dead", &s.changes)
	s.passes = newTable[uint64, Pass]("passes", &s.changes)
	s.acked = newTable[string, acknowledged]("acked", &s.changes)
	s.delays = newTable[string, uint64]("delays", &s.changes)
	s.acts = newTable[uint64, Act]("acts", &s.changes)
	s.records = newTable[string, Record]("records", &s.changes)
	s.plans = newTable[uint64, Plan]("plans", &s.changes)
	s.cleanups = newTable[uint64, Cleanup]("cleanups", &s.changes)
	s.prepared = newTable[uint64, Prepared]("prepared", &s.changes)
	s.pauses = newTable[string, Pause]("pauses", &s.changes)
	s.stores = newTable[string, Store]("stores", &s.changes)
	s.doubts = newTable[string, Doubt]("doubts", &s.changes)
	s.schedules = newTable[string, Schedule]("schedules", &s.changes)
	s.timers, s.urgent = newTimers(), newTimers()
	s.queues, s.holdings, s.waits, s.asking, s.reentering = newIndex(), newIndex(), newIndex(), newIndex(), newIndex()
	s.uses, s.owns, s.revoked, s.holding = map[string]use{}, map[partyOfLock]own{}, map[string]int{}, map[party]int{}
	s.members, s.drains, s.due = newIndex(), newIndex(), newIndex()
	s.named = map[serviceName]string{}
	s.held, s.orphans, s.occupied, s.working = newIndex(), newIndex(), map[string]occupancy{}, map[string]uint64{}
	s.outstanding = map[string]int{}
	s.pending, s.buried = map[string]int{}, map[string]int{}
	s.probes, s.preparers, s.reservedOf, s.announced = newIndex(), newIndex(), map[string]int{}, map[RowRef]int{}
	s.buriedAs = map[string][]ClassCount{}
	return s
}

// sections lists the tables in snapshot order. A new table goes to the end.
func (s *State) sections() []section {
	return []section{s.nodes, s.sessions, s.grants, s.tickets, s.stored, s.modified,
		s.services, s.instances, s.mappings, s.events, s.dead, s.passes, s.acked, s.delays, s.acts,
		s.records, s.plans, s.cleanups, s.prepared, s.pauses, s.stores, s.doubts, s.schedules}
}

// Clone gives a copy for reading, in bounded time: it hashes what waits for it, see pendingMax. It must be called where
// Apply may be called; the copy may then be read anywhere. It has no indexes and no timers: it serves Persist and Digest, and cannot apply.
func (s *State) Clone() *State {
	return &State{
		counters: s.counters,
		nodes:    s.nodes.clone(), sessions: s.sessions.clone(), grants: s.grants.clone(), tickets: s.tickets.clone(),
		stored: s.stored.clone(), modified: s.modified.clone(),
		services: s.services.clone(), instances: s.instances.clone(), mappings: s.mappings.clone(),
		events: s.events.clone(), dead: s.dead.clone(), passes: s.passes.clone(), acked: s.acked.clone(),
		delays: s.delays.clone(), acts: s.acts.clone(),
		records: s.records.clone(), plans: s.plans.clone(), cleanups: s.cleanups.clone(),
		prepared: s.prepared.clone(), pauses: s.pauses.clone(), stores: s.stores.clone(), doubts: s.doubts.clone(), schedules: s.schedules.clone(),
	}
}

// Now is the cluster time in milliseconds.
func (s *State) Now() uint64 { return s.counters.Now }

// Revision counts the state-changing commands; it is the index of answers, long polls and streams.
func (s *State) Revision() uint64 { return s.counters.Revision }

// Token is the last token given.
func (s *State) Token() uint64 { return s.counters.Token }

// Term is the Raft term of the last applied TermStart.
func (s *State) Term() uint64 { return s.counters.Term }

// Modified is the revision at which the named table last changed.
func (s *State) Modified(table string) uint64 {
	r, _ := s.modified.get(table)
	return r
}

// Digest identifies the whole state. Bounded time: see pendingMax.
func (s *State) Digest() Digest {
	d := digestOf([]byte("counters"), encode(s.counters))
	for _, sec := range s.sections() {
		d = d.add(sec.sum())
	}
	return d
}

// Apply applies one log entry of the given Raft term. The results stand in the order of the entry's commands. The changes are valid
// until the next Apply.
func (s *State) Apply(term uint64, e Entry) ([]Result, []Change) {
	s.entryTerm = term
	s.changes = s.changes[:0]
	s.counters.Now = max(s.counters.Now, e.Now)
	results := make([]Result, len(e.Ops))
	s.fireTimers()
	for i, op := range e.Ops {
		results[i] = s.applyOp(op)
		s.fireTimers()
	}
	for _, t := range s.touched {
		s.modified.set(t.table, t.revision)
	}
	s.touched = s.touched[:0]
	return results, s.changes
}

func (s *State) applyOp(op Op) Result {
	if op.Key == nil {
		return s.step(func() Result { return op.Command.apply(s) })
	}
	row, client := op.Key.row()
	if r, found := s.replay(op.Key, row); found {
		return r
	}
	return s.step(func() Result {
		if refused := s.acknowledge(op.Key, client); refused.Refused() {
			return refused
		}
		r := op.Command.apply(s)
		r.Index = s.nextRevision()
		s.store(op.Key, row, client, r)
		return r
	})
}

// step runs one state change and counts it if it changed anything.
func (s *State) step(change func() Result) Result {
	before := len(s.changes)
	r := change()
	if len(s.changes) == before {
		r.Index = s.counters.Revision
		return r
	}
	if r.Refused() && !onlyStored(s.changes[before:]) {
		panic(fmt.Sprintf("fsm: a refused command (%s) changed %v", r.Code, s.changes[before:]))
	}
	s.counters.Revision++
	r.Index = s.counters.Revision
	last := ""
	for _, c := range s.changes[before:] {
		if c.Table != last && c.Table != "stored" && c.Table != "acked" { // nobody lists those
			s.touch(c.Table)
			last = c.Table
		}
	}
	return r
}

// touch notes the table: its row in modified is written once for the entry.
func (s *State) touch(table string) {
	for i := range s.touched {
		if s.touched[i].table == table {
			s.touched[i].revision = s.counters.Revision
			return
		}
	}
	s.touched = append(s.touched, touch{table, s.counters.Revision})
}

// nextRevision is the revision that the command under way will have if it changes anything: what it writes into its rows.
func (s *State) nextRevision() uint64 { return s.counters.Revision + 1 }

func (s *State) nextToken() uint64 {
	if s.counters.Token >= TokenMax {
		panic("fsm: the token counter is exhausted")
	}
	s.counters.Token++
	return s.counters.Token
}

// TermStart is the first command of each term: until it is applied the leader answers no keepalive and starts no task.
// Sessions that were renewed in the preceding term get a full TTL, the others keep their deadline, so that repeated failovers cannot
// keep a dead holder alive.
type TermStart struct {
	Node string `cbor:"1,keyasint"`
}

func (TermStart) kind() Kind { return kindTermStart }

func (c TermStart) apply(s *State) Result {
	s.extendSessions()
	s.counters.Term = s.entryTerm
	s.changes = append(s.changes, Change{Table: "term", Key: c.Node})
	return Result{}
}
