// Package failover notices that a store was replaced or restarted, and sees to it that what was lost with it is delivered again.
//
// # Purpose
//
// A [Task] runs on the leader. Once in a while it asks every target and source that mappings name who it is. A Redis that is another one than before may have lost writes
// that it had acknowledged, together with the guards that protected them: old values are back, and nothing in them says so. A MySQL that is another one may lack commits
// that the cache has.
//
// For a target the task finds the last moment up to which everything surely lasted: from the server's own account of its disk before a restart, or from what the new primary had
// acknowledged as a replica. Rows whose keys were written since are enqueued again, if the leader remembers all of them. Else every mapping of the target is in doubt, which is
// written down, shown, and ended by a pass over the whole table that is started at once. The memory is an accelerator, the pass is the guarantee.
//
// For a source the task compares the histories (GTIDs). If the new server lacks what the old one had, or keeps no history, its mappings are in doubt.
//
// # Invariants
//
//   - Who a store is now is written down only together with, or after, what follows from it: a leader that dies in between leaves the old identity, and the next one
//     sees the change again, without a memory, and doubts. (TestTarget_LeaderThatDiesInBetweenLeavesTheNextOneInDoubt)
//   - Where it is not known what was lost, everything is in doubt. (TestTarget_WhatNobodyRememberedIsInDoubt)
//   - A server that only got or gave slots, or learned of other servers, has lost nothing. (TestJudge_MovedSlotsLoseNothing)
//   - A doubt ends with the pass that this task started for it, and with no other.
//   - What is only invalidated cannot be compared: its pass removes the keys of all rows. (TestDoubt_IsEndedByAPassThatFitsTheMapping)
//   - Where the mapping owns its prefix, the pass looks for keys without a row too: an old dump brings back keys of rows that are gone. It is held for an approval if there are any, and until then
//     the mapping stays in doubt. A pass that is held or paused is not followed by another one. (TestDoubt_IsEndedByAPassThatFitsTheMapping, TestDoubt_WaitsForAPassThatIsHeld)
//
// # Ownership
//
// Run owns one goroutine for each store of this node's configuration and one that starts passes, and joins them before it returns. Stores that no mapping names are asked, and not written down.
//
// # Time
//
// Moments of a server's own clock are translated by the local monotonic clock at which that clock was read; Slack is taken off for what lies between.
//
// # Failure
//
// A store that does not answer is asked again; nothing is concluded from silence. A log that does not answer leaves things as they were.
//
// # Limits
//
// Memory of PollsMax answers a store. A failover between two looks of which the old primary came back unnoticed is seen by the identity of its life.
//
// # Not here
//
// The pass (reconcile), the memory of what was written (outbox). Where a mapping does not say that its prefix is its own, a key whose row is gone, brought back by an old dump, stays until it expires.
package failover
