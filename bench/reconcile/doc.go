// Command reconcile measures passes: beside a loop that only reads what they read, with planted differences, under writes, beside an application that reads, and over
// tables of very different sizes.
//
// # Purpose
//
// Answer with figures that anybody can repeat. README.md beside the module has them, what each side of a ratio is, and what limits them.
//
// # Invariants
//
//   - Three real node processes with real data folders, a real MySQL and a real Redis (scripts/services.sh).
//   - Both sides of a ratio are measured next to each other in each round; a ratio is the median of the rounds' own. (bench.clean)
//   - A clean pass counts only if it saw every row, and called each equal. (world.pass)
//   - What was planted is known by number and class, and the cache is compared with the table by statements of this command afterwards, not by another pass. (bench.planted)
//   - What went wrong ends the part.
//
// # Ownership
//
// The servers are started once and shared by the parts, each of which starts a cluster of its own. All is ended and removed at the end, also after an interrupt.
//
// # Limits
//
// Every wait has a deadline. The largest table is made only where disk and memory have room for it.
//
// # Not here
//
// Whether passes are right in every case (package reconcile, cluster_test), the outbox (the command beside this one).
package main
