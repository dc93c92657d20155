// Command shutdown measures what stopping costs: the gap between acknowledged writes when the leader goes, how soon an instance hears of the
// grant that another one's return made possible, what keepalives cost, and how fast many cache keys are removed.
//
// # Purpose
//
// Answer with figures that anybody can repeat. README.md beside the module has them, and what limits each.
//
// # Invariants
//
//   - The nodes have their defaults and real data folders; every write is synced on a majority before it is acknowledged.
//   - What went wrong ends the run: a refused write, an instance that was lost, a key that is still there, a node that stopped without leaving.
//   - Both sides of a ratio are measured in turn, in the same run.
//
// # Ownership
//
// Each part starts a cluster of its own in a temporary folder, and ends it: what one part leaves behind does not cost the next one.
//
// # Limits
//
// Every wait has a deadline. A whole run takes about eleven minutes, five of which are the calm one.
//
// # Not here
//
// Faults other than a leader's end (cluster_test), locks (the command of the folder above).
package main
