package fsm

// Every bound of the replicated state. Each is tested at N and at N+1.
const (
	TokenMax = 1<<53 - 1 // tokens and revisions stay exact as JSON numbers

	EntryOpsMax = 4096 // commands in one entry, and 16 times as many elements in one array of it

	NameBytesMax      = 256 // names of locks, sessions, owners
	IDBytesMax        = 64
	SessionsMax       = 100_000
	SessionTTLMinMs   = 1_000
	SessionTTLMaxMs   = 600_000
	LocksMax          = 1_000_000 // grants that an acquire may find; those of waits come on top, WantsMax for each of TicketsMax
	TicketsMax        = 200_000   // waiting, lately granted or lately ended
	WantsMax          = 16        // names in one acquire
	PermitsMax        = 1_000_000
	ReentrantWaitsMax = 16     // of one owner at a time: each grant to it looks at all of them
	ReentrancyMax     = 10_000 // how often an owner holds a lock, but for waits that were under way
	ValueBytesMax     = 4_096
	LockDelayMaxMs    = 600_000
	RevokeMaxMs       = 3_600_000
	TakenShownMax     = 100    // grants that an answer or an act lists
	ActsMax           = 10_000 // kept in the audit, oldest out first
	WaitMaxMs         = 24 * 3600 * 1000
	ClaimDefaultMs    = 10_000
	ticketKeepMs      = 120_000 // an ended ticket answers a retry this long
	KeysMax           = 100_000 // stored idempotency results
	KeyBytesMax       = 200
	KeyWindowMs       = 120_000
	KeyOutstandingMax = 1_024 // unacknowledged results of one client
	NodesMax          = 64

	ServicesMax        = 1_000
	InstancesMax       = 50_000 // live and lately ended
	InstanceHistoryMax = 16
	instanceKeepMs     = 600_000 // an ended instance can be looked at this long
	CountersMax        = 16      // counters in one phase report
	ReasonBytesMax     = 256
	AddressBytesMax    = 256
	GraceMaxMs         = 3_600_000
	LabelsMax          = 16
	SourcesShownMax    = 8   // sources of which an instance reports connections
	ConnectionsMax     = 512 // of one of them
	LeftoversMax       = 1_000
	NotesMax           = 16
	AdoptionMax        = 64 // steps on record
	BlockersMax        = 100
	drainSlackMs       = 5_000 // between the sum of the phases and the forced end
	HoldMaxMs          = 3_600_000
	ReplicasMax        = 50_000
	DependsOnMax       = 16
	recordsKept        = 32 // drains and restarts that a service remembers

	PlansMax        = 200 // oldest ended out first
	PlanServicesMax = 16
	PlanTargetsMax  = 1_000 // instances of one step
	PlanWindowMaxMs = 7 * 24 * 3600 * 1000

	CleanupsMax        = 200 // oldest ended out first
	CleanupPatternsMax = 16
	CleanupDelayMaxMs  = 24 * 3600 * 1000
	PatternBytesMax    = 256
	PatternLiteralMin  = 2 // bytes before the first wildcard
	CleanupSamplesMax  = 10

	MappingsMax         = 1_000
	SpecBytesMax        = 32 << 10
	EventsBatchMax      = 2_000 // rows in one command: an event whose key changed names two
	PendingMax          = 1_000_000
	ReplayBatchMax      = 1_000
	replayStepMaxMicros = 60_000_000
	PausesMax           = 1_000
	StoresMax           = 1_000

	PreparedMax      = 100_000 // prepares; their events count towards PendingMax
	PreparedTTLMinMs = 1_000
	PreparedTTLMaxMs = 3_600_000
	ProbesBatchMax   = 1_000
	DeadMax          = 100_000
	PKBytesMax       = 512
	ErrorBytesMax    = 256

	PassesMax        = 1_000 // running and kept as history, oldest finished out first
	PassesRunningMax = 16
	SamplesMax       = 100 // differences that a pass keeps to show
	PassesFullMax    = 3   // ended passes of a mapping that keep them all
	SamplesOldMax    = 10  // that the older ones keep
	SampleBytesMax   = 512
	RepairsBatchMax  = 1_000
)
