package api

// Instance states. Those that an instance never leaves are left, forced and lost.
const (
	StateRegistered = "registered"
	StateReady      = "ready"
	StatePaused     = "paused" // out of service at somebody's wish, for a while
	StateQueued     = "queued" // asked to drain, waits for its grant, and still serves
	StateDraining   = "draining"
	StateDrained    = "drained" // may exit
	StateLeft       = "left"
	StateForced     = "forced" // its drain passed its deadline
	StateLost       = "lost"   // its lease ended without a word; phase says how far it was
)

// Drain intents.
const (
	IntentRestart = "restart"
	IntentRemove  = "remove"
)

// Platforms that end an instance in a way of their own.
const PlatformKubernetes = "kubernetes"

// Directives of a keepalive.
const (
	DirectiveDrain = "drain" // the drain is granted: stop now
	DirectivePause = "pause" // be not ready, serve what comes all the same
	DirectiveServe = "serve" // be ready: a drain was undone, or a pause is over
)

// RegisterInstance starts the life of an instance. An older one of the same name is superseded and fenced.
type RegisterInstance struct {
	Service    string            `json:"service" pattern:"^[a-z0-9][a-z0-9._-]{0,62}$" doc:"Declared with a budget of 1 when it is not known"`
	Name       string            `json:"name" minLength:"1" maxLength:"256"`
	LeaseTTLMs uint64            `json:"lease_ttl_ms" minimum:"1000" maximum:"600000"`
	GraceMs    uint64            `json:"grace_ms,omitempty" maximum:"3600000" doc:"From the platform's signal to its kill; 25000 when 0. At least 3000, and as long as the phases together"`
	Phases     []PhaseTime       `json:"phases,omitempty" maxItems:"9" doc:"Time that each phase may take after the grant; when empty, the defaults scaled to the grace"`
	Platform   string            `json:"platform,omitempty" enum:",kubernetes" doc:"kubernetes: once signalled it is out of service whatever anybody grants, so it never waits"`
	Address    string            `json:"address,omitempty" maxLength:"256"`
	Labels     map[string]string `json:"labels,omitempty" doc:"At most 16, for people and filters; keys up to 64 bytes, values up to 256"`
}

// PhaseTime is the limit of one phase of a drain.
type PhaseTime struct {
	Phase   string `json:"phase" enum:"lameduck,reject,consumers,transactions,flush,locks,close,leave"`
	LimitMs uint64 `json:"limit_ms" maximum:"3600000"`
}

// PhaseDefaults are the limits at GraceDefaultMs, in the order of a drain. What they leave of the grace is for the wait for the grant.
var PhaseDefaults = [...]PhaseTime{{"lameduck", 3_000}, {"reject", 8_000}, {"consumers", 1_000}, {"transactions", 3_000}, {"flush", 4_000}, {"locks", 1_000},
	{"close", 2_000}, {"leave", 1_000}}

// Registered answers it.
type Registered struct {
	ID          string `json:"id"`
	Incarnation uint64 `json:"incarnation" doc:"Goes with everything the instance says from now on"`
	Session     string `json:"session" doc:"Its lease, which locks can belong to"`
}

// Incarnation is the body of what an instance says of itself.
type Incarnation struct {
	Incarnation uint64 `json:"incarnation" minimum:"1" maximum:"9007199254740991"`
}

// KeepaliveInstance renews an instance's lease, and may wait for news.
type KeepaliveInstance struct {
	Incarnation uint64              `json:"incarnation" minimum:"1" maximum:"9007199254740991"`
	Counters    map[string]uint64   `json:"counters,omitempty" doc:"At most 16; kept in the leader's memory"`
	Connections []SourceConnections `json:"connections,omitempty" maxItems:"8" doc:"All that it has open to sources the cluster knows; absent: as before. Logged when it changed"`
	After       uint64              `json:"after,omitempty" maximum:"9007199254740991" doc:"The index of the last answer"`
	WaitMs      uint64              `json:"wait_ms,omitempty" maximum:"60000" doc:"Renew at once, then answer when there is news after that index, or after so long"`
}

// SourceConnections are the connections that an instance has to a source, by the id that the server gave them (CONNECTION_ID()).
type SourceConnections struct {
	Source string   `json:"source" pattern:"^[a-z0-9][a-z0-9._-]{0,62}$"`
	IDs    []uint64 `json:"ids" maxItems:"512"`
}

// InstanceLease answers an instance's keepalive.
type InstanceLease struct {
	State        string `json:"state"`
	Directive    string `json:"directive" enum:",drain,pause,serve" doc:"What the cluster wants of the instance"`
	ReadOnly     bool   `json:"read_only,omitempty" doc:"The service is read-only: refuse writes"`
	DeadlineInMs uint64 `json:"deadline_in_ms" doc:"The lease ends then unless renewed; counted from when the request was sent, whatever it waited for"`
	Index        uint64 `json:"index" doc:"Of the instance and its service: what the next keepalive gives as after"`

	Revoked []Revocation `json:"revoked,omitempty" doc:"Locks of the instance that it was asked to give back, at most 100"`
}

