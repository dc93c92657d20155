// Package rolling restarts everything that there is, over and over, under a load whose every request is accounted for.
//
// # Purpose
//
// [Run] starts three nodes, three instances of examples/orders as processes, a balancer that polls their readiness, and clients that send
// POST requests over kept-alive connections, each of which leaves one row in a ledger. A round restarts all instances by a plan, in the way
// of a platform that starts anew what has exited, and then all nodes, one by one by SIGTERM. [Lives] and [Overspent] judge by the log
// whether the budget of a service was kept, also for other tests.
//
// # Invariants
//
//	R1  A run says nothing good unless in the same run a server that stops in the naive way loses requests before the same balancer and clients.
//	R2  Every request is accounted for: answered, and then in the ledger once, or counted as failed.
//	R3  The budget is judged twice: by samples while it happens, and by the histories of all instances afterwards.
//
// # Ownership
//
// Run joins its clients, sampler and balancer. Processes belong to the test, whose cleanup ends them.
//
// # Time
//
// Histories are read from a follower between two entries, when its cluster time stands still: then the ages of all moments count from one
// moment. A round is some ten seconds.
//
// # Failure
//
// Everything wrong is told to the test and counted in the report.
//
// # Not here
//
// What is done in each phase of a drain (the tests of package client), single faults (cluster_test), the cache (package demo).
package rolling
