package api

// Instance states.
const (
	StateRegistered = "registered"
	StateReady      = "ready"
	StateQueued     = "queued"
	StateDraining   = "draining"
	StateDrained    = "drained"
	StateLeft       = "left"
	StateLost       = "lost"
)

// Drain intents.
const (
	IntentRestart = "restart"
	IntentRemove  = "remove"
)

// DirectiveDrain tells an instance to stop: its drain is granted.
const DirectiveDrain = "drain"

// RegisterInstance starts the life of an instance. An older one of the same name is superseded and fenced.
type RegisterInstance struct {
	Service    string `json:"service" pattern:"^[a-z0-9][a-z0-9._-]{0,62}$" doc:"Declared with a budget of 1 when it is not known"`
	Name       string `json:"name" minLength:"1" maxLength:"256"`
	LeaseTTLMs uint64 `json:"lease_ttl_ms" minimum:"1000" maximum:"600000"`
	Address    string `json:"address,omitempty" maxLength:"256"`
}

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

// InstanceLease answers an instance's keepalive.
type InstanceLease struct {
	State        string `json:"state"`
	Directive    string `json:"directive" enum:",drain" doc:"drain: stop now, the grant is given"`
	DeadlineInMs uint64 `json:"deadline_in_ms" doc:"The lease ends then unless renewed; counted from when the request was sent"`

	Revoked []Revocation `json:"revoked,omitempty" doc:"Locks of the instance that it was asked to give back, at most 100"`
}

// InstanceStatus answers the other commands of an instance.
type InstanceStatus struct {
	State     string   `json:"state"`
	Ticket    uint64   `json:"ticket,omitempty" doc:"Place in the drain queue"`
	Grant     uint64   `json:"grant,omitempty" doc:"Token of the drain grant"`
	Position  int      `json:"position,omitempty" doc:"In the queue, from 1"`
	Blockers  []string `json:"blockers,omitempty" doc:"Ids of the instances that it waits for"`
	Overdraft bool     `json:"overdraft,omitempty" doc:"Stopping without a grant"`
}

// DrainInstance asks to stop an instance.
type DrainInstance struct {
	Incarnation uint64 `json:"incarnation,omitempty" maximum:"9007199254740991" doc:"0: an operator's wish, whatever the incarnation"`
	Intent      string `json:"intent" enum:"restart,remove"`
	Reason      string `json:"reason,omitempty" maxLength:"256"`
}

// ReportPhase says how far a drain is.
type ReportPhase struct {
	Incarnation uint64            `json:"incarnation" minimum:"1" maximum:"9007199254740991"`
	Phase       string            `json:"phase" enum:"announce,lameduck,reject,consumers,transactions,flush,locks,close,leave"`
	Seq         uint64            `json:"seq" minimum:"1" maximum:"9007199254740991" doc:"Rises with each report; an old one changes nothing"`
	Counters    map[string]uint64 `json:"counters,omitempty" doc:"At most 16, such as requests in flight"`
}

// Instance is an instance as the cluster knows it.
type Instance struct {
	ID          string            `json:"id"`
	Service     string            `json:"service"`
	Name        string            `json:"name"`
	Incarnation uint64            `json:"incarnation"`
	Session     string            `json:"session"`
	Address     string            `json:"address,omitempty"`
	Intent      string            `json:"intent,omitempty"`
	Reason      string            `json:"reason,omitempty"`
	Phase       string            `json:"phase,omitempty" doc:"Last reported; of a lost instance, where it was lost"`
	Counters    map[string]uint64 `json:"counters,omitempty"`
	History     []Moment          `json:"history,omitempty" doc:"Only when one instance is asked for, as are position and blockers"`
	Index       uint64            `json:"index" doc:"Revision of its last change"`
	InstanceStatus
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
