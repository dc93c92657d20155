// Package solo is the replicated state without a cluster: one process that agrees with itself.
//
// # Purpose
//
// Tasks that work on the replicated log (reconcile, relay, alert) need nothing else of a cluster. A [Log] gives them the same methods over one [fsm.State] in memory, so that they can
// run once from a command line, and in tests.
//
// # Invariants
//
//   - Commands go through the encoding of log entries: what a replica would refuse to read is refused here. (TestLog_CommandsPassThroughTheirEncoding)
//   - An operation is applied before Propose returns, and whoever watches a table that it changed is woken after. (TestLog_WakesWhoWatches)
//   - Cluster time never runs backwards. (TestLog_TimeIsTheProcesssAndOnlyGoesForward)
//
// # Ownership
//
// A Log is a lock around a state. It has no goroutine and nothing to close; it may be used from any goroutine.
//
// # Time
//
// Cluster time is the time since New on the monotonic clock, after an offset, plus what Advance added.
//
// # Failure
//
// There is none of its own: what is not applied was refused by the state, or by the caller's own Intercept.
//
// # Limits
//
// Those of the state.
//
// # Not here
//
// Leadership, terms, persistence, leases: a Log is always the leader, in term 1, and forgets everything with its process.
package solo
