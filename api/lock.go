package api

// ModeExclusive is the one lock mode of this version.
const ModeExclusive = "exclusive"

// AcquireLocks takes a lock, waits for it, or with a ticket alone takes up a wait again.
type AcquireLocks struct {
	Session string       `json:"session,omitempty" maxLength:"64"`
	Locks   []LockWanted `json:"locks,omitempty" maxItems:"16" doc:"Exactly one in this version"`
	WaitMs  uint64       `json:"wait_ms,omitempty" maximum:"86400000" doc:"0: answer at once. With a ticket: how long this request parks at most, 0 for a minute"`
	ClaimMs uint64       `json:"claim_ms,omitempty" maximum:"86400000" doc:"A grant to a wait lapses when nobody came for it for this long; 0 for 10 s"`
	Ticket  uint64       `json:"ticket,omitempty" maximum:"9007199254740991" doc:"A wait to take up again; nothing else but wait_ms goes with it"`
}

// LockWanted names a lock to take.
type LockWanted struct {
	Name string `json:"name" minLength:"1" maxLength:"256"`
	Mode string `json:"mode,omitempty" doc:"exclusive, the default"`
}

// Acquired answers an acquire: with grants (200), or with the ticket of a wait that goes on (202).
type Acquired struct {
	Grants           []Grant `json:"grants,omitempty"`
	LeaseRemainingMs uint64  `json:"lease_remaining_ms,omitempty" doc:"Of the session, counted from when the request was sent"`
	Ticket           uint64  `json:"ticket,omitempty"`
	Position         int     `json:"position,omitempty" doc:"In the queue, from 1"`
}

// Grant is a held lock with its fencing token.
type Grant struct {
	Name  string `json:"name"`
	Token uint64 `json:"token"`
}

// ReleaseLocks gives a lock back.
type ReleaseLocks struct {
	Session string  `json:"session" minLength:"1" maxLength:"64"`
	Locks   []Grant `json:"locks" minItems:"1" maxItems:"16" doc:"Exactly one in this version"`
}

// CancelWait withdraws a wait. A grant that nobody has come for is given back.
type CancelWait struct {
	Ticket uint64 `json:"ticket" minimum:"1" maximum:"9007199254740991"`
}

// ValidateLock asks whether a token is that of the present holder.
type ValidateLock struct {
	Name  string `json:"name" minLength:"1" maxLength:"256"`
	Token uint64 `json:"token" maximum:"9007199254740991"`
}

// LockValidity answers it.
type LockValidity struct {
	Valid  bool   `json:"valid"`
	Holder string `json:"holder,omitempty" doc:"Session that holds the lock now"`
	Token  uint64 `json:"token,omitempty" doc:"Token of that holder"`
}

// Locks is a page of held locks.
type Locks struct {
	Page
	Locks []Lock `json:"locks"`
}

// Lock is a held lock with the head of its queue.
type Lock struct {
	Name             string `json:"name"`
	Session          string `json:"session"`
	Token            uint64 `json:"token"`
	HeldMs           uint64 `json:"held_ms"`
	LeaseRemainingMs uint64 `json:"lease_remaining_ms,omitempty" doc:"Known to the leader only"`
	Unclaimed        bool   `json:"unclaimed,omitempty" doc:"Granted to a wait whose owner has not been told yet"`
	Queue            []Wait `json:"queue,omitempty" doc:"First in line first, at most 100"`
	QueueCut         bool   `json:"queue_cut,omitempty" doc:"More are waiting than are shown"`
}

// Wait is one place in a queue.
type Wait struct {
	Ticket      uint64 `json:"ticket"`
	Session     string `json:"session"`
	RemainingMs uint64 `json:"remaining_ms"`
}

// Page is common to collections.
type Page struct {
	Index  uint64 `json:"index" doc:"Revision of the state shown; a long poll waits for a newer one"`
	Cursor string `json:"cursor,omitempty" doc:"Where the next page begins; absent on the last"`
}
