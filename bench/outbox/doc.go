// Command outbox measures what the sync costs: how many events a second are accepted and delivered beside the bare parts that it is made of, how soon a commit is seen in
// the cache, what a million pending events weigh, and whether the application notices a cluster that cannot agree.
//
// # Purpose
//
// Answer with figures that anybody can repeat. README.md beside the module has them, what each side of a ratio is, and what limits them.
//
// # Invariants
//
//   - Three real node processes with real data folders, a real MySQL and a real Redis (scripts/services.sh). Every acknowledged event is synced on a majority.
//   - Both sides of a ratio are measured next to each other in each round; a ratio is the median of the rounds' own.
//   - A delivery counts only if the cache holds afterwards what the table holds, on both sides. (bench.verify)
//   - What went wrong ends the part: a refused call, a dead letter, a commit that never became visible.
//
// # Ownership
//
// The servers are started once and shared by the parts, each of which starts a cluster of its own. All is ended and removed at the end, also after an interrupt.
//
// # Limits
//
// Every wait has a deadline. A whole run takes less than ten minutes, a short one (-short) less than one.
//
// # Not here
//
// Whether the sync is right (cluster_test), passes (reconcile), locks and shutdown (the commands beside this one).
package main
