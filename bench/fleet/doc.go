// Package fleet plays many instances of a service, as cheaply as can be: they keep their leases, hear what the cluster wants of them, and go
// through a drain without having anything to drain.
//
// # Purpose
//
// What the cluster's side of instances costs, and how soon they hear of a grant, measured beside clients that take little of the machine:
// thousands of processes with package client would measure themselves.
//
// # Invariants
//
//   - An instance that is refused anything, or told that it is over, ends the measurement.
//   - A grant's latency is counted between the very event that freed the place and the instance that got it: both carry the revision of one
//     command. What cannot be paired is counted, not guessed. (Latencies)
//
// # Ownership
//
// A Fleet owns a goroutine for each instance, with a connection of its own, and joins them in Close.
//
// # Time
//
// The local monotonic clock: an event counts from when its request was first sent, a grant when the answer that tells of it was read.
//
// # Limits
//
// Three descriptors for each instance on the machine: here, at the node that it speaks to, and as a rule between that and the leader.
//
// # Not here
//
// Plans, and what is made of the figures: the command.
package fleet
