package api

// An election is an exclusive lock with a value: its name is that of the lock, its leader the holder, its candidates the waiters. Whatever
// works with locks works with it: validate, handoff, revoke, force-release, cancel.

// Campaign stands for an election, or with a ticket alone takes up a candidacy again. It answers Acquired.
type Campaign struct {
	Session     string `json:"session,omitempty" maxLength:"64"`
	Owner       string `json:"owner,omitempty" maxLength:"256"`
	Name        string `json:"name,omitempty" maxLength:"256"`
	Value       string `json:"value,omitempty" maxLength:"4096" doc:"What observers see while this candidate leads, such as its address; at most 4096 bytes"`
	WaitMs      uint64 `json:"wait_ms,omitempty" maximum:"86400000"`
	ClaimMs     uint64 `json:"claim_ms,omitempty" maximum:"86400000"`
	LockDelayMs uint64 `json:"lock_delay_ms,omitempty" maximum:"600000"`
	Ticket      uint64 `json:"ticket,omitempty" maximum:"9007199254740991"`
}

// Proclaim changes the value of the leader.
type Proclaim struct {
	Session string `json:"session" minLength:"1" maxLength:"64"`
	Name    string `json:"name" minLength:"1" maxLength:"256"`
	Token   uint64 `json:"token" minimum:"1" maximum:"9007199254740991"`
	Value   string `json:"value" maxLength:"4096"`
}

// Resign gives the leadership up: to the first candidate, or to a named one.
type Resign struct {
	Session string `json:"session" minLength:"1" maxLength:"64"`
	Name    string `json:"name" minLength:"1" maxLength:"256"`
	Token   uint64 `json:"token" minimum:"1" maximum:"9007199254740991"`
	To      string `json:"to,omitempty" maxLength:"64" doc:"Session of a candidate"`
}

// Election is how an election stands. /v1/elections/observe streams it as events named leader, whose id is the index.
type Election struct {
	Index      uint64  `json:"index"`
	Name       string  `json:"name"`
	Leader     *Leader `json:"leader,omitempty" doc:"Absent when nobody leads"`
	Candidates int     `json:"candidates" doc:"How many wait"`
}

// Leader is who leads.
type Leader struct {
	Session          string `json:"session"`
	Owner            string `json:"owner,omitempty"`
	Token            uint64 `json:"token"`
	Value            string `json:"value,omitempty"`
	LeaseRemainingMs uint64 `json:"lease_remaining_ms,omitempty" doc:"Known to the leader of the cluster only; not in a stream"`
}
