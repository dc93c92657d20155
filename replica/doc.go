// Package replica keeps the replicated state: it owns hashicorp/raft, puts commands into its log and gives reads their meaning.
//
// # Purpose
//
// Propose turns commands into log entries (many callers' commands share one entry) and answers with one of three outcomes: results,
// surely not applied, unknown. Read and Keepalive answer only while a majority of the voters still stands behind this leader. Leader tasks
// run where and while this node leads. Nodes form a cluster, join it and leave it here.
//
// # Invariants
//
//	R1  A result is returned only after its entry was committed and applied here.
//	R2  ErrNotApplied is returned only for commands that no log holds and none will. (TestPropose_FullDiskAnswersUnknownNeverNotApplied)
//	R3  Read returns only after a round, begun after the call, in which a majority of the voters answered this leader's term.
//	    (TestRead_DeposedLeaderAnswersNothing, with raft's VerifyLeader as the negative control)
//	R4  A session whose keepalive was acknowledged is not expired before its TTL has passed since that keepalive was sent.
//	    (TestLease_ExpireInFlightAgainstAcknowledgedKeepalive)
//	R5  Until TermStart of its term is applied a leader proposes nothing else, answers no keepalive and starts no task.
//	R6  A node that was never formed or joined answers no vote; a cluster is formed once, by all expected nodes together.
//	    (TestForm_RemovedNodeAndWipedPeerDoNotElect)
//	R7  A node is removed only if the healthy voters that remain are a quorum of what remains, and at least MinVoters.
//	R8  A restored state is served once a majority has it, gives no token twice, and ends the node that has it when the others lack it.
//	    (TestRestore_UnderLoadGivesNoTokenTwice, TestRestore_LeaderCutOffInTheMiddleNeverServesWhatOthersLack)
//
// # Ownership
//
// Run owns every goroutine: the proposer, the follower's duties, and for each term the leader's: rounds, expiry, ticks, promotion and
// tasks, all joined before the next term. The one exception waits for a raft future, which raft gives no way to abandon; there are at most
// Config.InFlight of them. State is guarded by machine.mu: raft's FSM goroutine writes, View reads.
//
// # Time
//
// The only clock of the replicated path is here. A leader's cluster time is the state's time at its TermStart plus the monotonic time
// since; entries carry it, and a state never goes back. While there is no leader it stands still: every deadline comes late, never early.
//
// # Failure
//
// An error of a store, an entry that cannot be decoded, a snapshot that raft installs again and again: OnFatal, which must end the process.
// Whatever was under way then has an unknown outcome. A lost leadership ends the leader's goroutines and answers waiting callers.
//
// # Limits
//
// limits in config.go: queue, batch, waits. A full queue is ErrBusy, which is also ErrNotApplied.
//
// # Not here
//
// What commands mean (fsm), bytes on the wire (transport), bytes on disk (replica/store), HTTP (httpapi).
package replica
