package api

// OpenSession asks for a lease that locks can belong to.
type OpenSession struct {
	Name  string `json:"name,omitempty" maxLength:"256" doc:"For people"`
	TTLMs uint64 `json:"ttl_ms" minimum:"1000" maximum:"600000" doc:"The session ends when no keepalive came for this long"`
}

// Session is an open session.
type Session struct {
	ID           string `json:"id"`
	TTLMs        uint64 `json:"ttl_ms"`
	EndsWithinMs uint64 `json:"ends_within_ms" doc:"A session that falls silent ends, and frees its locks, at most so long after its last keepalive, plus the time without a leader"`
	Name         string `json:"name,omitempty"`
	Instance     string `json:"instance,omitempty" doc:"The application instance that it is the lease of"`
	RemainingMs  uint64 `json:"remaining_ms,omitempty" doc:"Known to the leader only"`
	Locks        int    `json:"locks,omitempty" doc:"How many grants it holds"`
	Waits        int    `json:"waits,omitempty" doc:"In how many queues' tickets it stands"`
}

// Sessions is a page of sessions.
type Sessions struct {
	Page
	Sessions []Session `json:"sessions"`
}

// KeepaliveSessions renews sessions.
type KeepaliveSessions struct {
	IDs []string `json:"ids" minItems:"1" maxItems:"1000"`
}

// SessionLeases answers a keepalive, in the order of the request.
type SessionLeases struct {
	Sessions []SessionLease `json:"sessions"`
}

// SessionLease is how a session stands. The remainder counts from when the request was sent.
type SessionLease struct {
	ID          string `json:"id"`
	Gone        bool   `json:"gone,omitempty"`
	TTLMs       uint64 `json:"ttl_ms,omitempty"`
	RemainingMs uint64 `json:"remaining_ms,omitempty"`

	Revoked []Revocation `json:"revoked,omitempty" doc:"Locks of the session that it was asked to give back, at most 100"`
}

// Revocation asks a holder to give a lock back.
type Revocation struct {
	Name      string `json:"name"`
	Token     uint64 `json:"token"`
	TakenInMs uint64 `json:"taken_in_ms" doc:"When it is taken away"`
	Reason    string `json:"reason,omitempty"`
}
