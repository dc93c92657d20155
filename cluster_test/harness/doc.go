// Package harness runs clusters of real quiesce-node processes for tests, and does to them what operators, kernels and power cuts do.
//
// # Purpose
//
// A test calls [Start] and gets a cluster of nodes that are ready. It signals, kills, pauses, wipes and starts them, asks them over HTTP
// as any client would, and reads what they logged. Nothing of the product is linked in but its wire types.
//
// # Invariants
//
//	H1  No process outlives its test: it is killed in the cleanup, and by the kernel where the test binary dies first (Linux).
//	H2  Every wait is bounded, and says at its end what was missing.
//	H3  A node that the race detector complains about fails the test.
//	H4  A request of a [Caller] is repeated only under the idempotency key of its first attempt.
//
// # Ownership
//
// Each running process has one goroutine that waits for it; the cleanup of Start joins it. Methods of Node and Cluster end the test when
// they fail, so they belong on its own goroutine; those that return an error may be called from any.
//
// # Failure
//
// When a test fails, the last lines of each node's log are printed.
//
// # Limits
//
// Addresses are below the range from which systems take the ports of outgoing connections, so that a node finds its port free when it
// starts again.
//
// # Not here
//
// MySQL and Redis (package services), expectations of any single promise.
package harness
