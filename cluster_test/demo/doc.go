// Demo runs Quiesce's main job from end to end and judges it: scripts/cluster.sh demo starts it beside a cluster of its own.
//
// # Purpose
//
// Three instances of examples/orders serve a steady load while everything that can stop is stopped: the instances one after another, one
// node in order, the leader by SIGKILL, Redis, MySQL. Then drift is planted in Redis by hand, found, repaired and looked for again. At the
// end the demo compares table, cache, ledger and nodes with its own eyes: it imports none of the packages that keep them equal.
//
// # Invariants
//
//   - A check compares two things that were learned in different ways, and fails when they differ. What cannot differ is a figure, not a check.
//   - A request is sent again only with the same request id. What counts as failed was not answered with success in the end.
//   - Only the report goes to stdout. The exit code is 0 if and only if every check passed and every phase ran to its end.
//
// # Ownership
//
// main owns the run. The fleet owns the processes of orders, load and direct their workers, the balancer its pollers; each is joined
// before main returns, also after a signal. Nodes and servers belong to scripts/cluster.sh.
//
// # Time
//
// Gaps and lags are measured on the local monotonic clock. Every wait polls for a condition and has a bound.
//
// # Failure
//
// The first phase that fails ends the run: the report says what it saw, and the ends of all logs go to stderr.
//
// # Limits
//
// Rates, workers and waits are constants at the top of the file that uses them.
//
// # Not here
//
// Faults at chosen moments and histories of many runs: the tests of cluster_test.
package main
