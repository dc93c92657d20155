package api

import "time"

// Audit is a page of what operators did, newest first. The last 10,000 acts are kept.
type Audit struct {
	Page
	Acts []Act `json:"acts"`
}

// Act is one of them.
type Act struct {
	ID      uint64    `json:"id"`
	At      time.Time `json:"at" doc:"By the clock of the node that took the request"`
	Action  string    `json:"action" doc:"Such as locks.force-release; locks.revoked is a revocation whose time was up"`
	Subject string    `json:"subject" doc:"Such as the name of the lock"`
	By      string    `json:"by,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Details []string  `json:"details,omitempty" doc:"Such as the sessions and tokens that lost a lock"`
	Index   uint64    `json:"index" doc:"Revision of the state"`
}
