package replica

import "github.com/quiescehq/quiesce/replica/store"

// Raft-level doors for tests that show what the bare library does.

// VerifyLeader is raft's own check.
func (r *Replica) VerifyLeader() error { return r.raft.VerifyLeader().Error() }

// RaftTerm is raft's current term.
func (r *Replica) RaftTerm() uint64 { return r.raft.CurrentTerm() }

// Append puts raw entries into the local log without waiting for anybody.
func (r *Replica) Append(data []byte) { r.raft.Apply(data, 0) }

// Snapshot takes a snapshot now.
func (r *Replica) Snapshot() error { return r.raft.Snapshot().Error() }

// HoldChange is a change of the membership that lasts until the returned function is called.
func (r *Replica) HoldChange() (end func()) {
	r.changing <- struct{}{}
	return func() { <-r.changing }
}

// ExportedOutcome is the translation of raft's errors.
var ExportedOutcome = outcome

// MarkRestoring leaves the folder as a crash in the middle of a restore does.
func (r *Replica) MarkRestoring(voters int) error {
	return r.stores.MarkRestoring(store.Restoring{Voters: voters})
}