// InstanceStatus answers the other commands of an instance.
type InstanceStatus struct {
	State             string    `json:"state"`
	Ticket            uint64    `json:"ticket,omitempty" doc:"Place in the drain queue"`
	Grant             uint64    `json:"grant,omitempty" doc:"Token of the drain grant"`
	Overdraft         bool      `json:"overdraft,omitempty" doc:"Granted although the budget did not allow it, because the platform would not have waited"`
	Position          int       `json:"position,omitempty" doc:"In the queue, from 1"`
	Waiting           string    `json:"waiting,omitempty" enum:",budget,frozen" doc:"Why there is no grant yet"`
	Blockers          []Blocker `json:"blockers,omitempty" doc:"What takes up the budget, at most 100"`
	EarliestGrantInMs uint64    `json:"earliest_grant_in_ms,omitempty" doc:"No grant before, unless somebody intervenes; absent when it may come any moment"`
	LatestGrantInMs   uint64    `json:"latest_grant_in_ms,omitempty" doc:"Granted then at the latest, as an overdraft; absent when there is no such time"`
	DrainDeadlineInMs uint64    `json:"drain_deadline_in_ms,omitempty" doc:"A drain that is not over then is counted as forced"`
}

// Blocker is one place of a budget that is taken.
type Blocker struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	State string `json:"state"`
	Why   string `json:"why" enum:"draining,paused,settling,restarting,lost" doc:"restarting: it left and its successor has not settled yet"`
}

// DrainInstance asks to stop an instance.
type DrainInstance struct {
	Incarnation uint64 `json:"incarnation,omitempty" maximum:"9007199254740991" doc:"0: an operator's wish, whatever the incarnation"`
	Intent      string `json:"intent" enum:"restart,remove"`
	KillInMs    uint64 `json:"kill_in_ms,omitempty" maximum:"3600000" doc:"The platform has signalled and kills the instance then. It goes before those that nobody kills, and is granted in time for its phases, whatever the budget says"`
	Reason      string `json:"reason,omitempty" maxLength:"256"`
}

// InstanceWish is the body of pause, resume and undo.
type InstanceWish struct {
	Incarnation uint64 `json:"incarnation,omitempty" maximum:"9007199254740991" doc:"0: an operator's wish, whatever the incarnation"`
	Force       bool   `json:"force,omitempty" doc:"Of pause: even if the budget does not allow it; counted as an overdraft"`
	Reason      string `json:"reason,omitempty" maxLength:"256"`
}

// ReportPhase says how far a drain is. The phase locks is the point of no return: an instance whose drain was undone is refused there with
// instance_state, and serves on.
type ReportPhase struct {
	Incarnation uint64            `json:"incarnation" minimum:"1" maximum:"9007199254740991"`
	Phase       string            `json:"phase" enum:"announce,lameduck,reject,consumers,transactions,flush,locks,close,leave"`
	Seq         uint64            `json:"seq" minimum:"1" maximum:"9007199254740991" doc:"Rises with each report; an old one changes nothing"`
	Counters    map[string]uint64 `json:"counters,omitempty" doc:"At most 16, such as requests in flight"`
	Leftovers   *Leftovers        `json:"leftovers,omitempty" doc:"Everything that is unfinished now; absent: as before"`
}

// Leftovers is unfinished work that somebody else can finish if the instance does not.
type Leftovers struct {
	Keys  []RowEvent `json:"keys,omitempty" maxItems:"1000" doc:"Rows whose cache keys may be stale: the leader makes events of them when the instance ends"`
	Notes []string   `json:"notes,omitempty" maxItems:"16" doc:"For people, up to 256 bytes each"`
}

// Instance is an instance as the cluster knows it.
type Instance struct {
	ID          string            `json:"id"`
	Service     string            `json:"service"`
	Name        string            `json:"name"`
	Incarnation uint64            `json:"incarnation"`
	Session     string            `json:"session"`
	Address     string            `json:"address,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Platform    string            `json:"platform,omitempty"`
	GraceMs     uint64            `json:"grace_ms"`
	Phases      []PhaseTime       `json:"phases"`
	Settled     bool              `json:"settled" doc:"Has been ready for as long as its service asks for"`
	Intent      string            `json:"intent,omitempty"`
	Reason      string            `json:"reason,omitempty"`
	Phase       string            `json:"phase,omitempty" doc:"Last reported; of a lost instance, where it was lost"`
	Counters    map[string]uint64 `json:"counters,omitempty" doc:"As last reported; of one that is ready, known to the leader only"`
	Plan        uint64            `json:"plan,omitempty" doc:"The plan that asked it to stop"`
	HoldsForMs  uint64            `json:"holds_for_ms,omitempty" doc:"Of one that ended: how long its place in the budget is kept for its successor"`
	Leftovers   int               `json:"leftovers,omitempty" doc:"Keys that it reported as unfinished"`
	LocksFreed  int               `json:"locks_freed,omitempty" doc:"Locks that it still had when it ended"`
	Adoption    []AdoptionStep    `json:"adoption,omitempty" doc:"What the leader did with what a lost or forced instance left behind"`
	Connections int               `json:"connections,omitempty" doc:"To sources, as last reported"`
	History     []Moment          `json:"history,omitempty" doc:"Only when one instance is asked for, as are position, blockers and grant times"`
	Index       uint64            `json:"index" doc:"Revision of its last change"`
	InstanceStatus
}

// AdoptionStep is one thing that was done for an instance that could not.
type AdoptionStep struct {
	Step   string `json:"step" enum:"locks,keys,transactions,done"`
	Detail string `json:"detail" doc:"For people"`
	AgeMs  uint64 `json:"age_ms"`
}

// Moment is one step of an instance's history.
type Moment struct {
	AgeMs uint64 `json:"age_ms"`
	State string `json:"state"`
	Phase string `json:"phase,omitempty"`
}

// Instances is a page of instances.
type Instances struct {
	Page
	Instances []Instance `json:"instances"`
}
