package api

// Bounds of requests and answers. The server enforces each; a client that knows them needs no round trip to be told.
const (
	BodyBytesMax   = 1 << 20
	URIBytesMax    = 8 << 10
	HeaderBytesMax = 32 << 10

	NameBytesMax       = 256 // locks, sessions, instance names
	SlugBytesMax       = 63  // services, mappings: they travel in paths
	IDBytesMax         = 64
	ReasonBytesMax     = 256
	AddressBytesMax    = 256
	SpecBytesMax       = 32 << 10
	SessionTTLMinMs    = 1_000
	SessionTTLMaxMs    = 600_000
	WaitMaxMs          = 24 * 3600 * 1000 // of a lock
	ParkMaxMs          = 60_000           // of one request, whatever it waits for
	KeepaliveIDsMax    = 1_000
	BatchOpsMax        = 1_000
	EventsMax          = 1_000
	PKPartsMax         = 16
	PKBytesMax         = 512
	CountersMax        = 16
	LabelsMax          = 16
	LabelKeyMax        = 64 // bytes
	LabelValueMax      = 256
	PhasesMax          = 9
	GraceMinMs         = 3_000
	GraceDefaultMs     = 25_000
	GraceMaxMs         = 3_600_000
	DependsOnMax       = 16
	PatternsMax        = 16
	PatternBytesMax    = 256
	PatternLiteralMin  = 2
	ConnectionsMax     = 512 // reported of one source
	SourcesShownMax    = 8   // sources of which an instance reports connections
	LeftoversMax       = 1_000
	NotesMax           = 16
	PlanServicesMax    = 16
	PlanTargetsMax     = 1_000 // instances in one step
	BlockersMax        = 100
	PageDefault        = 100
	PageMax            = 1_000
	CursorBytesMax     = 1_024
	QueueShownMax      = 100 // waits, and holders, of one lock that an answer shows
	LocksMax           = 16  // names in one acquire or release
	PermitsMax         = 1_000_000
	ReentrancyMax      = 10_000 // how often an owner may hold a lock
	ValueBytesMax      = 4_096
	LockDelayMaxMs     = 600_000
	RevokeMaxMs        = 3_600_000
	IdempotencyKeyMax  = 200 // bytes
	IdempotencyClients = 64  // bytes of the client id in a client-id/seq key
	TokenMax           = 1<<53 - 1
)

// Slug is the form of service and mapping names.
const Slug = `^[a-z0-9][a-z0-9._-]{0,62}$`
