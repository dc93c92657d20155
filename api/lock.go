package api

// Modes of a lock. A name has the mode of those who hold it: the next holder of a free name may ask for another one.
const (
	ModeExclusive = "exclusive" // one holder
	ModeShared    = "shared"    // any number of holders, all of them shared
	ModePermits   = "permits"   // holders whose permits add up to the limit at most: a counting semaphore
)

// AcquireLocks takes locks, waits for them, or with a ticket alone takes up a wait again. Several names are granted all together or not
// at all.
type AcquireLocks struct {
	Session     string       `json:"session,omitempty" maxLength:"64"`
	Owner       string       `json:"owner,omitempty" maxLength:"256" doc:"Who of the session asks, such as a thread: an owner does not wait for itself, two owners of a session wait for each other"`
	Locks       []LockWanted `json:"locks,omitempty" maxItems:"16" doc:"Each name once; all or none"`
	WaitMs      uint64       `json:"wait_ms,omitempty" maximum:"86400000" doc:"0: answer at once. With a ticket: how long this request parks at most, 0 for a minute"`
	ClaimMs     uint64       `json:"claim_ms,omitempty" maximum:"86400000" doc:"A grant to a wait lapses when nobody came for it for this long; 0 for 10 s"`
	Reentrant   bool         `json:"reentrant,omitempty" doc:"What this owner holds already, taken reentrantly and in the same mode, is counted up instead of refused"`
	LockDelayMs uint64       `json:"lock_delay_ms,omitempty" maximum:"600000" doc:"When the holder's session expires nobody gets the lock for this long. A release or a closed session has no delay"`
	Value       string       `json:"value,omitempty" maxLength:"4096" doc:"Shown with the grant, such as the address of the holder; at most 4096 bytes"`
	Ticket      uint64       `json:"ticket,omitempty" maximum:"9007199254740991" doc:"A wait to take up again; nothing else but wait_ms goes with it"`
}

// LockWanted names a lock to take.
type LockWanted struct {
	Name    string `json:"name" minLength:"1" maxLength:"256"`
	Mode    string `json:"mode,omitempty" enum:"exclusive,shared,permits" doc:"exclusive is the default"`
	Permits uint64 `json:"permits,omitempty" maximum:"1000000" doc:"Of mode permits: how many; 0 for 1"`
	Limit   uint64 `json:"limit,omitempty" maximum:"1000000" doc:"Of mode permits: how many there are in all. The first user sets it, another limit is refused while anybody holds or waits"`
}

// Acquired answers an acquire: with grants (200), or with the ticket of a wait that goes on (202).
type Acquired struct {
	Grants           []Grant   `json:"grants,omitempty"`
	LeaseRemainingMs uint64    `json:"lease_remaining_ms,omitempty" doc:"Of the session, counted from when the request was sent"`
	Ticket           uint64    `json:"ticket,omitempty"`
	Position         int       `json:"position,omitempty" doc:"In the queue, from 1; with several names in the longest one"`
	Deadlock         []WaitFor `json:"deadlock,omitempty" doc:"This wait closes a circle of waits: it ends by a timeout, a cancellation or a release only"`
}

// Grant is a held lock with its fencing token.
type Grant struct {
	Name  string `json:"name" minLength:"1" maxLength:"256"`
	Token uint64 `json:"token" maximum:"9007199254740991"`
	Count uint64 `json:"count,omitempty" doc:"In answers: how often a reentrant owner holds it, when more than once"`
}

// WaitFor is one step of a circle of waits: who waits for what, and who stands in the way.
type WaitFor struct {
	Ticket        uint64 `json:"ticket"`
	Session       string `json:"session"`
	Owner         string `json:"owner,omitempty"`
	Name          string `json:"name" doc:"The lock that is waited for"`
	BlockedBy     string `json:"blocked_by" doc:"Session in the way: it holds the lock, or stands before this wait in the queue"`
	BlockedByTurn bool   `json:"blocked_by_turn,omitempty" doc:"It stands before this wait in the queue"`
}

// ReleaseLocks gives locks back, all or none. A reentrant lock is counted down.
type ReleaseLocks struct {
	Session string  `json:"session" minLength:"1" maxLength:"64"`
	Locks   []Grant `json:"locks" minItems:"1" maxItems:"16"`
}

// DowngradeLock turns an exclusive lock into a shared one, under the same token, without letting a writer in between.
type DowngradeLock struct {
	Session string `json:"session" minLength:"1" maxLength:"64"`
	Name    string `json:"name" minLength:"1" maxLength:"256"`
	Token   uint64 `json:"token" minimum:"1" maximum:"9007199254740991"`
}

// CancelWait withdraws a wait. A grant that nobody has come for is given back.
type CancelWait struct {
	Ticket uint64 `json:"ticket" minimum:"1" maximum:"9007199254740991"`
	Reason string `json:"reason,omitempty" maxLength:"256" doc:"Of an operator who breaks a deadlock: goes into the audit"`
}

// HandOffLock gives a lock to a waiting successor, in one entry.
type HandOffLock struct {
	Session string `json:"session" minLength:"1" maxLength:"64"`
	Name    string `json:"name" minLength:"1" maxLength:"256"`
	Token   uint64 `json:"token,omitempty" maximum:"9007199254740991" doc:"May be left out when the session holds the lock once"`
	To      string `json:"to,omitempty" maxLength:"64" doc:"Session of a waiter, who is preferred to those before it; without it the first in line"`
}

