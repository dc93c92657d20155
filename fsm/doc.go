// Package fsm is the replicated state of Quiesce: commands go in, results come out, and every replica that applies the same log ends in
// the same state.
//
// # Purpose
//
// One State holds sessions, locks, services and their instances, plans, mappings, the outbox and reconciliation passes, under one revision, one
// token counter and one cluster clock. Everything that must be decided once for the whole cluster is decided inside State.Apply.
//
// # Invariants
//
// They are checked by State.check after every apply in the tests of this package.
//
//	I1  Two replicas that applied the same entries have the same Digest: batched, one by one, or through a snapshot at any point.
//	    (TestState_SameDigestHoweverTheLogIsApplied)
//	I2  Cluster time, revision and the token counter never fall. (TestState_SameDigestHoweverTheLogIsApplied)
//	I3  A command that changed nothing leaves the revision alone; one that changed something adds one. (TestState_RevisionCountsChanges)
//	I4  The holders of a lock are compatible, their sessions are alive, and the tokens of successive grants rise. (checkLock)
//	I5  Nobody waits for what it could have: whatever frees a lock grants the next in the same entry. (checkLock)
//	I6  A stored idempotency key answers with the result that was stored first. (testdata/idempotency.txt)
//	I7  At the moment of a drain grant its service's budget holds, but for flagged overdrafts and for a shutdown that may leave nobody; and
//	    nobody waits whom it has room for. (checkGrant, checkServices)
//	I8  A pending event's token is the newest given for its key, and no key has two. (checkOutbox)
//	I9  At most one plan works on a service, it stops at the failures it was told to stop at, and its targets are what their instances
//	    are. (checkPlans)
//	I10 No cleanup runs while an instance of a service that declares an overlapping pattern lives. (checkCleanups)
//
// # Ownership
//
// A State belongs to one goroutine at a time; replica guards it with one lock. Values in the tables are immutable: a change stores a new
// value, so that a Clone, which copies no rows, can be read while the original moves on.
//
// # Time
//
// There is no clock here. Cluster time is what the entries say, and it never runs backwards. Deadlines fire at the first entry whose
// time has reached them, before that entry's own commands.
//
// # Failure
//
// A command is refused with a Code and changes nothing, or it is applied whole. An unknown command kind, a damaged entry or a broken
// invariant is not answerable: Decode and Restore return an error and the caller must halt, since guessing would make replicas differ.
//
// # Limits
//
// limits.go names every bound. What is full answers with a Code.
//
// # Not here
//
// Encoding of HTTP bodies (api, httpapi), leases that are renewed without the log (replica), and anything that reads MySQL or Redis.
package fsm
