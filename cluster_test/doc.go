// Package cluster holds the promises of the whole product against real node processes, a real MySQL or MariaDB and a real Redis:
// what no test inside one process can show.
//
// # Purpose
//
// One file for each promise: departures (term_test.go), crashes (kill_test.go), paused leaders (pause_test.go), locks (lock_test.go),
// drains of applications (drain_test.go), idempotency (idempotency_test.go), restarts (restart_test.go), bad starts (start_test.go), synchronisation (sync_test.go),
// one order for all that clients were told of locks, under every fault (chaos_test.go), holders that were stopped (fence_test.go), restores (backup_test.go),
// leaders one after the other (failovers_test.go), steps of a clock (clock_test.go), the command line (cli_test.go), and the coordinator for
// tests beside the real one (conformance_test.go). What becomes of instances that are signalled, stopped, killed or cut off in each phase of
// their drain, with and without a leader, is in shutdown_*_test.go; everything restarted under load is in package rolling,
// every tier of synchronisation under kills and stops of everything in package syncchaos.
// The rules of imports are in layers_test.go, those of the replicated state machine in deterministic_test.go.
//
// # Invariants
//
// Tests know the product from outside: HTTP, signals, exit codes, logs, package client. A load that did nothing fails its test.
//
// # Time
//
// Waits are bounded by the harness. Bounds that belong to a promise (a write gap, a lease) are generous enough for a loaded machine with
// the race detector on; the figures themselves are logged.
//
// # Not here
//
// How nodes are run (harness), the servers beside them (services).
package cluster
