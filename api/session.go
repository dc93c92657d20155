package api

// OpenSession asks for a lease that locks can belong to.
type OpenSession struct {
	Name  string `json:"name,omitempty" maxLength:"256" doc:"For people"`
	TTLMs uint64 `json:"ttl_ms" minimum:"1000" maximum:"600000" doc:"The session ends when no keepalive came for this long"`
}

// Session is an open session.
type Session struct {
	ID    string `json:"id"`
	TTLMs uint64 `json:"ttl_ms"`
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
}