// HandedOff tells who has the lock now.
type HandedOff struct {
	Session string `json:"session"`
	Token   uint64 `json:"token"`
	Ticket  uint64 `json:"ticket"`
}

// ForceReleaseLock takes a lock from its holders: an operator's act. Only a resource that checks tokens is safe from a holder that does
// not know.
type ForceReleaseLock struct {
	Name   string `json:"name" minLength:"1" maxLength:"256"`
	Token  uint64 `json:"token,omitempty" maximum:"9007199254740991" doc:"Only this grant; without it all grants of the name"`
	Reason string `json:"reason" minLength:"1" maxLength:"256" doc:"Goes into the audit"`
	By     string `json:"by,omitempty" maxLength:"256" doc:"Who does it, for the audit"`
}

// RevokeLock asks the holders of a lock to give it back, and takes it from those that have not when the time is up.
type RevokeLock struct {
	Name     string `json:"name" minLength:"1" maxLength:"256"`
	Token    uint64 `json:"token,omitempty" maximum:"9007199254740991" doc:"Only this grant; without it all grants of the name"`
	WithinMs uint64 `json:"within_ms" minimum:"1" maximum:"3600000" doc:"Holders hear of it with their next keepalive: leave them a third of their TTL and what their work needs"`
	Reason   string `json:"reason" minLength:"1" maxLength:"256" doc:"Told to the holders, and goes into the audit"`
	By       string `json:"by,omitempty" maxLength:"256"`
}

// Taken lists the grants that a force-release took away, or that a revocation asked for.
type Taken struct {
	Grants []TakenGrant `json:"grants"`
}

// TakenGrant is one of them.
type TakenGrant struct {
	Session string `json:"session"`
	Owner   string `json:"owner,omitempty"`
	Token   uint64 `json:"token"`
}

// ValidateLock asks whether a token is that of a present holder.
type ValidateLock struct {
	Name  string `json:"name" minLength:"1" maxLength:"256"`
	Token uint64 `json:"token" maximum:"9007199254740991"`
}

// LockValidity answers it.
type LockValidity struct {
	Valid            bool   `json:"valid"`
	Holder           string `json:"holder,omitempty" doc:"Session of the grant with this token, else of the newest grant of the name"`
	Token            uint64 `json:"token,omitempty" doc:"Token of that grant"`
	LeaseRemainingMs uint64 `json:"lease_remaining_ms,omitempty" doc:"Of that session"`
}

// Locks is a page of locks.
type Locks struct {
	Page
	Locks []Lock `json:"locks"`
}

// Lock is a name that somebody holds or waits for.
type Lock struct {
	Name             string   `json:"name"`
	Mode             string   `json:"mode,omitempty" doc:"Of the holders; absent when there are none"`
	Limit            uint64   `json:"limit,omitempty" doc:"Of mode permits"`
	InUse            uint64   `json:"in_use,omitempty" doc:"Of mode permits: how many are taken"`
	Holders          []Holder `json:"holders,omitempty" doc:"Oldest grant first, at most 100"`
	HoldersTotal     int      `json:"holders_total"`
	Queue            []Wait   `json:"queue,omitempty" doc:"First in line first, at most 100"`
	Waiting          int      `json:"waiting" doc:"How many stand in the queue"`
	DelayRemainingMs uint64   `json:"delay_remaining_ms,omitempty" doc:"After a holder was lost: nobody gets the lock for so long"`
}

// Holder is one grant of a lock.
type Holder struct {
	Session          string `json:"session"`
	Owner            string `json:"owner,omitempty"`
	Token            uint64 `json:"token"`
	Permits          uint64 `json:"permits,omitempty"`
	Count            uint64 `json:"count,omitempty" doc:"How often a reentrant owner holds it, when more than once"`
	HeldMs           uint64 `json:"held_ms"`
	LeaseRemainingMs uint64 `json:"lease_remaining_ms,omitempty" doc:"Known to the leader only"`
	Unclaimed        bool   `json:"unclaimed,omitempty" doc:"Granted to a wait whose owner has not been told yet"`
	Value            string `json:"value,omitempty"`
	RevokedInMs      uint64 `json:"revoked_in_ms,omitempty" doc:"It was asked to give the lock back, and loses it then"`
	RevokeReason     string `json:"revoke_reason,omitempty"`
}

// Wait is one place in a queue.
type Wait struct {
	Ticket      uint64   `json:"ticket"`
	Session     string   `json:"session"`
	Owner       string   `json:"owner,omitempty"`
	Mode        string   `json:"mode"`
	Permits     uint64   `json:"permits,omitempty"`
	Names       []string `json:"names,omitempty" doc:"All names of the ticket, when there are several"`
	RemainingMs uint64   `json:"remaining_ms"`
}

// Deadlocks lists circles of waits.
type Deadlocks struct {
	Index  uint64     `json:"index"`
	Cycles []Deadlock `json:"cycles" doc:"At most 100"`
	Cut    bool       `json:"cut,omitempty" doc:"There was more to look at than one answer may cost"`
}

// Deadlock is one circle; cancelling any of its tickets breaks it.
type Deadlock struct {
	Waits []WaitFor `json:"waits"`
}

// Page is common to collections.
type Page struct {
	Index  uint64 `json:"index" doc:"Revision of the state shown; a long poll waits for a newer one"`
	Cursor string `json:"cursor,omitempty" doc:"Where the next page begins; absent on the last"`
}
